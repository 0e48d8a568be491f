//! Times how long a coordinator reads its journal when it starts, with a million facts in it.
//!
//! Prints a line: name, our median, the goal, the largest ratio that is promised.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing benchmark")]
#![expect(clippy::print_stdout, reason = "a benchmark talks to the person that started it")]

use coordinator::journal::{self, Entry};
use model::{ContentId, ExecutorName, PathFacts, StorePath, TaskId, TrustDomain};
use scheduler::{Fact, Holder, Measurement, Settled, SettledOutput};
use std::time::Instant;

/// Tasks that were built: each leaves the facts that it is settled, held twice, and measured.
const TASKS: usize = 250_000;
const BATCH_TASKS: usize = 2_500;
const RUNS: usize = 3;
const GOAL_S: f64 = 5.0;

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, thread, _) = journal::open(directory.path()).unwrap();
    for first in (0..TASKS).step_by(BATCH_TASKS) {
        journal.append((first..first + BATCH_TASKS).flat_map(facts).collect()).await.unwrap();
    }
    drop(journal);
    thread.join();
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        let (journal, thread, recorded) = journal::open(directory.path()).unwrap();
        times.push(started.elapsed().as_secs_f64());
        assert_eq!((recorded.contents.len(), recorded.holders.len()), (TASKS, 2 * TASKS));
        drop(journal);
        thread.join();
    }
    times.sort_by(f64::total_cmp);
    println!("a journal of 1,000,000 facts read (peer: the goal)\t{}\t{GOAL_S}\t1", times[RUNS / 2]);
}

fn id(number: usize, extension: &str) -> ContentId {
    let path = format!("/nix/store/{number:032}-package-with-a-name-1.2.{number}{extension}");
    ContentId { domain: TrustDomain::Shared, path: StorePath::from_validated(&path) }
}

fn facts(number: usize) -> Vec<Entry> {
    let (task, output): (TaskId, ContentId) = (id(number, ".drv"), id(number, ""));
    let references: Vec<ContentId> =
        (1..=5).filter_map(|back| Some(id(number.checked_sub(back)?, ""))).collect();
    let mut nar_sha256 = [7; 32];
    nar_sha256[..8].copy_from_slice(&number.to_le_bytes());
    let facts = PathFacts {
        nar_sha256,
        nar_size: 1_000_000,
        references: references.iter().map(|reference| reference.path.clone()).collect(),
        deriver: Some(task.path.clone()),
        content_address: None,
    };
    let executor = ExecutorName("executor-1".into());
    let outputs = vec![SettledOutput { name: "out".into(), id: output.clone(), facts, references }];
    let measured = Measurement {
        derivation: task.path.clone(),
        name: format!("package-with-a-name-1.2.{number}"),
        kind: model::Kind::Build,
        is_emulated: true,
        work_ms: 25_000,
        memory_bytes: 64 << 20,
    };
    let all = [
        Fact::TaskSettled { task, settled: Settled::Built { executor: executor.clone(), outputs } },
        Fact::Held(output.clone(), Holder::Executor(executor)),
        Fact::Held(output, Holder::ContentStore),
        Fact::Measured(measured),
    ];
    all.into_iter().map(Entry::Fact).collect()
}
