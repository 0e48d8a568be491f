//! Times what the coordinator does with a large plan before anything is built: all derivations received, parsed, verified by hash
//! modulo from below, journalled.
//!
//! Prints a line: name, our median, the goal, the largest ratio that is promised.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing benchmark")]
#![expect(clippy::print_stdout, reason = "a benchmark talks to the person that started it")]

#[path = "../tests/content/cluster.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod cluster;
#[path = "../tests/content/graph.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod graph;
#[path = "../tests/content/scripted.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod scripted;

use graph::{Drv, drv};
use std::time::Instant;

/// As in the plan of a small NixOS system.
const DERIVATIONS: usize = 5000;
const INPUTS: usize = 12;
const RUNS: usize = 5;
const GOAL_S: f64 = 1.0;

#[tokio::main]
async fn main() {
    let mut times: Vec<f64> = Vec::new();
    for run in 0..RUNS {
        // Each on some of the last before it: as deep as real graphs.
        let mut all: Vec<Drv> = Vec::new();
        for number in 0..DERIVATIONS {
            let first = number.saturating_sub(40);
            let inputs: Vec<&Drv> = all[first..].iter().rev().step_by(3).take(INPUTS).collect();
            let made = drv(&format!("package-{run}-{number}"), &inputs, &[]);
            all.push(made);
        }
        let cluster = cluster::Cluster::start().await;
        let mut board = scripted::Board::new(&cluster, "a").await.with(&all.iter().collect::<Vec<_>>(), &[]);
        let root = &all.last().unwrap().path;
        let started = Instant::now();
        let admitted = board.submit(root).await.unwrap();
        times.push(started.elapsed().as_secs_f64());
        assert!(admitted.tasks_total > 4500, "{} tasks", admitted.tasks_total);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "a plan of 5,000 derivations sent, verified, journalled (peer: the goal)\t{}\t{GOAL_S}\t1",
        times[RUNS / 2]
    );
}
