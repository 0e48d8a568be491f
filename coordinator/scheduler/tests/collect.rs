//! Stores with limits: what executors may drop, and executors without room.
use crate::common::*;
use model::limits::DROPS_ASKED_MAX;
use model::{FailureClass, TaskSpec};
use scheduler::{Effect, Event, Fact, Held, Holder, News};

const STORE: Holder = Holder::ContentStore;

/// `a` was built at `x1`, and `b`, which needs it, waits for an executor that emulates.
fn built_and_needed() -> Core {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let tasks = [task("a", &[]), requiring("b", &["a"], emulated())];
    let lease = grant(&core.admit(1, &tasks, &["b"], &[]));
    assert!(grants(&core.build(&lease, &[])).is_empty());
    core
}

#[test]
fn what_a_waiting_task_needs_is_pulled_before_it_may_be_dropped() {
    let mut core = built_and_needed();
    let (may, effects) = core.would_drop("x1", &["a"]);
    assert_eq!((may, pulls(&effects)), (vec![], vec!["a".to_owned()]));
    // It asks again before that is done: nothing new.
    let (may, effects) = core.would_drop("x1", &["a"]);
    assert_eq!((may, pulls(&effects)), (vec![], vec![]));
    core.stored("a");
    let (may, effects) = core.would_drop("x1", &["a"]);
    assert_eq!((may, records(&effects)), (vec!["a".into()], vec![Fact::NotHeld(content("a"), at("x1"))]));
    // The answer was lost, or it asked twice: the same again, and nothing new to record.
    let (may, effects) = core.would_drop("x1", &["a"]);
    assert_eq!((may, records(&effects)), (vec!["a".into()], vec![]));
    // What still needs it gets it from the content store, also where it was dropped.
    let lease = grant(&core.connect("x2", 1, &[emulated()]));
    assert_eq!(lease.inputs[0].holders, [STORE]);
}

#[test]
fn what_refers_to_something_carries_it_as_long_as_somebody_needs_that() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let tasks = [task("a", &[]), task("b", &["a"]), requiring("c", &["b"], emulated())];
    let lease = grant(&core.admit(1, &tasks, &["c"], &[]));
    let lease = grant(&core.build(&lease, &[]));
    core.build(&lease, &["a"]);
    assert_eq!(core.would_drop("x1", &["a"]).0, [""; 0]);
    core.apply(Event::PullFailed { content: content("a"), from: vec![] });
    core.apply(Event::PlanCancelled(plan_id(1)));
    assert_eq!(core.would_drop("x1", &["a", "b"]).0, ["a", "b"]);
}

#[test]
fn an_output_that_nobody_needs_any_more_may_go_and_is_built_again_when_somebody_does() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let tasks = [task("a", &[]), task("b", &["a"])];
    let lease = grant(&core.admit(1, &tasks, &["b"], &[]));
    let lease = grant(&core.build(&lease, &[]));
    let effects = core.build(&lease, &[]);
    assert_eq!(core.would_drop("x1", &["a", "b"]).0, ["a"], "a root on its way stays");
    core.store_all(effects);
    assert_eq!(core.would_drop("x1", &["b"]).0, ["b"]);
    // What is stored is not built again; what was dropped is, for another plan.
    let lease = grant(&core.admit(2, &[task("a", &[]), task("d", &["a"])], &["d"], &[]));
    assert_eq!(task_name(&lease.task), "a");
}

#[test]
fn what_another_executor_keeps_may_go_but_not_from_the_last_one() {
    let mut core = Core::new();
    for executor in ["x1", "x2", "x3"] {
        core.connect(executor, 1, &[native()]);
    }
    let spec = TaskSpec { input_sources: vec![content("s")], ..requiring("a", &[], emulated()) };
    core.admit(1, &[spec], &["a"], &[known("s", &[], &[at("x1"), at("x2"), at("x3")])]);
    assert_eq!(core.would_drop("x1", &["s"]).0, ["s"]);
    core.apply(Event::ExecutorDisconnected(name("x3")));
    let (may, effects) = core.would_drop("x2", &["s"]);
    assert_eq!((may, pulls(&effects)), (vec![], vec!["s".to_owned()]), "x3 may not come back");
    // One that drains is no place to keep something either.
    core.connect("x3", 1, &[native()]);
    core.holds("x3", &[known("s", &[], &[])]);
    core.apply(Event::ExecutorDraining(name("x3")));
    assert_eq!(core.would_drop("x2", &["s"]).0, [""; 0]);
    core.stored("s");
    assert_eq!(core.would_drop("x2", &["s"]).0, ["s"]);
}

#[test]
fn what_was_long_in_building_gets_its_second_copy_first() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 1, &[emulated()]);
    let lease = grant(&core.admit(1, &[task("a", &[]), requiring("b", &["a"], emulated())], &["b"], &[]));
    core.now_ms += 14_000;
    for _ in 0..5 {
        core.pass(14_000, &[("x1", &[lease.lease]), ("x2", &[])]);
    }
    let effects = core.build(&lease, &[]);
    assert_eq!(pulls(&effects), ["a"]);
    core.apply(Event::PlanCancelled(plan_id(1)));
    assert_eq!(core.would_drop("x1", &["a"]).0, [""; 0], "on its way");
    core.stored("a");
    assert_eq!(core.would_drop("x1", &["a"]).0, ["a"]);
}

#[test]
fn only_who_has_a_session_is_answered_and_what_nobody_counts_on_may_go() {
    let mut core = built_and_needed();
    assert_eq!(core.would_drop("stranger", &["a"]), (vec![], vec![]));
    // Not its own, or unknown: nobody is told that x1 has it no more.
    core.connect("x2", 1, &[native()]);
    let (may, effects) = core.would_drop("x2", &["a", "never-heard-of", "a"]);
    assert_eq!((may, records(&effects)), (vec!["a".into(), "never-heard-of".into(), "a".into()], vec![]));
    let many: Vec<String> = (0..DROPS_ASKED_MAX + 5).map(|number| format!("n{number}")).collect();
    assert_eq!(core.would_drop("x2", &refs(&many)).0.len(), DROPS_ASKED_MAX);
    core.apply(Event::ExecutorDisconnected(name("x1")));
    assert_eq!(core.would_drop("x1", &["a"]), (vec![], vec![]), "of a session that is over");
}

#[test]
fn what_was_not_dropped_after_all_is_believed_again_when_it_is_told() {
    let mut core = built_and_needed();
    core.apply(Event::PlanCancelled(plan_id(1)));
    assert_eq!(core.would_drop("x1", &["a"]).0, ["a"]);
    let held = Held { executor: name("x1"), contents: vec![known("a", &[], &[])], is_last: false };
    let effects = core.apply(Event::ExecutorHolds(held));
    assert_eq!(records(&effects), [Fact::Held(content("a"), at("x1"))]);
    let tasks = [task("a", &[]), requiring("b", &["a"], emulated())];
    assert!(grants(&core.admit(2, &tasks, &["b"], &[])).is_empty(), "a is there");
}

#[test]
fn a_lease_whose_only_source_dropped_an_input_costs_no_attempt() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 1, &[emulated()]);
    let tasks = [task("a", &[]), requiring("b", &["a"], emulated())];
    let lease = grant(&core.admit(1, &tasks, &["b"], &[]));
    let mut lease = grant(&core.build(&lease, &[]));
    for round in 0..5 {
        let has_one = [at("x1"), STORE].contains(&lease.inputs[0].holders[0]);
        assert!(has_one && lease.inputs[0].holders.len() == 1, "round {round}: {lease:?}");
        if round == 0 {
            core.would_drop("x1", &["a"]);
            core.stored("a");
        }
        // Allowed, since the content store has it; the lease does not know that.
        core.holds("x1", &[known("a", &[], &[])]);
        assert_eq!(core.would_drop("x1", &["a"]).0, ["a"]);
        lease = grant(&core.report(&lease, failed(FailureClass::InputMissing, &["a"])));
    }
    assert_eq!(lease.inputs[0].holders, [STORE]);
}

#[test]
fn an_executor_without_room_gets_nothing_and_says_why() {
    let mut core = Core::new();
    core.connect("x1", 2, &[native()]);
    let waits = |effects: &[Effect]| {
        let said = |news: News| match news {
            News::Waiting(waiting) => Some((waiting.tasks_total, waiting.full)),
            _ => None,
        };
        news(effects, 1).into_iter().filter_map(said).collect::<Vec<_>>()
    };
    core.beat("x1", &[], true);
    let effects = core.admit(1, &[task("a", &[])], &["a"], &[]);
    assert_eq!((grants(&effects).len(), waits(&effects)), (0, vec![(1, vec![name("x1")])]));
    assert_eq!(waits(&core.beat("x1", &[], true)), []);
    let snapshot = core.state.snapshot(plan_id(1)).unwrap();
    assert_eq!(snapshot.waiting[0].full, [name("x1")]);
    // It is another reason now, and said at once.
    let effects = core.apply(Event::ExecutorDisconnected(name("x1")));
    assert_eq!(waits(&effects), [(1, vec![])]);
    // The same process comes back and has still no room; another one may have.
    let effects = core.connect("x1", 2, &[native()]);
    assert_eq!((grants(&effects).len(), waits(&effects)), (0, vec![(1, vec![name("x1")])]));
    let effects = core.beat("x1", &[], false);
    assert_eq!((grants(&effects).len(), waits(&effects)), (1, vec![(0, vec![])]));
    core.beat("x1", &[], true);
    core.connect_running("x1", 2, 1, &[native()], &[]);
    assert_eq!(core.states(1)["a"], scheduler::TaskState::Running);
}

#[test]
fn a_task_waits_for_room_where_nobody_else_can_take_it() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let mut lease = grant(&core.admit(1, &[task("a", &[])], &["a"], &[]));
    let full = || failed(FailureClass::OutOfDisk, &[]);
    for _ in 0..5 {
        assert!(grants(&core.report(&lease, full())).is_empty(), "it has no room");
        assert!(grants(&core.beat("x1", &[], true)).is_empty());
        lease = grant(&core.beat("x1", &[], false));
    }
    // With another one it goes there, and back if that has no room either.
    core.report(&lease, full());
    lease = grant(&core.connect("x2", 1, &[native()]));
    assert_eq!(&*lease.executor.0, "x2");
    core.beat("x1", &[], false);
    // What fits nowhere is not tried for ever.
    for attempt in 0.. {
        assert!(attempt < 20);
        let mut effects = core.report(&lease, full());
        if let Some(ended) = finished(&effects, 1) {
            assert_eq!((ended.tasks_failed, ended.succeeded), (1, false));
            return;
        }
        effects.extend(core.beat("x1", &[], false));
        effects.extend(core.beat("x2", &[], false));
        lease = grant(&effects);
    }
}

#[test]
fn what_nobody_has_names_or_wants_is_forgotten_and_learned_anew() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let effects = core.admit(1, &[task("a", &[]), task("b", &["a"])], &["b"], &[]);
    let effects = core.build(&grant(&effects), &[]);
    let effects = core.build(&grant(&effects), &[]);
    let effects = core.store_all(effects);
    assert!(finished(&effects, 1).unwrap().succeeded);
    assert_eq!(core.would_drop("x1", &["a"]).0, ["a"]);
    // What the core knows of content, it does not let others tell it.
    let effects =
        core.admit(2, &[task("a", &[]), task("c", &["a"])], &["c"], &[known("a", &[], &[at("x1")])]);
    assert_eq!(counts(&effects), counted(2, 1, 1));
}
