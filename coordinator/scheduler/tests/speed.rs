//! Plans of many tasks: admission and scheduling grow with the plan, not with its square.
#![expect(clippy::print_stderr, reason = "figures for whoever asks with --nocapture")]
mod common;

use common::*;
use model::{BootId, TaskSpec};
use scheduler::{Effect, Event, Grant, KnownContent, NewPlan, Root, State, Timestamp, apply};
use std::time::{Duration, Instant};

const TASKS: usize = 24_000;

fn named(number: usize) -> String {
    format!("t{number:06}")
}

/// Tasks that need `inputs_of` others, given their number.
fn graph(number: usize, inputs_of: impl Fn(usize) -> Vec<usize>) -> Vec<TaskSpec> {
    let spec = |task_number: usize| {
        let inputs: Vec<String> = inputs_of(task_number).into_iter().map(named).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let sources = vec![content(&format!("source-{}", task_number % 1_000))];
        TaskSpec { input_sources: sources, ..task(&named(task_number), &inputs) }
    };
    (0..number).map(spec).collect()
}

/// Admits a graph, builds all of it, pulls its root; gives the time of admission and the whole time.
fn run(tasks: &[TaskSpec]) -> (Duration, Duration) {
    let mut state = State::new(SETTINGS);
    let mut now_ms = 0;
    let mut send = |event| {
        now_ms += 1;
        apply(&mut state, event, Timestamp(now_ms))
    };
    let connect = |executor: usize, send: &mut dyn FnMut(Event) -> Vec<Effect>| {
        let executor = name(&format!("x{executor:02}"));
        let capability = capability(16, &[native()]);
        send(Event::ExecutorConnected { executor, boot: BootId([1; 16]), capability, running: vec![] })
    };
    for executor in 0..20 {
        connect(executor, &mut send);
    }
    let sources = (0..1_000).map(|source| format!("source-{source}"));
    let contents: Vec<KnownContent> =
        sources.map(|source| known(&source, &[], &[scheduler::Holder::ContentStore])).collect();
    let root = Root { task: tasks[tasks.len() - 1].id.clone(), outputs: vec!["out".into()] };
    let plan = NewPlan {
        id: plan_id(1),
        tasks: tasks.to_vec(),
        roots: vec![root],
        contents,
        bindings: vec![],
        failed: vec![],
    };
    let begin = Instant::now();
    let mut effects = send(Event::PlanAdmitted(plan));
    // What is large is placed with the next event.
    effects.extend(send(Event::Tick));
    let admitted = begin.elapsed();
    let mut leases: std::collections::VecDeque<Grant> = grants(&effects).into();
    let mut is_finished = finished(&effects, 1).is_some();
    while let Some(lease) = leases.pop_front() {
        let built = built(&[("out", &task_name(&lease.task), &[])]);
        effects = send(Event::LeaseReported {
            executor: lease.executor.clone(),
            lease: lease.lease,
            task: lease.task.clone(),
            outcome: built,
        });
        leases.extend(grants(&effects));
        let mut pulled = pulls(&effects);
        while let Some(name) = pulled.pop() {
            effects = send(Event::Stored(content(&name)));
            is_finished |= finished(&effects, 1).is_some();
            pulled.extend(pulls(&effects));
        }
    }
    assert!(is_finished);
    (admitted, begin.elapsed())
}

fn check(name: &str, inputs_of: impl Fn(usize) -> Vec<usize>) {
    let (_, small) = run(&graph(TASKS / 8, &inputs_of));
    let (admitted, whole) = run(&graph(TASKS, &inputs_of));
    eprintln!("{name}: {TASKS} tasks admitted in {admitted:?}, done in {whole:?}; an eighth in {small:?}");
    // Eight times as many: 64 times as long if it were quadratic.
    assert!(whole < small * 40, "{name}: {small:?} for an eighth, {whole:?} for all");
    assert!(admitted < Duration::from_secs(10), "{name}: admitted in {admitted:?}");
}

#[test]
fn a_chain() {
    check("a chain", |task| task.checked_sub(1).into_iter().collect());
}

#[test]
fn a_tree_whose_tasks_all_need_the_first_one() {
    check("a tree", |task| {
        let below = [task / 2, task.saturating_sub(1), task.saturating_sub(7)];
        let mut inputs: Vec<usize> = below.into_iter().chain([0]).filter(|input| *input < task).collect();
        inputs.dedup();
        inputs
    });
}

#[test]
fn a_fan_whose_last_task_needs_all() {
    check("a fan", |task| match task % 3_000 {
        2_999 => (task - 2_999..task).chain(task.checked_sub(3_000)).collect(),
        _ => vec![],
    });
}
