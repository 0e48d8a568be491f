//! Executors and leases: retries by cause, loss, reconciliation, restart, drain, inventory.
use crate::common::*;
use model::{Epoch, FailureClass, LeaseId, Output};
use scheduler::{Effect, Event, Fact, Holder, LeaseKey, RunningLease, Settings, Settled, TaskState};

const STORE: Holder = Holder::ContentStore;

#[test]
fn failures_are_retried_by_cause() {
    use FailureClass::*;
    let final_ones = [BuildFailed, OutputRejected, InputRejected, TimedOut, LogLimitExceeded];
    for class in final_ones {
        let mut core = Core::new();
        core.connect("x1", 1, &[native()]);
        core.connect("x2", 1, &[native()]);
        let lease = grant(&core.admit(1, &[task("a", &[])], &["a"], &[]));
        let effects = core.report(&lease, failed(class, &[]));
        assert_eq!(finished(&effects, 1).map(|summary| summary.tasks_failed), Some(1), "{class:?}");
    }
    for class in [Infrastructure, OutOfMemory] {
        let mut core = Core::new();
        core.connect("x1", 1, &[native()]);
        core.connect("x2", 1, &[native()]);
        let mut lease = grant(&core.admit(1, &[task("a", &[])], &["a"], &[]));
        let mut executors = vec![lease.executor.0.to_string()];
        for attempt in 2..=3 {
            lease = grant(&core.report(&lease, failed(class, &[])));
            assert_eq!(lease.attempt, attempt);
            executors.push(lease.executor.0.to_string());
        }
        assert_eq!(executors[..2], ["x1", "x2"], "{class:?} elsewhere first");
        let effects = core.report(&lease, failed(class, &[]));
        assert_eq!(finished(&effects, 1).map(|summary| summary.tasks_failed), Some(1), "{class:?}");
    }
    // What nobody counts: cancelled, though it is wanted.
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let mut lease = grant(&core.admit(1, &[task("a", &[])], &["a"], &[]));
    for _ in 0..10 {
        lease = grant(&core.report(&lease, failed(Cancelled, &[])));
    }
}

#[test]
fn a_result_must_be_what_the_task_makes() {
    let good: &[Named] = &[("dev", "a-dev", &["a", "a-dev"]), ("out", "a", &["s"])];
    let cases: [(&[Named], bool); 8] = [
        (good, true),
        (&[("dev", "a-dev", &[]), ("out", "a", &["s"])], true),
        (&[("out", "a", &[])], false),
        (&[("dev", "a-dev", &[]), ("out", "b", &[])], false),
        (&[("dev", "a-dev", &[]), ("doc", "a", &[])], false),
        (&[("out", "a", &[]), ("out", "a", &[])], false),
        (&[("dev", "a-dev", &[]), ("out", "a", &["stranger"])], false),
        (&[("dev", "a-dev", &["a"]), ("out", "a", &["a-dev"])], false),
    ];
    for (outputs, is_good) in cases {
        let mut core = Core::new();
        core.connect("x1", 1, &[native()]);
        let mut a = model::TaskSpec { input_sources: vec![content("s")], ..task("a", &[]) };
        a.outputs.insert(0, Output { name: "dev".into(), path: path("a-dev") });
        let lease = grant(&core.admit(1, &[a], &["a"], &[known("s", &[], &[STORE])]));
        let effects = core.report(&lease, built(outputs));
        let settled = |fact: &Fact| matches!(fact, Fact::TaskSettled { settled: Settled::Built { .. }, .. });
        assert_eq!(records(&effects).iter().any(settled), is_good, "{outputs:?}");
        assert_eq!(grants(&effects).len(), usize::from(!is_good), "{outputs:?}");
    }
}

#[test]
fn reports_are_acknowledged_always_and_count_once() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 1, &[native()]);
    let tasks = [task("a", &[]), task("b", &["a"])];
    let lease = grant(&core.admit(1, &tasks, &["b"], &[]));
    let acknowledged = |effects: &[Effect]| {
        effects.iter().filter(|effect| matches!(effect, Effect::Acknowledge { .. })).count()
    };
    let outcome = built(&[("out", "a", &[])]);
    // Not its lease, not its task, not its epoch, a lease that never was.
    let other_epoch = LeaseKey { epoch: Epoch(9), ..lease.lease };
    let never = LeaseKey { id: LeaseId(77_777), epoch: Epoch(1) };
    for (executor, key, task) in [
        ("x2", lease.lease, "a"),
        ("x1", lease.lease, "b"),
        ("x1", lease.lease, "nobody"),
        ("x1", other_epoch, "a"),
        ("x2", never, "a"),
    ] {
        let effects = core.report_by(executor, key, &task_id(task), outcome.clone());
        assert_eq!((acknowledged(&effects), effects.len()), (1, 1), "{executor} {key:?} {task}");
    }
    assert_eq!(core.states(1)["a"], TaskState::Running);
    assert!(!records(&core.build(&lease, &[])).is_empty());
    let effects = core.build(&lease, &[]);
    assert_eq!((acknowledged(&effects), effects.len()), (1, 1));
}

#[test]
fn a_task_waits_for_inputs_whose_holder_may_come_back() {
    for is_back in [true, false] {
        let mut core = Core::new();
        core.connect("x1", 1, &[native()]);
        core.connect("x2", 1, &[native()]);
        let tasks = [task("a", &[]), task("b", &[]), task("c", &["a", "b"])];
        let leases = grants(&core.admit(1, &tasks, &["c"], &[]));
        let of = |executor: &str| leases.iter().find(|lease| &*lease.executor.0 == executor).unwrap();
        core.build(of("x1"), &[]);
        core.apply(Event::ExecutorDisconnected(name("x1")));
        // Only x1 has one input, and nobody can fetch it now: that is no failure of anybody.
        assert!(grants(&core.build(of("x2"), &[])).is_empty());
        if is_back {
            core.connect("x1", 1, &[native()]);
            assert_eq!(core.states(1)["c"], TaskState::Running);
        } else {
            let again = grant(&core.pass(15_000, &[("x2", &[])]));
            assert_eq!((again.task, &*again.executor.0), (of("x1").task.clone(), "x2"));
        }
    }
}

#[test]
fn a_lost_executor_is_evicted_and_its_result_is_used_if_it_is_first() {
    for second_is_done in [false, true] {
        let mut core = Core::new();
        core.connect("x1", 1, &[native()]);
        core.connect("x2", 1, &[native()]);
        let lease = grant(&core.admit(1, &[task("a", &[])], &["a"], &[]));
        assert_eq!(&*lease.executor.0, "x1");
        core.apply(Event::ExecutorDisconnected(name("x1")));
        assert!(grants(&core.pass(14_000, &[("x2", &[])])).is_empty());
        let effects = core.pass(1_000, &[("x2", &[])]);
        assert!(effects.contains(&Effect::Evict(name("x1"))));
        let second = grant(&effects);
        assert_eq!((&*second.executor.0, second.attempt, second.lease.epoch), ("x2", 2, Epoch(2)));
        // Nobody acknowledges while it is lost: it must say so again.
        assert!(core.build(&lease, &[]).is_empty());
        if second_is_done {
            core.build(&second, &[]);
        }
        let effects = core.connect_running("x1", 1, 1, &[native()], &[running(&lease)]);
        assert_eq!(cancels(&effects), [("x1".into(), lease.lease)]);
        let effects = core.build(&lease, &[]);
        let is_held = records(&effects).contains(&Fact::Held(content("a"), at("x1")));
        assert!(is_held, "whoever was first: {effects:?}");
        let is_used = records(&effects).iter().any(|fact| matches!(fact, Fact::TaskSettled { .. }));
        assert_eq!(is_used, !second_is_done);
        assert_eq!(cancels(&effects).len(), usize::from(!second_is_done));
    }
}

#[test]
fn what_only_a_lost_executor_had_is_made_again_until_it_is_back() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let tasks = [task("a", &[]), task("b", &["a"]), requiring("c", &["b"], emulated())];
    let lease = grant(&core.admit(1, &tasks, &["c"], &[]));
    let lease = grant(&core.build(&lease, &[]));
    let effects = core.build(&lease, &["a"]);
    assert_eq!(waiting(&effects, 1).len(), 1);
    let lost = core.pass(15_000, &[]);
    assert_eq!(waiting(&lost, 1), [("x86_64-linux".into(), 1), ("aarch64-linux".into(), 0)]);
    assert_eq!(core.states(1)["b"], TaskState::Waiting);
    // Another one begins again from below.
    let lease = grant(&core.connect("x2", 1, &[native()]));
    assert_eq!(task_name(&lease.task), "a");
    // The first is back with everything: nothing needs to be made again.
    core.connect("x1", 1, &[native()]);
    let contents = [known("a", &[], &[]), known("b", &["a"], &[])];
    let effects = core.holds("x1", &contents);
    assert_eq!(cancels(&effects), [("x2".into(), lease.lease)]);
    assert!(records(&effects).is_empty(), "the journal knew");
    assert_eq!(waiting(&effects, 1), [("aarch64-linux".into(), 1)]);
    let states = core.states(1);
    assert_eq!((states["a"], states["b"], states["c"]), (TaskState::Done, TaskState::Done, TaskState::Ready));
}

#[test]
fn an_inventory_says_what_is_not_there() {
    let mut core = Core::new();
    let contents = [known("a", &[], &[at("x1")]), known("b", &[], &[at("x1")])];
    let tasks = [task("a", &[]), task("b", &[]), requiring("c", &["a", "b"], emulated())];
    core.connect("x1", 1, &[native()]);
    assert_eq!(counts(&core.admit(1, &tasks, &["c"], &contents)), counted(3, 1, 2));
    core.connect_running("x1", 2, 1, &[native()], &[]);
    let other_bytes = scheduler::KnownContent { nar_sha256: [9; 32], ..known("a", &[], &[]) };
    let effects = core.holds("x1", &[other_bytes]);
    let expected = [Fact::NotHeld(content("a"), at("x1")), Fact::NotHeld(content("b"), at("x1"))];
    assert_eq!(records(&effects), expected);
    assert_eq!(granted(&effects), [("a".into(), "x1".into())]);
}

#[test]
fn a_new_session_tells_what_was_lost_with_the_old_one() {
    for (boot, names_it) in [(1, true), (1, false), (2, true), (2, false)] {
        let mut core = Core::new();
        core.connect("x1", 1, &[native()]);
        let lease = grant(&core.admit(1, &[task("a", &[])], &["a"], &[]));
        let named = [running(&lease)];
        let effects = core.connect_running("x1", boot, 1, &[native()], &named[..usize::from(names_it)]);
        assert_eq!(grants(&effects).len(), usize::from(!names_it), "{boot} {names_it}");
        assert!(cancels(&effects).is_empty());
    }
}

#[test]
fn after_a_restart_running_leases_are_adopted_before_anything_is_leased() {
    for all_are_back in [false, true] {
        adopted_before_anything_is_leased(all_are_back);
    }
}

fn adopted_before_anything_is_leased(all_are_back: bool) {
    let mut core = Core::with(Settings { restart_grace_ms: 3_000, ..SETTINGS });
    let tasks = [task("a", &[]), task("b", &[]), requiring("c", &[], emulated())];
    let effects = core.admit(1, &tasks, &["a", "b", "c"], &[]);
    assert!(waiting(&effects, 1).is_empty());
    let key = |id, epoch| LeaseKey { id: LeaseId(id), epoch: Epoch(epoch) };
    let announced = |key, task: &str, requirement| RunningLease {
        lease: key,
        task: task_id(task),
        platform: platform(&requirement),
    };
    let running = [
        announced(key(5, 3), "a", native()),
        announced(key(6, 1), "gone", native()),
        announced(key(7, 1), "c", native()),
        announced(key(2_000, 1), "b", native()),
    ];
    let effects = core.connect_running("x1", 1, 2, &[native()], &running);
    assert!(grants(&effects).is_empty());
    let cancelled: Vec<_> = cancels(&effects).into_iter().map(|(_, key)| key.id.0).collect();
    assert_eq!(cancelled, [6, 7, 2_000], "an unknown task, a wrong platform, a lease that was never granted");
    assert_eq!(core.states(1)["a"], TaskState::Running);
    let effects = core.connect_running("x2", 1, 1, &[native()], &[announced(key(4, 2), "a", native())]);
    assert_eq!(cancels(&effects), [("x2".into(), key(4, 2))]);
    let effects = if all_are_back {
        core.apply(Event::AllBack)
    } else {
        core.now_ms += 3_000;
        core.apply(Event::Tick)
    };
    assert_eq!(granted(&effects), [("b".into(), "x2".into())]);
    assert_eq!(waiting(&effects, 1), [("aarch64-linux".into(), 1)]);
    let effects = core.report_by("x1", key(5, 3), &task_id("a"), built(&[("out", "a", &[])]));
    assert!(matches!(&records(&effects)[0], Fact::TaskSettled { .. }));
}

#[test]
fn after_a_restart_holders_have_time_to_connect() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let tasks = [task("a", &[]), requiring("b", &["a"], emulated())];
    let effects = core.admit(1, &tasks, &["b"], &[known("a", &[], &[at("x9")])]);
    assert_eq!(counts(&effects), counted(2, 1, 1));
    assert!(grants(&core.pass(14_000, &[("x1", &[])])).is_empty());
    let effects = core.pass(1_000, &[("x1", &[])]);
    assert_eq!(granted(&effects), [("a".into(), "x1".into())]);
}

#[test]
fn missing_inputs_are_made_again_when_their_holder_is_out_of_reach() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 1, &[emulated()]);
    let tasks = [task("a", &[]), requiring("b", &["a"], emulated())];
    let lease = grant(&core.admit(1, &tasks, &["b"], &[]));
    let lease = grant(&core.build(&lease, &[]));
    // Still in reach: it counts, and is tried again.
    let lease = grant(&core.report(&lease, failed(FailureClass::InputMissing, &["a"])));
    assert_eq!(task_name(&lease.task), "b");
    // A second time the holder is not believed any more.
    let effects = core.report(&lease, failed(FailureClass::InputMissing, &["a"]));
    assert_eq!(records(&effects), [Fact::NotHeld(content("a"), at("x1"))]);
    let lease = grant(&effects);
    assert_eq!(task_name(&lease.task), "a");
    let lease = grant(&core.build(&lease, &[]));
    // Not for ever.
    let effects = core.report(&lease, failed(FailureClass::InputMissing, &["a"]));
    assert_eq!(finished(&effects, 1).map(|summary| summary.tasks_failed), Some(1));
    // Out of reach: not the task's failure.
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 1, &[emulated()]);
    core.connect("x3", 1, &[native()]);
    let lease = grant(&core.admit(1, &tasks, &["b"], &[]));
    let mut lease = grant(&core.build(&lease, &[]));
    for _ in 0..5 {
        core.apply(Event::ExecutorDisconnected(name("x1")));
        core.apply(Event::ExecutorDisconnected(name("x3")));
        core.report(&lease, failed(FailureClass::InputMissing, &["a"]));
        let again = grant(&core.connect_running("x1", 1, 1, &[native()], &[]));
        assert_eq!(task_name(&again.task), "a");
        lease = grant(&core.build(&again, &[]));
        assert_eq!(task_name(&lease.task), "b");
    }
}

#[test]
fn a_draining_executor_leaves_when_what_only_it_has_is_saved() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let tasks = [task("a", &[]), task("b", &["a"]), requiring("c", &["b"], emulated())];
    let lease = grant(&core.admit(1, &tasks, &["c"], &[known("unneeded", &[], &[at("x1")])]));
    let lease = grant(&core.build(&lease, &[]));
    assert!(pulls(&core.apply(Event::ExecutorDraining(name("x1")))).contains(&"a".to_owned()));
    let effects = core.build(&lease, &["a"]);
    assert!(grants(&effects).is_empty());
    assert_eq!(pulls(&effects), ["b"]);
    assert!(core.stored("a").iter().all(|effect| !matches!(effect, Effect::MayLeave(_))));
    assert!(core.stored("b").contains(&Effect::MayLeave(name("x1"))));
    // What it has is safe now.
    core.pass(15_000, &[]);
    assert_eq!(granted(&core.connect("x2", 1, &[emulated()])), [("c".into(), "x2".into())]);
}

#[test]
fn one_of_two_draining_executors_is_not_enough_to_keep_something() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 1, &[native()]);
    let spec = model::TaskSpec { input_sources: vec![content("s")], ..requiring("a", &[], emulated()) };
    core.admit(1, &[spec], &["a"], &[known("s", &[], &[at("x1"), at("x2")])]);
    assert!(core.apply(Event::ExecutorDraining(name("x1"))).contains(&Effect::MayLeave(name("x1"))));
    assert_eq!(pulls(&core.apply(Event::ExecutorDraining(name("x2")))), ["s"]);
}

#[test]
fn a_build_that_is_not_reproducible_does_not_replace_bytes_that_somebody_has() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let mut a = task("a", &[]);
    a.outputs.insert(0, Output { name: "dev".into(), path: path("a-dev") });
    let mut b = requiring("b", &["a"], emulated());
    b.input_derivations[0].outputs = vec!["dev".into(), "out".into()];
    let old = scheduler::KnownContent { nar_sha256: [9; 32], ..known("a", &[], &[STORE]) };
    let lease = grant(&core.admit(1, &[a, b], &["b"], &[old]));
    let effects = core.report(&lease, built(&[("dev", "a-dev", &["a"]), ("out", "a", &[])]));
    let records = records(&effects);
    let Fact::TaskSettled { settled: Settled::Built { outputs, .. }, .. } = &records[0] else {
        panic!("{records:?}")
    };
    let names: Vec<_> = outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["dev"]);
    assert_eq!(records[1..], [Fact::Held(content("a-dev"), at("x1"))]);
    assert_eq!(core.states(1)["b"], TaskState::Ready);
}

#[test]
fn a_build_that_nobody_needs_any_more_is_ended() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let tasks = [task("a", &[]), task("b", &["a"]), requiring("c", &["b"], emulated())];
    let lease = grant(&core.admit(1, &tasks, &["c"], &[]));
    let lease = grant(&core.build(&lease, &[]));
    core.build(&lease, &[]);
    core.pass(15_000, &[]);
    let again = grant(&core.connect("x2", 1, &[native()]));
    assert_eq!(task_name(&again.task), "a");
    core.connect("x1", 1, &[native()]);
    // b is back, without a: a was for b alone.
    let effects = core.holds("x1", &[known("b", &[], &[])]);
    assert_eq!(cancels(&effects), [("x2".into(), again.lease)]);
    assert!(told(&effects, 1).contains(&("a".into(), TaskState::Cancelled)));
}

#[test]
fn a_session_that_lives_outweighs_the_late_end_of_an_older_one() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.apply(Event::ExecutorDisconnected(name("x1")));
    assert!(grants(&core.admit(1, &[task("a", &[])], &["a"], &[])).is_empty());
    assert_eq!(granted(&core.heartbeat("x1", &[])), [("a".into(), "x1".into())]);
    // Lost is lost: it must begin a session.
    core.pass(15_000, &[]);
    assert_eq!(core.heartbeat("x1", &[]), [Effect::Evict(name("x1"))]);
    assert_eq!(grants(&core.connect("x1", 1, &[native()])).len(), 1);
}

#[test]
fn nobody_is_asked_for_bytes_while_out_of_reach() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let effects = core.admit(1, &[task("a", &[])], &["a"], &[known("a", &[], &[at("x1")])]);
    assert_eq!(pulls(&effects), ["a"]);
    core.apply(Event::ExecutorDisconnected(name("x1")));
    let effects = core.apply(Event::PullFailed { content: content("a"), from: vec![name("x1")] });
    assert!(effects.is_empty() && pulls(&core.apply(Event::Tick)).is_empty());
    core.connect("x1", 1, &[native()]);
    assert_eq!(pulls(&core.apply(Event::Tick)), ["a"]);
}

#[test]
fn bytes_that_were_lost_are_not_believed_when_others_took_their_place() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let tasks = [task("a", &[]), requiring("b", &["a"], emulated())];
    let old = scheduler::KnownContent { nar_sha256: [9; 32], ..known("a", &[], &[at("x1")]) };
    core.admit(1, &tasks, &["b"], std::slice::from_ref(&old));
    core.pass(15_000, &[]);
    let lease = grant(&core.connect("x2", 1, &[native()]));
    let records = records(&core.build(&lease, &[]));
    assert!(records.contains(&Fact::NotHeld(content("a"), at("x1"))), "{records:?}");
    core.connect("x1", 1, &[native()]);
    assert!(core.holds("x1", &[old]).is_empty());
    let effects = core.pass(15_000, &[("x1", &[])]);
    assert_eq!(granted(&effects), [("a".into(), "x1".into())], "x1 has something else");
}

#[test]
fn an_executor_that_fails_again_and_again_is_set_aside_and_has_a_way_back() {
    let mut core = Core::with(Settings { attempts_max: u32::MAX, ..SETTINGS });
    core.connect("bad", 4, &[native()]);
    let (tasks, names) = many(8, &native());
    let trouble = || failed(FailureClass::Infrastructure, &[]);
    let mut running = grants(&core.admit(1, &tasks, &refs(&names), &[]));
    let mut effects = vec![];
    for _ in 0..5 {
        let grant = running.remove(0);
        effects = core.report(&grant, trouble());
        running.extend(grants(&effects));
    }
    let set_aside = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::SetAside { executor, for_ms, .. } => Some((executor.0.to_string(), *for_ms)),
            _ => None,
        })
    };
    assert_eq!(set_aside(&effects), Some(("bad".into(), SETTINGS.set_aside_ms)));
    // What it runs goes on, and counts.
    while let Some(grant) = running.pop() {
        assert_eq!(granted(&core.report(&grant, trouble())), []);
    }
    let effects = core.pass(SETTINGS.set_aside_ms, &[("bad", &[])]);
    assert_eq!(granted(&effects).len(), 1, "one, to see");
    let effects = core.report(&grant(&effects), trouble());
    assert_eq!(set_aside(&effects), Some(("bad".into(), 2 * SETTINGS.set_aside_ms)), "twice as long");
    assert_eq!(granted(&core.pass(SETTINGS.set_aside_ms, &[("bad", &[])])), []);
    let effects = core.pass(SETTINGS.set_aside_ms, &[("bad", &[])]);
    let effects = core.build(&grant(&effects), &[]);
    assert_eq!(granted(&effects).len(), 4, "one ended well: all slots");
}

#[test]
fn an_executor_that_starts_again_is_not_set_aside_any_more() {
    let mut core = Core::with(Settings { attempts_max: u32::MAX, ..SETTINGS });
    let mut effects = core.connect("bad", 1, &[native()]);
    effects.extend(core.admit(1, &[task("a", &[])], &["a"], &[]));
    for _ in 0..5 {
        effects = core.report(&grant(&effects), failed(FailureClass::Infrastructure, &[]));
    }
    assert_eq!(granted(&effects), []);
    let effects = core.connect_running("bad", 2, 1, &[native()], &[]);
    assert_eq!(granted(&effects), [("a".into(), "bad".into())]);
}
