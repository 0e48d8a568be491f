//! Times how long the engine leaves its queue alone while it admits a plan of 100,000 tasks with 1,000,000 inputs: so long heartbeats,
//! reports and watchers wait.
//!
//! Prints a line: name, our figure, the goal, the largest ratio that is promised.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing benchmark")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark talks to the person that started it"
)]

use cas::MemoryStore;
use coordinator::config::BuildLimits;
use coordinator::engine::{self, Engine, EngineHandle, Parts};
use coordinator::journal;
use coordinator::knowledge::Knowledge;
use coordinator::plans::{Plans, Snapshots as _};
use coordinator::pull::Puller;
use model::{
    ContentId, InputDerivation, Kind, LeaseId, Output, PlanId, Requirement, StorePath, System, TaskSpec,
    TrustDomain,
};
use node::testing::Authority;
use node::tls::Role;
use scheduler::{NewPlan, Root, Settings};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

const TASKS: usize = 100_000;
const INPUTS: usize = 10;
const SETTINGS: Settings = Settings {
    heartbeat_interval_ms: 1_000,
    eviction_after_ms: 12_000,
    attempts_max: 3,
    first_lease: LeaseId(1),
    restart_grace_ms: 0,
    set_aside_ms: 60_000,
    speculates: true,
};

#[tokio::main]
async fn main() {
    let directory = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (journal, thread, _) = journal::open(directory.path()).unwrap();
    let (knowledge, store) = (Arc::<Knowledge>::default(), Arc::new(MemoryStore::default()));
    let files = Authority::new(directory.path()).unwrap().issue(Role::Coordinator, "c").unwrap();
    let (ended, _pulls) = mpsc::channel(1);
    let (handle, commands) = engine::channel();
    let core = Engine::new(Parts {
        journal,
        knowledge: knowledge.clone(),
        store: store.clone(),
        plans: Plans::new(1),
        puller: Puller::new(knowledge, store, files, ended),
        settings: SETTINGS,
        limits: BuildLimits::default(),
        abandoned_after: Duration::from_secs(3_600),
    });
    let running = node::task::spawn("engine", core.run(commands));
    let (stop, stopped) = oneshot::channel();
    let asking = node::task::spawn("ask", ask(handle.clone(), stopped));
    let plan = plan();
    let begin = Instant::now();
    let counts = handle.admit(plan, "board").await.unwrap();
    let admitted = begin.elapsed();
    // What it does for the plan once that was answered.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _ = stop.send(());
    let longest = asking.await.unwrap();
    assert_eq!(counts.tasks_total, u32::try_from(TASKS).unwrap());
    println!(
        "the longest wait for an answer while a plan of 100,000 tasks is admitted (peer: the goal)\t{}\t0.05\t1",
        longest.as_secs_f64()
    );
    eprintln!("admitted by the engine in {admitted:.2?}");
    drop(handle);
    running.await.unwrap().unwrap();
    thread.join();
}

/// Asks the engine something that takes it no time, again and again; gives the longest time for an answer.
async fn ask(engine: EngineHandle, mut stopped: oneshot::Receiver<()>) -> Duration {
    let mut longest = Duration::ZERO;
    while stopped.try_recv().is_err() {
        let asked = Instant::now();
        assert!(engine.snapshot(PlanId([9; 16])).await.is_none());
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    longest
}

fn id(number: usize, extension: &str) -> ContentId {
    let path = format!("/nix/store/{number:032}-package-with-a-name-1.2.{number}{extension}");
    ContentId { domain: TrustDomain::Shared, path: StorePath::from_validated(&path) }
}

/// Each task on ten of the last hundred before it, as wide as large graphs are.
fn plan() -> NewPlan {
    let ids: Vec<ContentId> = (0..TASKS).map(|number| id(number, ".drv")).collect();
    let spec = |number: usize| {
        let below = (1..=INPUTS).filter_map(|step| number.checked_sub(step * step));
        let input = |input: usize| InputDerivation { task: ids[input].clone(), outputs: vec!["out".into()] };
        TaskSpec {
            id: ids[number].clone(),
            name: format!("package-with-a-name-1.2.{number}"),
            kind: Kind::Build,
            requirement: Requirement {
                system: System("x86_64-linux".into()),
                target: None,
                features: Vec::new(),
            },
            outputs: vec![Output { name: "out".into(), path: id(number, "").path }],
            input_derivations: below.map(input).collect(),
            input_sources: Vec::new(),
            needs_resolution: false,
            is_fixed_output: false,
        }
    };
    NewPlan {
        id: PlanId([1; 16]),
        tasks: (0..TASKS).map(spec).collect(),
        roots: vec![Root { task: ids[TASKS - 1].clone(), outputs: vec!["out".into()] }],
        contents: Vec::new(),
        bindings: Vec::new(),
        failed: Vec::new(),
    }
}
