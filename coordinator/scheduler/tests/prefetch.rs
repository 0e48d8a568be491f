//! Prefetch: who is told what it may fetch before it gets a lease for it.
use crate::common::*;
use model::TaskSpec;
use scheduler::{Effect, Event, Holder, LeaseKey};

const STORE: Holder = Holder::ContentStore;

/// Who may fetch what, in the order in which they are told.
fn hints(effects: &[Effect]) -> Vec<(String, Vec<String>)> {
    let hint = |effect: &Effect| match effect {
        Effect::Prefetch { executor, inputs, .. } => {
            Some((executor.to_string(), inputs.iter().map(|input| short(&input.id.path)).collect()))
        }
        _ => None,
    };
    effects.iter().filter_map(hint).collect()
}

fn reading(name: &str, sources: &[&str]) -> TaskSpec {
    TaskSpec { input_sources: sources.iter().map(|source| content(source)).collect(), ..task(name, &[]) }
}

/// One slot that builds `a`, the longest way to a root; `b` comes next and reads `sources`.
fn busy(sources: &[&str]) -> (Core, LeaseKey) {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let tasks = [task("a", &[]), task("after-a", &["a"]), reading("b", sources)];
    let known: Vec<_> = sources.iter().map(|source| known(source, &[], &[STORE])).collect();
    let lease = grant(&core.admit(1, &tasks, &["after-a", "b"], &known));
    assert_eq!(task_name(&lease.task), "a");
    (core, lease.lease)
}

fn told(executor: &str, inputs: &[&str]) -> (String, Vec<String>) {
    (executor.into(), inputs.iter().map(|input| (*input).into()).collect())
}

#[test]
fn who_is_busy_is_told_once_what_the_next_task_lacks() {
    let (mut core, lease) = busy(&["large-1", "small", "large-2"]);
    let effects = core.pass(1_000, &[("x1", &[lease])]);
    assert_eq!(hints(&effects), [told("x1", &["large-1", "small", "large-2"])]);
    let Some(Effect::Prefetch { inputs, .. }) =
        effects.iter().find(|effect| matches!(effect, Effect::Prefetch { .. }))
    else {
        unreachable!()
    };
    assert_eq!(inputs[0].holders, [STORE]);
    assert_eq!(hints(&core.pass(5_000, &[("x1", &[lease])])), []);
    // A new connection may have lost the word.
    core.apply(Event::ExecutorDisconnected(name("x1")));
    let native = [native()];
    core.connect_running("x1", 1, 1, &native, &[]);
    let running = core.states(1)["a"];
    assert_eq!(running, scheduler::TaskState::Running);
    assert_eq!(hints(&core.pass(1_000, &[("x1", &[lease])])), [told("x1", &["large-1", "small", "large-2"])]);
}

#[test]
fn what_is_there_or_small_is_not_told() {
    let (mut core, lease) = busy(&["small"]);
    assert_eq!(hints(&core.pass(1_000, &[("x1", &[lease])])), []);
    let (mut core, lease) = busy(&["large-1", "large-2"]);
    core.holds("x1", &[known("large-1", &[], &[])]);
    assert_eq!(hints(&core.pass(1_000, &[("x1", &[lease])])), [told("x1", &["large-2"])]);
    let (mut core, lease) = busy(&["large-1"]);
    core.holds("x1", &[known("large-1", &[], &[])]);
    assert_eq!(hints(&core.pass(1_000, &[("x1", &[lease])])), []);
}

#[test]
fn each_slot_has_one_task_that_comes_next() {
    let mut core = Core::new();
    core.connect("x1", 2, &[native()]);
    let names = ["a", "b", "c", "d", "e"];
    let sources = names.map(|name| format!("large-{name}"));
    let tasks: Vec<_> = names.iter().zip(&sources).map(|(name, source)| reading(name, &[source])).collect();
    let known: Vec<_> = sources.iter().map(|source| known(source, &[], &[STORE])).collect();
    let effects = core.admit(1, &tasks, &names, &known);
    let leases: Vec<_> = grants(&effects).iter().map(|grant| grant.lease).collect();
    assert_eq!(granted(&effects).len(), 2);
    let effects = core.pass(1_000, &[("x1", &leases)]);
    assert_eq!(hints(&effects), [told("x1", &["large-c"]), told("x1", &["large-d"])]);
}

#[test]
fn who_has_no_room_is_told_nothing_nor_is_one_who_could_begin_at_once() {
    let (mut core, lease) = busy(&["large-1"]);
    core.beat("x1", &[lease], true);
    assert_eq!(hints(&core.apply(Event::Tick)), []);
    core.beat("x1", &[lease], false);
    core.connect("x2", 1, &[native()]);
    // It has the lease instead.
    assert_eq!(core.states(1)["b"], scheduler::TaskState::Running);
    assert_eq!(hints(&core.apply(Event::Tick)), []);
}

#[test]
fn references_come_first_and_from_whom_to_fetch_them() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("has", 1, &[emulated()]);
    let tasks = [task("a", &[]), task("after-a", &["a"]), reading("b", &["large-1"])];
    let contents = [known("lib", &[], &[STORE]), known("large-1", &["lib"], &[])];
    core.holds("has", &contents);
    let contents = [known("lib", &[], &[STORE]), known("large-1", &["lib"], &[at("has")])];
    let lease = grant(&core.admit(1, &tasks, &["after-a", "b"], &contents)).lease;
    let effects = core.pass(1_000, &[("x1", &[lease]), ("has", &[])]);
    assert_eq!(hints(&effects), [told("x1", &["lib", "large-1"])]);
    let holders = effects.iter().find_map(|effect| match effect {
        Effect::Prefetch { inputs, .. } => Some(inputs[1].holders.clone()),
        _ => None,
    });
    assert_eq!(holders, Some(vec![at("has")]));
}
