//! Replays recorded graphs in virtual time: the scheduler as it is against simpler policies, and against what nobody could beat.
//!
//! One line a policy: its name, the makespan, the lower bound for what it built, their ratio.
#![expect(clippy::print_stdout, reason = "its table is for whoever started it")]
mod bound;
mod graph;
mod heft;
mod list;
mod ours;
mod scenario;
mod world;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use graph::Graph;
use list::Policy;
use scenario::{Name, Run};

/// Replays a recorded graph of derivations in virtual time
#[derive(Parser)]
struct Arguments {
    /// Hosts and plans
    #[arg(long, value_enum)]
    scenario: Name,
    /// Directory with drvs.tar.zst, and roots.txt or steps.tsv
    #[arg(long)]
    graph: PathBuf,
    /// Table of costs: drv, kind, native_s, emulated_x, peak_mb, out_bytes, past_s
    #[arg(long)]
    durations: PathBuf,
    /// Nothing was measured before
    #[arg(long)]
    no_history: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let graph = Graph::read(&arguments.graph, &arguments.durations, !arguments.no_history)?;
    let runs = scenario::runs(arguments.scenario, &graph)?;
    println!("{:<44} {:>12} {:>12} {:>7}", "policy", "makespan s", "bound s", "ratio");
    let print = |name: &str, (makespan_s, bound_s): (f64, f64)| {
        println!("{name:<44} {makespan_s:>12.1} {bound_s:>12.1} {:>7.3}", makespan_s / bound_s);
    };
    print("elsewhere", sum(&graph, &runs, |run| ours::makespan_s(&graph, run))?);
    let known = |run: &Run| {
        let (_, built) = ours::makespan_s(&graph, run)?;
        Ok((heft::makespan_s(&graph, run, &built), built))
    };
    print("HEFT, all known", sum(&graph, &runs, known)?);
    for policy in Policy::ALL {
        print(policy.name(), sum(&graph, &runs, |run| list::makespan_s(&graph, run, policy))?);
    }
    Ok(())
}

/// Makespan and bound of all runs together.
fn sum(
    graph: &Graph,
    runs: &[Run],
    of: impl Fn(&Run) -> Result<(f64, BTreeSet<usize>)>,
) -> Result<(f64, f64)> {
    let mut sums = (0.0, 0.0);
    for run in runs {
        let (makespan_s, built) = of(run)?;
        sums.0 += makespan_s;
        sums.1 += bound::bound_s(graph, run, &built);
    }
    Ok(sums)
}
