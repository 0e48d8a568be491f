//! Times the core alone: admission of a plan of 100,000 tasks with 1,000,000 inputs, events that follow, memory that it takes.
//!
//! Prints a line each: name, our figure, the goal, the largest ratio that is promised.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing benchmark")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark talks to the person that started it"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use cap::Cap;
use common::*;
use model::{BootId, TaskSpec};
use scheduler::{Effect, Event, Grant, NewPlan, PlanPart, Root, State, Timestamp, apply};
use std::alloc::System;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const TASKS: usize = 100_000;
const INPUTS: usize = 10;
const EXECUTORS: usize = 50;
const SLOTS: u32 = 16;
/// Tasks that come in one part.
const PART: usize = 1_000;
/// Events are told in so many milliseconds of virtual time.
const EVENTS_PER_MS: u64 = 20;

/// Counts the bytes that were asked for and are not given back.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

fn main() {
    let mut cluster = Cluster::new();
    let before = ALLOCATOR.allocated();
    let (tasks, last) = plan();
    let (mut admitted, mut longest) = (Duration::ZERO, Duration::ZERO);
    let mut leases = Vec::new();
    let mut tasks = tasks.into_iter();
    let part = |tasks: Vec<TaskSpec>| PlanPart { id: plan_id(1), tasks, contents: vec![], bindings: vec![] };
    let parts = std::iter::from_fn(|| {
        Some(tasks.by_ref().take(PART).collect()).filter(|part: &Vec<_>| !part.is_empty())
    });
    let events =
        parts.map(|tasks| Event::PlanArrives(part(tasks))).chain([Event::PlanAdmitted(last), Event::Tick]);
    for event in events {
        let begin = Instant::now();
        // The specification is dropped with the event: what is left is the core's.
        let effects = cluster.tell(event);
        let took = begin.elapsed();
        (admitted, longest) = (admitted + took, longest.max(took));
        leases.extend(grants(&effects));
    }
    drop(tasks);
    let kept = ALLOCATOR.allocated() - before;
    println!(
        "a plan of 100,000 tasks and 1,000,000 inputs admitted (peer: the goal)\t{}\t1\t1",
        admitted.as_secs_f64()
    );
    println!("the longest part of that (peer: the goal)\t{}\t0.05\t1", longest.as_secs_f64());
    println!("kB that the core keeps for each task (peer: the goal)\t{}\t1\t1", kb_per_task(kept));
    let begin = Instant::now();
    let events = cluster.build_all(leases);
    let each_s = begin.elapsed().as_secs_f64() / f64::from(u32::try_from(events).unwrap());
    println!(
        "one event of that plan, of {events} (peer: a thousand a second, ten each)\t{each_s}\t0.0001\t1"
    );
}

fn kb_per_task(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes).unwrap()) / f64::from(u32::try_from(TASKS).unwrap()) / 1000.0
}

/// All tasks, and what comes after them.
fn plan() -> (Vec<TaskSpec>, NewPlan) {
    let tasks = tasks();
    let last = NewPlan {
        id: plan_id(1),
        roots: vec![Root { task: tasks[TASKS - 1].id.clone(), outputs: vec!["out".into()] }],
        tasks: vec![],
        contents: vec![],
        bindings: vec![],
        failed: vec![],
    };
    (tasks, last)
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
    fn build_all(&mut self, leases: Vec<Grant>) -> u64 {
        let first = self.events;
        let mut leases: VecDeque<Grant> = leases.into();
        let mut is_finished = false;
        let mut kept_most = 0;
        while let Some(lease) = leases.pop_front() {
            let outcome = built(&[("out", &task_name(&lease.task), &[])]);
            let (executor, task) = (lease.executor.clone(), lease.task.clone());
            let effects = self.tell(Event::LeaseReported { executor, lease: lease.lease, task, outcome });
            leases.extend(grants(&effects));
            let running = leases.iter().filter(|other| other.executor == lease.executor);
            let running = running.map(|other| other.lease).collect();
            let effects = self.tell(Event::Heartbeat { executor: lease.executor, running, is_full: false });
            leases.extend(grants(&effects));
            for name in pulls(&effects) {
                let effects = self.tell(Event::Stored(content(&name)));
                is_finished |= finished(&effects, 1).is_some();
            }
            if leases.is_empty() {
                let effects = self.tell(Event::Tick);
                leases.extend(grants(&effects));
            }
            kept_most = kept_most.max(ALLOCATOR.allocated());
        }
        assert!(is_finished || self.state.snapshot(plan_id(1)).is_some(), "the plan ended");
        eprintln!("{} kB a task when most was kept", kb_per_task(kept_most));
        self.events - first
    }
}
