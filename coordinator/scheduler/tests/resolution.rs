//! Derivations whose outputs have no path before they are resolved: several may come to the same, and one of them is built.
use crate::common::*;
use crate::parts::{part_of, rest_of};
use model::{FailureClass, Output, StorePath, TaskSpec};
use scheduler::{Effect, Event, Resolution};

/// A task whose output has no path yet.
fn promised(name: &str) -> TaskSpec {
    let plain = task(name, &[]);
    let path = StorePath::promised(&plain.id.path, "out");
    TaskSpec { outputs: vec![Output { name: "out".into(), path }], needs_resolution: true, ..plain }
}

/// It comes to content of this name.
fn resolved(core: &mut Core, name: &str, number: u64, same: &str) -> Vec<Effect> {
    let outputs = vec![("out".into(), content(same))];
    let resolution = Resolution { outputs, contents: vec![], bindings: vec![] };
    core.apply(Event::Resolved { task: task_id(name), number, resolution: Ok(resolution) })
}

#[test]
fn a_task_that_was_left_to_one_that_failed_is_tried_itself() {
    let mut core = Core::new();
    core.connect("x0", 3, &[native()]);
    let tasks =
        [promised("a"), promised("b"), task("bad", &[]), task("c", &["a", "bad"]), task("d", &["b", "bad"])];
    let effects = core.admit(1, &tasks, &["c", "d"], &[]);
    let broken = || failed(FailureClass::BuildFailed, &[]);
    core.report(&grant(&effects), broken());
    // The one that is built fails after all that needs the other cannot be built any more.
    let first = grant(&resolved(&mut core, "a", 1, "same.drv!out"));
    assert!(granted(&resolved(&mut core, "b", 1, "same.drv!out")).is_empty());
    core.report(&first, broken());
    let second = grant(&resolved(&mut core, "b", 2, "same.drv!out"));
    assert_eq!(task_name(&second.task), "b");
    let summary = finished(&core.report(&second, broken()), 1).unwrap();
    assert_eq!((summary.tasks_failed, summary.tasks_dependency_failed), (3, 2));
}

#[test]
fn nobody_waits_for_another_one_when_the_plan_that_wanted_both_is_gone() {
    for roots in [["c", "d"], ["d", "c"]] {
        let mut core = Core::new();
        let tasks = [promised("a"), promised("b"), task("c", &["a"]), task("d", &["b"])];
        core.admit(1, &tasks, &roots, &[]);
        core.apply(part_of(2, &tasks));
        resolved(&mut core, "a", 1, "same");
        resolved(&mut core, "b", 1, "same");
        core.apply(Event::PlanCancelled(plan_id(1)));
        core.connect("x1", 1, &[native()]);
        assert_eq!(core.apply(Event::Tick), [], "nothing of it is wanted yet");
        core.apply(rest_of(2, &[task("e", &["d"])], "e"));
        // Either of the two will do.
        let of_a = grant(&resolved(&mut core, "a", 2, "same"));
        let of_d = grant(&core.report(&of_a, built(&[("out", "same", &[])])));
        assert_eq!(task_name(&of_d.task), "d", "{roots:?}");
    }
}

#[test]
fn a_task_that_was_left_to_another_one_rests_when_nobody_needs_it_and_is_there_for_who_comes_later() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let [a, b, c, d] = [promised("a"), promised("b"), task("c", &["a"]), task("d", &["b"])];
    core.admit(1, &[a.clone(), b.clone(), c.clone(), d.clone()], &["c", "d"], &[]);
    core.apply(part_of(2, std::slice::from_ref(&b)));
    core.admit(3, &[a, c], &["c"], &[]);
    let of_a = grant(&resolved(&mut core, "a", 1, "same"));
    assert_eq!(grants(&resolved(&mut core, "b", 1, "same")), []);
    core.apply(Event::PlanCancelled(plan_id(1)));
    assert_eq!(core.states(2).get("b"), None, "nobody needs it");
    core.report(&of_a, built(&[("out", "same", &[])]));
    let effects = core.apply(rest_of(2, &[d], "d"));
    assert_eq!(counts(&effects), counted(2, 1, 1));
    assert_eq!(core.states(2).get("b"), Some(&scheduler::TaskState::Done));
}

#[test]
fn what_another_one_needs_of_a_task_is_not_built_once_somebody_has_it() {
    let mut core = Core::new();
    let [a, b, c, d] = [promised("a"), promised("b"), task("c", &["a"]), task("d", &["b"])];
    core.admit(1, &[a.clone(), c], &["c"], &[]);
    core.apply(part_of(2, &[a]));
    core.admit(3, &[b, d], &["d"], &[]);
    resolved(&mut core, "a", 1, "same");
    resolved(&mut core, "b", 1, "same");
    core.apply(Event::PlanCancelled(plan_id(1)));
    assert_eq!(core.states(2).get("a"), Some(&scheduler::TaskState::Ready), "it is built for the other one");
    core.connect("x2", 0, &[native()]);
    core.holds("x2", &[known("same", &[], &[at("x2")])]);
    assert_eq!(core.states(2).get("a"), Some(&scheduler::TaskState::Done));
    assert_eq!(granted(&core.connect("x1", 2, &[native()])), [("d".into(), "x1".into())]);
}
