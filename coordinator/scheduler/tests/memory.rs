//! Memory: what was measured decides who is big enough and how many run beside each other; want of memory is learned from.
use crate::common::*;
use model::{BootId, Capability, FailureClass, TaskSpec};
use scheduler::{Effect, Event, Fact, Grant, Measurement};

const GIB: u64 = 1 << 30;

fn connect(core: &mut Core, executor: &str, slots: u32, memory_bytes: u64, build_memory_bytes: u64) {
    let capability = Capability { memory_bytes, build_memory_bytes, ..capability(slots, &[native()]) };
    core.apply(Event::ExecutorConnected {
        executor: name(executor),
        boot: BootId([1; 16]),
        capability,
        running: vec![],
    });
}

/// An earlier build of each had so much.
fn remember(core: &mut Core, tasks: &[TaskSpec], memory_bytes: u64) {
    let measurement = |task: &TaskSpec| Measurement {
        derivation: task.id.path.clone(),
        name: task.name.clone(),
        kind: task.kind,
        is_emulated: false,
        work_ms: 10_000,
        memory_bytes,
    };
    core.apply(Event::Remembered(tasks.iter().map(measurement).collect()));
}

fn used(core: &mut Core, grant: &Grant, memory_bytes: u64) {
    used_by(core, &grant.executor.0.clone(), grant, memory_bytes);
}

fn used_by(core: &mut Core, executor: &str, grant: &Grant, memory_bytes: u64) {
    let (executor, lease) = (name(executor), grant.lease);
    core.apply(Event::AttemptUsed { executor, lease, memory_bytes, fetched_bytes: 0, fetch_ms: 0 });
}

/// It ends for want of memory, having had so much.
fn starve(core: &mut Core, grant: &Grant, memory_bytes: u64) -> Vec<Effect> {
    used(core, grant, memory_bytes);
    core.report(grant, failed(FailureClass::OutOfMemory, &[]))
}

#[test]
fn together_builds_get_no_more_than_there_is() {
    let names: Vec<String> = many(4, &native()).1;
    // With head room each counts as 5 GiB.
    for (memory_bytes, at_once) in [(0, 4), (4 * GIB, 1), (11 * GIB, 2), (20 * GIB, 4)] {
        let mut core = Core::new();
        remember(&mut core, &many(4, &native()).0, 4 * GIB);
        connect(&mut core, "x1", 4, memory_bytes, memory_bytes);
        let effects = core.admit(1, &many(4, &native()).0, &refs(&names), &[]);
        assert_eq!(grants(&effects).len(), at_once, "{memory_bytes}");
        // Each that ends gives its part back.
        let effects = core.build(&grants(&effects)[0].clone(), &[]);
        assert_eq!(grants(&effects).len(), usize::from(at_once < 4), "{memory_bytes}");
    }
}

#[test]
fn what_is_measured_counts_for_the_next_build_and_survives_a_restart() {
    let mut core = Core::new();
    connect(&mut core, "small", 2, 6 * GIB, 6 * GIB);
    let lease = grant(&core.admit(1, &[task("p-1", &[])], &["p-1"], &[]));
    used(&mut core, &lease, 4 * GIB);
    let effects = core.build(&lease, &[]);
    let measured: Vec<u64> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Record(Fact::Measured(measured)) => Some(measured.memory_bytes),
            _ => None,
        })
        .collect();
    assert_eq!(measured, [4 * GIB]);
    // Later versions of the package: one at a time.
    let effects = core.admit(2, &[task("p-2", &[]), task("p-3", &[])], &["p-2", "p-3"], &[]);
    assert_eq!(grants(&effects).len(), 1);
}

#[test]
fn a_peak_fades_with_builds_that_need_less() {
    let mut core = Core::new();
    let tasks = [task("p-1", &[])];
    remember(&mut core, &tasks, 8 * GIB);
    for _ in 0..20 {
        remember(&mut core, &tasks, GIB);
    }
    connect(&mut core, "x1", 2, 4 * GIB, 4 * GIB);
    let effects = core.admit(1, &[task("p-2", &[]), task("p-3", &[])], &["p-2", "p-3"], &[]);
    assert_eq!(grants(&effects).len(), 2);
}

#[test]
fn big_builds_go_to_executors_that_are_big_enough_even_if_those_are_busy() {
    let mut core = Core::new();
    remember(&mut core, &[task("big", &[])], 4 * GIB);
    connect(&mut core, "a-small", 1, 8 * GIB, 2 * GIB);
    connect(&mut core, "b-big", 1, 8 * GIB, 8 * GIB);
    let effects = core.admit(1, &[task("big", &[])], &["big"], &[]);
    assert_eq!(granted(&effects), [("big".into(), "b-big".into())]);
    // Where nobody is big enough, the biggest tries.
    let mut core = Core::new();
    remember(&mut core, &[task("big", &[])], 40 * GIB);
    connect(&mut core, "a-small", 1, 8 * GIB, 2 * GIB);
    connect(&mut core, "b-big", 1, 8 * GIB, 8 * GIB);
    let effects = core.admit(1, &[task("big", &[])], &["big"], &[]);
    assert_eq!(granted(&effects), [("big".into(), "b-big".into())]);
}

#[test]
fn a_build_that_ends_for_want_of_memory_moves_up_and_that_is_no_attempt() {
    let mut core = Core::new();
    for (executor, gib) in [("a", 1), ("b", 2), ("c", 4), ("d", 8)] {
        connect(&mut core, executor, 1, gib * GIB, gib * GIB);
    }
    let mut lease = grant(&core.admit(1, &[task("t", &[])], &["t"], &[]));
    let mut tried = vec![];
    for _ in 0..8 {
        tried.push(lease.executor.0.to_string());
        let had = match &*lease.executor.0 {
            "a" => GIB,
            "b" => 2 * GIB,
            "c" => 4 * GIB,
            _ => break,
        };
        lease = grant(&starve(&mut core, &lease, had));
    }
    assert_eq!(tried, ["a", "b", "c", "d"]);
    // More than the biggest has: these are attempts, of which a task has three.
    for _ in 0..2 {
        lease = grant(&starve(&mut core, &lease, 8 * GIB));
        assert_eq!(&*lease.executor.0, "d");
    }
    let effects = starve(&mut core, &lease, 8 * GIB);
    assert_eq!(finished(&effects, 1).map(|summary| summary.tasks_failed), Some(1));
}

#[test]
fn a_build_that_was_short_of_memory_beside_others_gets_room_of_its_own() {
    let mut core = Core::new();
    connect(&mut core, "x1", 2, 8 * GIB, 8 * GIB);
    let effects = core.admit(1, &[task("t", &[]), task("u", &[])], &["t", "u"], &[]);
    let [first, second] = &grants(&effects)[..] else { panic!("{effects:?}") };
    // It had 3 of 8: the rest was the other's. Room for 6 is there when that has ended.
    used(&mut core, second, 4 * GIB);
    remember(&mut core, &[task("u", &[])], 4 * GIB);
    let effects = starve(&mut core, first, 3 * GIB);
    assert_eq!(grants(&effects), []);
    let effects = core.build(second, &[]);
    let again = grant(&effects);
    core.store_all(effects);
    assert_eq!((task_name(&again.task), again.attempt), ("t".into(), 2));
    let effects = core.build(&again, &[]);
    assert_eq!(finished(&core.store_all(effects), 1).map(|summary| summary.succeeded), Some(true));
}

#[test]
fn what_others_say_of_a_lease_does_not_count() {
    let mut core = Core::new();
    connect(&mut core, "x1", 1, 8 * GIB, 8 * GIB);
    connect(&mut core, "x2", 1, 8 * GIB, 8 * GIB);
    let lease = grant(&core.admit(1, &[task("t", &[])], &["t"], &[]));
    let other = if &*lease.executor.0 == "x1" { "x2" } else { "x1" };
    used_by(&mut core, other, &lease, u64::MAX);
    let effects = core.build(&lease, &[]);
    let is_unmeasured = |effect: &Effect| matches!(effect, Effect::Record(Fact::Measured(measured)) if measured.memory_bytes == 0);
    assert!(effects.iter().any(is_unmeasured));
}

#[test]
fn what_needs_more_than_there_is_does_not_wait_for_builds_of_which_nothing_is_known() {
    let mut core = Core::new();
    remember(&mut core, &[task("big", &[])], 40 * GIB);
    connect(&mut core, "x1", 4, 8 * GIB, 8 * GIB);
    core.admit(1, &[task("unknown", &[])], &["unknown"], &[]);
    let effects = core.admit(2, &[task("big", &[])], &["big"], &[]);
    assert_eq!(granted(&effects), [("big".into(), "x1".into())]);
}

#[test]
fn no_build_has_had_more_than_its_executor_has() {
    let mut core = Core::new();
    connect(&mut core, "x1", 3, 16 * GIB, 16 * GIB);
    let lease = grant(&core.admit(1, &[task("p-1", &[])], &["p-1"], &[]));
    used(&mut core, &lease, u64::MAX);
    let effects = core.build(&lease, &[]);
    let measured = |effect: &Effect| match effect {
        Effect::Record(Fact::Measured(measured)) => Some(measured.memory_bytes),
        _ => None,
    };
    assert_eq!(effects.iter().find_map(measured), Some(16 * GIB));
}
