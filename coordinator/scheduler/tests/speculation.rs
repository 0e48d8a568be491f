//! Speculation: who may have a second lease, which result counts, and what becomes of the other.
use crate::common::*;
use model::FailureClass;
use scheduler::{Effect, Event, Fact, Grant, LeaseKey, Settings, TaskState};

const NEVER: Settings = Settings { speculates: false, ..SETTINGS };
/// Longer than twice what an unknown build is believed to take, and half a minute.
const LONG_MS: u64 = 200_000;

/// One task that takes much longer than it should at `slow`, and an idle executor of another name.
fn late(core: &mut Core, other: &str, slowness: u32) -> (Grant, Vec<Effect>) {
    let mut offer = capability(1, &[native()]);
    offer.speed = 1000 / slowness;
    let executor = name("slow");
    let boot = model::BootId([1; 16]);
    core.apply(Event::ExecutorConnected { executor, boot, capability: offer, running: vec![] });
    let first = grant(&core.admit(1, &[task("t", &[])], &["t"], &[]));
    core.connect(other, 1, &[native()]);
    let effects = wait(core, &[("slow", first.lease)], &[other], LONG_MS);
    (first, effects)
}

/// Time passes for executors with one lease each, and for idle ones, until somebody is given another.
fn wait(core: &mut Core, running: &[(&str, LeaseKey)], idle: &[&str], ms: u64) -> Vec<Effect> {
    let leases: Vec<[LeaseKey; 1]> = running.iter().map(|(_, lease)| [*lease]).collect();
    let mut alive: Vec<(&str, &[LeaseKey])> =
        running.iter().zip(&leases).map(|((name, _), lease)| (*name, &lease[..])).collect();
    alive.extend(idle.iter().map(|name| (*name, &[][..])));
    let mut effects = vec![];
    for _ in 0..ms / SETTINGS.heartbeat_interval_ms {
        effects.extend(core.pass(SETTINGS.heartbeat_interval_ms, &alive));
        if !grants(&effects).is_empty() {
            break;
        }
    }
    effects
}

fn speculative(core: &mut Core) -> (Grant, Grant) {
    let (first, effects) = late(core, "fast", 3);
    let second = grant(&effects);
    assert!(second.is_speculative && !first.is_speculative);
    assert_eq!((&*second.executor.0, second.attempt), ("fast", 2));
    assert_ne!(second.lease.epoch, first.lease.epoch);
    (first, second)
}

#[test]
fn a_straggler_is_tried_by_an_idle_executor_that_is_faster_once() {
    let mut core = Core::new();
    let (first, second) = speculative(&mut core);
    assert_eq!(core.states(1)["t"], TaskState::Running);
    let more = wait(&mut core, &[("slow", first.lease), ("fast", second.lease)], &[], 4 * LONG_MS);
    assert_eq!(granted(&more), []);
}

#[test]
fn nobody_tries_what_would_not_end_sooner_or_may_not_be_tried() {
    let mut core = Core::new();
    let (_, effects) = late(&mut core, "alike", 1);
    assert_eq!(granted(&effects), [], "an unknown task, an executor that is no faster");
    let mut core = Core::new();
    let measured = model::TaskSpec::clone(&task("t", &[]));
    core.apply(Event::Remembered(vec![scheduler::Measurement {
        derivation: measured.id.path,
        name: measured.name,
        kind: measured.kind,
        is_emulated: false,
        work_ms: 1_000,
        memory_bytes: 0,
    }]));
    let (_, effects) = late(&mut core, "alike", 1);
    assert_eq!(granted(&effects), [("t".to_owned(), "alike".to_owned())], "it is known to take a second");
    let mut core = Core::with(NEVER);
    let (_, effects) = late(&mut core, "fast", 3);
    assert_eq!(granted(&effects), [], "switched off");
}

#[test]
fn the_first_result_counts_and_the_other_is_cancelled() {
    for second_wins in [false, true] {
        let mut core = Core::new();
        let (first, second) = speculative(&mut core);
        let (winner, loser) = if second_wins { (&second, &first) } else { (&first, &second) };
        let effects = core.build(winner, &[]);
        assert_eq!(cancels(&effects), [(loser.executor.0.to_string(), loser.lease)]);
        let change = told(&effects, 1);
        assert_eq!(change, [("t".to_owned(), TaskState::Done)]);
        let late = core.report(loser, failed(FailureClass::Cancelled, &[]));
        assert!(matches!(late[..], [Effect::Acknowledge { .. }]), "{late:?}");
        let end = core.store_all(effects);
        assert_eq!(finished(&end, 1).unwrap().tasks_built, 1);
    }
}

#[test]
fn two_results_that_differ_are_told() {
    let mut core = Core::new();
    let (first, second) = speculative(&mut core);
    core.build(&second, &[]);
    let same = core.build(&first, &[]);
    assert_eq!(records(&same), [Fact::Held(content("t"), at("slow"))], "it is one more that has it");
    assert_eq!(same.len(), 2, "{same:?}");
    let model::Outcome::Built(mut outputs) = built(&[("out", "t", &[])]) else { unreachable!() };
    outputs[0].facts.nar_sha256 = [9; 32];
    let other = core.report(&first, model::Outcome::Built(outputs));
    let differs =
        |effect: &Effect| matches!(effect, Effect::Differs { executor, .. } if &*executor.0 == "slow");
    assert!(other.iter().any(differs), "{other:?}");
}

#[test]
fn a_second_result_that_names_what_the_task_does_not_make_tells_nothing() {
    let mut core = Core::new();
    let (first, second) = speculative(&mut core);
    core.holds("fast", &[known("source", &[], &[])]);
    core.build(&second, &[]);
    let model::Outcome::Built(mut outputs) = built(&[("out", "source", &[])]) else { unreachable!() };
    outputs[0].facts.nar_sha256 = [9; 32];
    let other = core.report(&first, model::Outcome::Built(outputs));
    assert!(matches!(other[..], [Effect::Acknowledge { .. }]), "{other:?}");
}

#[test]
fn what_is_left_of_two_goes_on() {
    for (gone, left) in [("slow", "fast"), ("fast", "slow")] {
        let mut core = Core::new();
        let (first, second) = speculative(&mut core);
        let (left_grant, gone_grant) = if left == "fast" { (&second, &first) } else { (&first, &second) };
        let effects = wait(&mut core, &[(left, left_grant.lease)], &[], SETTINGS.eviction_after_ms + 1);
        assert!(effects.contains(&Effect::Evict(name(gone))), "{effects:?}");
        assert_eq!(core.states(1)["t"], TaskState::Running, "not ready: the other still runs it");
        // Whoever comes back finds that the other goes on.
        let running = running(gone_grant);
        let back = core.connect_running(gone, 1, 1, &[native()], &[running]);
        assert_eq!(cancels(&back), [(gone.to_owned(), gone_grant.lease)]);
        let done = core.build(left_grant, &[]);
        assert_eq!(told(&done, 1), [("t".to_owned(), TaskState::Done)]);
    }
}

#[test]
fn trouble_of_one_leaves_the_other_and_a_failure_of_one_ends_both() {
    let mut core = Core::new();
    let (first, second) = speculative(&mut core);
    let effects = core.report(&second, failed(FailureClass::Infrastructure, &[]));
    assert_eq!((granted(&effects), cancels(&effects)), (vec![], vec![]));
    assert_eq!(core.states(1)["t"], TaskState::Running);
    core.build(&first, &[]);

    let mut core = Core::new();
    let (first, second) = speculative(&mut core);
    let effects = core.report(&second, failed(FailureClass::BuildFailed, &[]));
    assert_eq!(cancels(&effects), [("slow".to_owned(), first.lease)]);
    assert_eq!(finished(&effects, 1).unwrap().tasks_failed, 1);
    let change = news(&effects, 1).into_iter().find_map(|news| match news {
        scheduler::News::Task(change) => Some(change),
        _ => None,
    });
    assert_eq!(change.unwrap().executor, Some(name("fast")), "who says so");
}

#[test]
fn trouble_beside_another_lease_is_no_attempt_of_the_task() {
    let mut core = Core::with(Settings { attempts_max: 2, ..SETTINGS });
    let (first, second) = speculative(&mut core);
    core.report(&second, failed(FailureClass::Infrastructure, &[]));
    assert_eq!(core.states(1)["t"], TaskState::Running);
    let again = grant(&core.report(&first, failed(FailureClass::Infrastructure, &[])));
    let effects = core.report(&again, failed(FailureClass::Infrastructure, &[]));
    assert_eq!(finished(&effects, 1).unwrap().tasks_failed, 1, "the last ones are");
}

#[test]
fn a_plan_that_is_cancelled_ends_both() {
    let mut core = Core::new();
    let (first, second) = speculative(&mut core);
    let effects = core.apply(Event::PlanCancelled(plan_id(1)));
    let mut cancelled = cancels(&effects);
    cancelled.sort();
    assert_eq!(cancelled, [("fast".to_owned(), second.lease), ("slow".to_owned(), first.lease)]);
}

#[test]
fn what_anybody_waits_for_goes_first() {
    let mut core = Core::new();
    core.connect("slow", 1, &[native()]);
    let first = grant(&core.admit(1, &[task("t", &[])], &["t"], &[]));
    core.connect("fast", 1, &[native()]);
    let other = grant(&core.admit(2, &[task("u", &[])], &["u"], &[]));
    let effects = wait(&mut core, &[("slow", first.lease), ("fast", other.lease)], &[], LONG_MS);
    assert_eq!(granted(&effects), [], "no slot is idle");
}

#[test]
fn what_others_of_its_name_took_meanwhile_is_what_it_should_take() {
    let mut core = Core::new();
    core.connect("slow", 1, &[native()]);
    core.connect("other", 1, &[native()]);
    let [stands, quick] = ["part-1", "part-2"];
    let effects = core.admit(1, &[task(stands, &[]), task(quick, &[])], &[stands, quick], &[]);
    let grants = grants(&effects);
    let [first, second] = &grants[..] else { panic!("{effects:?}") };
    // One of the two is there after a second: then the other is late after half a minute, whatever was believed before.
    core.now_ms += 1_000;
    core.build(second, &[]);
    let (holder, idle) = (first.executor.0.to_string(), second.executor.0.to_string());
    let effects = wait(&mut core, &[(&holder, first.lease)], &[&idle], 40_000);
    assert_eq!(granted(&effects), [(task_name(&first.task), idle)]);
}
