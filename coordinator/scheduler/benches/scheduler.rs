//! Times the core alone: admission of a plan of 100,000 tasks with 1,000,000 inputs, events that follow, memory that it takes.
//!
//! Prints a line each: name, our figure, the goal, the largest ratio that is promised.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing benchmark")]
#![expect(clippy::print_stdout, reason = "a benchmark talks to the person that started it")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::*;
use model::{BootId, TaskSpec};
use scheduler::{Effect, Event, Grant, NewPlan, Root, State, Timestamp, apply};
use std::collections::VecDeque;
use std::time::Instant;

const TASKS: usize = 100_000;
const INPUTS: usize = 10;
const EXECUTORS: usize = 50;
const SLOTS: u32 = 16;
/// Events are told in so many milliseconds of virtual time.
const EVENTS_PER_MS: u64 = 20;

fn main() {
    let tasks = tasks();
    let mut cluster = Cluster::new();
    let plan = NewPlan {
        id: plan_id(1),
        roots: vec![Root { task: tasks[TASKS - 1].id.clone(), outputs: vec!["out".into()] }],
        tasks,
        contents: vec![],
        bindings: vec![],
        failed: vec![],
    };
    let before_kb = resident_kb();
    let begin = Instant::now();
    // The specification is dropped with the event: what is left is the core's.
    let effects = cluster.tell(Event::PlanAdmitted(plan));
    let admitted_s = begin.elapsed().as_secs_f64();
    let kept_kb = resident_kb().saturating_sub(before_kb);
    println!("a plan of 100,000 tasks and 1,000,000 inputs admitted (peer: the goal)\t{admitted_s}\t1\t1");
    let kb_per_task = f64::from(u32::try_from(kept_kb).unwrap()) / f64::from(u32::try_from(TASKS).unwrap());
    println!(
        "kB of memory that admission took for each task, effects included (peer: the goal)\t{kb_per_task}\t1\t1"
    );
    let begin = Instant::now();
    let events = cluster.build_all(effects);
    let each_s = begin.elapsed().as_secs_f64() / f64::from(u32::try_from(events).unwrap());
    println!(
        "one event of that plan, of {events} (peer: a thousand a second, ten each)\t{each_s}\t0.0001\t1"
    );
}

/// Each on the ten of the last hundred before it, as wide as large graphs are.
fn tasks() -> Vec<TaskSpec> {
    let name = |number: usize| format!("package-with-a-name-{number:06}");
    let spec = |number: usize| {
        let below = (1..=INPUTS).filter_map(|step| number.checked_sub(step * step));
        let inputs: Vec<String> = below.map(name).collect();
        task(&name(number), &inputs.iter().map(String::as_str).collect::<Vec<_>>())
    };
    (0..TASKS).map(spec).collect()
}

struct Cluster {
    state: State,
    events: u64,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self { state: State::new(SETTINGS), events: 0 };
        for executor in 0..EXECUTORS {
            cluster.tell(Event::ExecutorConnected {
                executor: name(&format!("executor-{executor:02}")),
                boot: BootId([1; 16]),
                capability: capability(SLOTS, &[native()]),
                running: vec![],
            });
        }
        cluster
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.events += 1;
        apply(&mut self.state, event, Timestamp(self.events / EVENTS_PER_MS))
    }

    /// Ends leases in the order in which they were given, with heartbeats in between; gives the number of events.
    fn build_all(&mut self, effects: Vec<Effect>) -> u64 {
        let first = self.events;
        let mut leases: VecDeque<Grant> = grants(&effects).into();
        let mut is_finished = false;
        while let Some(lease) = leases.pop_front() {
            let outcome = built(&[("out", &task_name(&lease.task), &[])]);
            let (executor, task) = (lease.executor.clone(), lease.task.clone());
            let effects = self.tell(Event::LeaseReported { executor, lease: lease.lease, task, outcome });
            leases.extend(grants(&effects));
            let running = leases.iter().filter(|other| other.executor == lease.executor);
            let running = running.map(|other| other.lease).collect();
            let effects = self.tell(Event::Heartbeat { executor: lease.executor, running });
            leases.extend(grants(&effects));
            for name in pulls(&effects) {
                let effects = self.tell(Event::Stored(content(&name)));
                is_finished |= finished(&effects, 1).is_some();
            }
            if leases.is_empty() {
                let effects = self.tell(Event::Tick);
                leases.extend(grants(&effects));
            }
        }
        assert!(is_finished || self.state.snapshot(plan_id(1)).is_some(), "the plan ended");
        self.events - first
    }
}

/// Memory of this process, in kB.
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
