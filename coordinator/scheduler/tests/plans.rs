//! Plans from admission to their end: what is held, what is built, what fails, what is pulled.
use crate::common::*;
use model::{FailureClass, Output};
use scheduler::{Effect, Event, Fact, Grant, Holder, NewPlan, News, Settled, TaskState};
use std::collections::BTreeMap;

const STORE: Holder = Holder::ContentStore;

#[test]
fn a_chain_is_built_in_order_and_its_root_is_pulled_with_its_closure() {
    let mut core = Core::new();
    core.connect("x1", 2, &[native()]);
    let tasks = [task("a", &[]), task("b", &["a"]), task("c", &["b"])];
    let effects = core.admit(1, &tasks, &["c"], &[]);
    assert_eq!(counts(&effects), counted(3, 3, 0));
    let a = grant(&effects);
    assert_eq!((task_name(&a.task).as_str(), a.attempt, a.inputs.len()), ("a", 1, 0));
    let effects = core.build(&a, &[]);
    let b = grant(&effects);
    assert_eq!(told(&effects, 1), [("a".into(), TaskState::Done), ("b".into(), TaskState::Running)]);
    let effects = core.build(&b, &["a", "b"]);
    let c = grant(&effects);
    // The closure of the inputs, references first.
    let inputs: Vec<_> = c.inputs.iter().map(|input| short(&input.id.path)).collect();
    assert_eq!(inputs, ["a", "b"]);
    let effects = core.build(&c, &["b"]);
    assert_eq!(pulls(&effects), ["a", "b", "c"]);
    core.stored("c");
    core.stored("a");
    let effects = core.stored("b");
    assert_eq!(
        news(&effects, 1)[0],
        News::RootAvailable { task: task_id("c"), output: "out".into(), path: path("c") }
    );
    let summary = finished(&effects, 1).unwrap();
    assert!(summary.succeeded && !summary.cancelled);
    assert_eq!((summary.tasks_built, summary.tasks_held, summary.tasks_failed), (3, 0, 0));
    assert!(matches!(&effects[0], Effect::Record(Fact::Held(_, STORE))));
    assert!(matches!(&effects[1], Effect::Record(Fact::PlanEnded(..))));
    assert!(core.state.snapshot(plan_id(1)).is_none());
}

#[test]
fn what_is_held_is_not_built_nor_what_only_that_needs() {
    let tasks = [task("a", &[]), task("b", &["a"]), task("c", &["b"]), task("d", &["c"])];
    let whole = [known("x", &[], &[at("x1")]), known("c", &["x"], &[at("x1")])];
    let without_reference = [known("c", &["b"], &[at("x1")])];
    let cases: [(&[_], _, &[&str]); 4] = [
        (&whole, counted(4, 1, 1), &["d"]),
        // Its closure is not there: b must be built again, and a for it.
        (&without_reference, counted(4, 3, 0), &["a"]),
        (&[], counted(4, 4, 0), &["a"]),
        (&[known("d", &[], &[at("x1")]), known("b", &[], &[STORE])], counted(4, 0, 2), &[]),
    ];
    for (contents, expected, ready) in cases {
        let mut core = Core::new();
        core.connect("x1", 1, &[native()]);
        let effects = core.admit(1, &tasks, &["d"], contents);
        assert_eq!(counts(&effects), expected, "{contents:?}");
        let leased: Vec<_> = granted(&effects).into_iter().map(|(task, _)| task).collect();
        assert_eq!(leased, ready, "{contents:?}");
    }
}

#[test]
fn a_plan_whose_roots_are_all_in_the_content_store_ends_at_once() {
    let mut core = Core::new();
    let effects = core.admit(1, &[task("a", &[]), task("b", &["a"])], &["b"], &[known("b", &[], &[STORE])]);
    assert_eq!(counts(&effects), counted(2, 0, 1));
    let summary = finished(&effects, 1).unwrap();
    assert!(summary.succeeded);
    assert_eq!((summary.tasks_held, summary.tasks_built), (1, 0));
    let ended = effects.iter().find_map(|effect| match effect {
        Effect::Ended { last, .. } => Some(last),
        _ => None,
    });
    let ended = ended.unwrap();
    assert!(ended.tasks[0].was_held);
    assert_eq!(ended.roots.len(), 1);
}

#[test]
fn only_outputs_that_somebody_names_must_be_held() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let mut a = task("a", &[]);
    a.outputs.insert(0, Output { name: "dev".into(), path: path("a-dev") });
    let effects = core.admit(1, &[a, task("b", &["a"])], &["b"], &[known("a", &[], &[STORE])]);
    assert_eq!(counts(&effects), counted(2, 1, 1));
    assert_eq!(granted(&effects), [("b".into(), "x1".into())]);
}

#[test]
fn plans_share_tasks_and_a_task_lives_until_its_last_plan_ends() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let tasks = [task("a", &[]), task("b", &["a"])];
    let lease = grant(&core.admit(1, &tasks, &["b"], &[]));
    let effects = core.admit(2, &[task("a", &[]), task("c", &["a"])], &["c"], &[]);
    assert!(grants(&effects).is_empty());
    assert_eq!(told(&effects, 2), [("a".into(), TaskState::Running), ("c".into(), TaskState::Waiting)]);
    let effects = core.apply(Event::PlanCancelled(plan_id(1)));
    assert!(cancels(&effects).is_empty());
    assert_eq!(told(&effects, 1), [("b".into(), TaskState::Cancelled)]);
    assert!(finished(&effects, 1).unwrap().cancelled);
    let effects = core.apply(Event::PlanCancelled(plan_id(2)));
    assert_eq!(cancels(&effects), [("x1".into(), lease.lease)]);
    assert_eq!(told(&effects, 2), [("a".into(), TaskState::Cancelled), ("c".into(), TaskState::Cancelled)]);
    assert!(core.apply(Event::PlanCancelled(plan_id(2))).is_empty());
    // The slot is free for the next plan, and a result that comes late is acknowledged.
    let effects = core.admit(3, &[task("d", &[])], &["d"], &[]);
    assert_eq!(granted(&effects), [("d".into(), "x1".into())]);
    let effects = core.report(&lease, failed(FailureClass::Cancelled, &[]));
    assert!(matches!(effects[..], [Effect::Acknowledge { .. }]));
}

#[test]
fn a_failure_reaches_all_dependents_and_the_rest_goes_on() {
    let mut core = Core::new();
    core.connect("x1", 4, &[native()]);
    let tasks =
        [task("bad", &[]), task("b", &["bad"]), task("c", &["b"]), task("good", &[]), task("e", &["good"])];
    let effects = core.admit(1, &tasks, &["c", "e"], &[]);
    let leases: BTreeMap<_, _> =
        grants(&effects).into_iter().map(|grant| (task_name(&grant.task), grant)).collect();
    let effects = core.report(&leases["bad"], failed(FailureClass::BuildFailed, &[]));
    let told_now: BTreeMap<_, _> = told(&effects, 1).into_iter().collect();
    assert_eq!(told_now["bad"], TaskState::Failed);
    assert_eq!((told_now["b"], told_now["c"]), (TaskState::DependencyFailed, TaskState::DependencyFailed));
    assert!(matches!(&records(&effects)[..], [Fact::TaskSettled { settled: Settled::Failed(_), .. }]));
    // Another plan that shares the failure fails at once, while the first lives.
    let effects = core.admit(2, &tasks[..2], &["b"], &[]);
    let summary = finished(&effects, 2).unwrap();
    assert_eq!((summary.succeeded, summary.tasks_failed, summary.tasks_dependency_failed), (false, 1, 1));
    let effects = core.build(&leases["good"], &[]);
    let effects = core.build(&grant(&effects), &["good"]);
    let effects = core.store_all(effects);
    let summary = finished(&effects, 1).unwrap();
    assert_eq!((summary.succeeded, summary.tasks_built), (false, 2));
    assert_eq!((summary.tasks_failed, summary.tasks_dependency_failed), (1, 2));
    // A new submission tries again.
    assert_eq!(granted(&core.admit(3, &tasks[..2], &["b"], &[])), [("bad".into(), "x1".into())]);
}

#[test]
fn a_restored_plan_knows_what_failed_before() {
    let mut core = Core::new();
    core.connect("x1", 4, &[native()]);
    let failed = model::Failure {
        class: FailureClass::BuildFailed,
        message: "exit 1".into(),
        exit_status: Some(1),
        missing_inputs: vec![],
    };
    let root = |name: &str| scheduler::Root { task: task_id(name), outputs: vec!["out".into()] };
    let effects = core.apply(Event::PlanAdmitted(NewPlan {
        id: plan_id(1),
        tasks: vec![task("a", &[]), task("b", &["a", "x"]), task("x", &[])],
        roots: vec![root("b")],
        contents: vec![],
        bindings: vec![],
        failed: vec![(task_id("a"), failed)],
    }));
    let told: BTreeMap<_, _> = told(&effects, 1).into_iter().collect();
    assert_eq!((told["a"], told["b"]), (TaskState::Failed, TaskState::DependencyFailed));
    assert!(records(&effects).is_empty());
    // What else b needs is built all the same.
    let effects = core.build(&grant(&effects), &[]);
    assert!(!finished(&effects, 1).unwrap().succeeded);
}

#[test]
fn a_fixed_output_that_two_derivations_make_is_made_once() {
    let mut core = Core::new();
    core.connect("x1", 4, &[native()]);
    let mut other = task("other", &[]);
    other.outputs[0].path = path("a");
    let tasks = [task("a", &[]), other, task("b", &["a", "other"])];
    let effects = core.admit(1, &tasks, &["b"], &[]);
    let lease = grant(&effects);
    let effects = core.build(&lease, &[]);
    assert_eq!(granted(&effects), [("b".into(), "x1".into())]);
    // And when the first cannot, the other does.
    let mut core = Core::new();
    core.connect("x1", 4, &[native()]);
    let lease = grant(&core.admit(1, &tasks, &["b"], &[]));
    let second = grant(&core.report(&lease, failed(FailureClass::BuildFailed, &[])));
    assert_ne!(second.task, lease.task);
    let outcome = built(&[("out", "a", &[])]);
    assert_eq!(granted(&core.report(&second, outcome)), [("b".into(), "x1".into())]);
}

#[test]
fn plans_that_contradict_themselves_fail_and_hurt_nobody() {
    let cyclic = [task("a", &["b"]), task("b", &["a"]), task("c", &["b"])];
    let mut own_output = task("a", &[]);
    own_output.input_sources = vec![content("a")];
    let mut lost_source = task("a", &[]);
    lost_source.input_sources = vec![content("source")];
    let mut other_own_output = own_output.clone();
    other_own_output.outputs.insert(0, Output { name: "dev".into(), path: path("a-dev") });
    other_own_output.input_sources = vec![content("a-dev")];
    let cases: [(&[_], &str); 7] = [
        (&cyclic, "c"),
        (&[other_own_output], "a"),
        (&[task("a", &["nobody"])], "a"),
        (&[own_output], "a"),
        (&[lost_source], "a"),
        (&[task("a", &[])], "nobody"),
        (&[], "a"),
    ];
    for (tasks, root) in cases {
        let mut core = Core::new();
        core.connect("x1", 1, &[native()]);
        let effects = core.admit(1, tasks, &[root], &[]);
        let effects = match grants(&effects).first() {
            Some(grant) => core.build(&grant.clone(), &[]),
            None => effects,
        };
        let summary = finished(&effects, 1);
        assert!(summary.is_some_and(|summary| !summary.succeeded), "{tasks:?} {effects:#?}");
    }
    // Sources that refer to each other in a circle.
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let mut a = task("a", &[]);
    a.input_sources = vec![content("s")];
    let contents = [known("s", &["t"], &[STORE]), known("t", &["s"], &[STORE])];
    assert!(!finished(&core.admit(1, &[a], &["a"], &contents), 1).unwrap().succeeded);
}

#[test]
fn pulls_are_few_at_once_and_none_is_asked_for_twice() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let names: Vec<String> = (0..20).map(|number| format!("r{number:02}")).collect();
    let references: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut contents: Vec<_> = references.iter().map(|name| known(name, &[], &[at("x1")])).collect();
    contents.push(known("a", &references, &[at("x1")]));
    let effects = core.admit(1, &[task("a", &[])], &["a"], &contents);
    assert_eq!(pulls(&effects).len(), 8);
    let again = core.admit(2, &[task("a", &[])], &["a"], &contents);
    assert!(pulls(&again).is_empty());
    let effects = core.store_all(effects);
    assert_eq!(pulls(&effects).len(), 21 - 8);
    assert!(finished(&effects, 1).unwrap().succeeded && finished(&effects, 2).unwrap().succeeded);
}

#[test]
fn a_cancelled_plan_wants_nothing_pulled_any_more() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let names: Vec<String> = (0..20).map(|number| format!("r{number:02}")).collect();
    let references: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut contents: Vec<_> = references.iter().map(|name| known(name, &[], &[at("x1")])).collect();
    contents.push(known("a", &references, &[at("x1")]));
    let effects = core.admit(1, &[task("a", &[])], &["a"], &contents);
    core.apply(Event::PlanCancelled(plan_id(1)));
    for name in pulls(&effects) {
        assert!(pulls(&core.stored(&name)).is_empty());
    }
}

#[test]
fn what_cannot_be_pulled_is_made_again_but_not_for_ever() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let mut effects = core.admit(1, &[task("a", &[])], &["a"], &[]);
    for _ in 0..2 {
        effects = core.build(&grant(&effects), &[]);
        assert_eq!(pulls(&effects), ["a"]);
        effects = core.apply(Event::PullFailed { content: content("a"), from: vec![name("x1")] });
        assert_eq!(records(&effects), [Fact::NotHeld(content("a"), at("x1"))]);
        assert_eq!(granted(&effects), [("a".into(), "x1".into())]);
    }
    core.build(&grant(&effects), &[]);
    // Nobody's fault: tried again at the next tick.
    let effects = core.apply(Event::PullFailed { content: content("a"), from: vec![] });
    assert!(pulls(&effects).is_empty());
    assert_eq!(pulls(&core.apply(Event::Tick)), ["a"]);
    let effects = core.apply(Event::PullFailed { content: content("a"), from: vec![name("x1")] });
    assert!(told(&effects, 1).contains(&("a".into(), TaskState::Failed)));
    assert!(!finished(&effects, 1).unwrap().succeeded);
}

#[test]
fn a_task_that_only_a_cancelled_plan_needed_built_rests() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 1, &[emulated()]);
    let c = requiring("c", &["b"], emulated());
    let tasks = [task("a", &[]), task("b", &["a"]), c];
    // The second plan has b, so it does not need a.
    let effects = core.admit(2, &tasks, &["c"], &[known("b", &[], &[STORE])]);
    assert_eq!(counts(&effects), counted(3, 1, 1));
    let lease = grant(&core.admit(1, &[task("a", &[])], &["a"], &[]));
    let effects = core.apply(Event::PlanCancelled(plan_id(1)));
    assert_eq!(cancels(&effects), [("x1".into(), lease.lease)]);
    assert_eq!(told(&effects, 2), [("a".into(), TaskState::Cancelled)]);
}

#[test]
fn what_took_long_gets_a_second_copy_when_nothing_else_is_pulled() {
    for (took_ms, is_saved) in [(59_000, false), (60_000, true)] {
        let mut core = Core::new();
        core.connect("x1", 1, &[native()]);
        let begun = grants(&core.admit(1, &[task("a", &[]), task("b", &["a"])], &["b"], &[]));
        core.now_ms += took_ms;
        let effects = core.build(&begun[0], &[]);
        assert_eq!(pulls(&effects), if is_saved { vec!["a"] } else { vec![] });
        if is_saved {
            core.stored("a");
        }
        // It is not built again when its only builder is gone.
        core.pass(60_000, &[]);
        let effects = core.connect("x2", 1, &[native()]);
        let next = grants(&effects)[0].clone();
        assert_eq!(task_name(&next.task), if is_saved { "b" } else { "a" });
    }
}

#[test]
fn a_plan_says_what_it_could_not_have_taken_less_than() {
    // The seconds of a, of b that needs it, of c beside both; slots; the bound.
    for (seconds, slots, bound_s) in
        [([10, 10, 5], 2, 20), ([10, 10, 30], 2, 30), ([10, 10, 10], 1, 30), ([10, 10, 10], 3, 20)]
    {
        let mut core = Core::new();
        core.connect("x1", slots, &[native()]);
        let tasks = [task("a", &[]), task("b", &["a"]), task("c", &[])];
        let mut waiting = grants(&core.admit(1, &tasks, &["b", "c"], &[]));
        let mut ended = None;
        let mut begun: Vec<(Grant, u64)> = vec![];
        while ended.is_none() {
            begun.extend(waiting.drain(..).map(|grant| {
                let takes_s = seconds[usize::from(task_name(&grant.task).as_bytes()[0] - b'a')];
                (grant, core.now_ms + takes_s * 1_000)
            }));
            begun.sort_by_key(|(_, end_ms)| *end_ms);
            let (next, end_ms) = begun.remove(0);
            core.now_ms = end_ms;
            let effects = core.build(&next, &[]);
            waiting = grants(&effects);
            let stored = core.store_all(effects);
            ended = finished(&stored, 1);
        }
        let summary = ended.unwrap();
        assert_eq!(summary.bound_ms, bound_s * 1_000, "{seconds:?} {slots}");
        assert!(summary.duration_ms >= summary.bound_ms, "{seconds:?} {slots}: {summary:?}");
    }
}

#[test]
fn the_bound_is_never_more_than_what_a_plan_took() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 7, &[native()]);
    let lease = grant(&core.admit(1, &[task("a", &[])], &["a"], &[]));
    core.now_ms += 600_000;
    // `a` is nearly through when a plan comes that wants it, too; and most slots are gone before that plan ends.
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 7, &[native()]);
    let tasks = [task("a", &[]), task("b", &["a"]), task("c", &[])];
    let beside = grant(&core.admit(2, &tasks, &["b", "c"], &[]));
    core.now_ms += 1_000;
    let effects = core.build(&lease, &[]);
    let last = grant(&effects);
    core.store_all(effects);
    core.now_ms += 1_000;
    let effects = core.build(&beside, &[]);
    core.store_all(effects);
    core.apply(Event::ExecutorDraining(name("x2")));
    let effects = core.build(&last, &[]);
    let summary = finished(&core.store_all(effects), 2).unwrap();
    assert!(summary.bound_ms > 0 && summary.bound_ms <= summary.duration_ms, "{summary:?}");
}
