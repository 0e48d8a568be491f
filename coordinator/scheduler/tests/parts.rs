//! Large plans come in parts, of which nothing is done before the last.
use crate::common::*;
use model::TaskSpec;
use scheduler::{Effect, Event, NewPlan, PlanPart, Root, TASKS_TOLD_MAX};

/// Tasks of a plan of which more will come.
pub fn part_of(plan: u8, tasks: &[TaskSpec]) -> Event {
    let tasks = tasks.to_vec();
    Event::PlanArrives(PlanPart { id: plan_id(plan), tasks, contents: vec![], bindings: vec![] })
}

/// The rest of a plan, and what it wants.
pub fn rest_of(plan: u8, tasks: &[TaskSpec], root: &str) -> Event {
    Event::PlanAdmitted(NewPlan {
        id: plan_id(plan),
        tasks: tasks.to_vec(),
        roots: vec![Root { task: task_id(root), outputs: vec!["out".into()] }],
        contents: vec![],
        bindings: vec![],
        failed: vec![],
    })
}

fn part(tasks: &[TaskSpec]) -> Event {
    part_of(1, tasks)
}

fn rest(tasks: &[TaskSpec], root: &str) -> Event {
    rest_of(1, tasks, root)
}

#[test]
fn nothing_is_done_for_a_plan_before_all_of_it_is_there() {
    let mut core = Core::new();
    core.connect("x1", 2, &[native()]);
    let tasks = [task("a", &[]), task("b", &["a"]), task("c", &["b"])];
    assert_eq!(core.apply(part(&tasks[..1])), []);
    assert_eq!(core.apply(part(&tasks[1..2])), []);
    // Twice the same, and time: still nothing.
    assert_eq!(core.apply(part(&tasks[1..2])), []);
    assert_eq!(core.apply(Event::Tick), []);
    let effects = core.apply(rest(&tasks[2..], "c"));
    assert_eq!(counts(&effects), counted(3, 3, 0));
    assert_eq!(task_name(&grant(&effects).task), "a");
    // Later parts of it are none.
    assert_eq!(core.apply(part(&[task("d", &[])])), []);
    assert_eq!(core.states(1).len(), 3);
}

#[test]
fn what_a_part_needs_that_comes_later_is_not_there() {
    let mut core = Core::new();
    core.connect("x1", 2, &[native()]);
    core.apply(part(&[task("b", &["a"])]));
    let effects = core.apply(rest(&[task("a", &[])], "b"));
    assert_eq!(granted(&effects), []);
    assert!(!finished(&effects, 1).unwrap().succeeded);
}

#[test]
fn a_part_finds_what_another_plan_has_built_meanwhile() {
    let mut core = Core::new();
    core.connect("x1", 2, &[native()]);
    let a = grant(&core.admit(2, &[task("a", &[])], &["a"], &[]));
    core.apply(part(&[task("a", &[])]));
    core.build(&a, &[]);
    // The other plan ends, and forgets nothing that this one has.
    let effects = core.stored("a");
    assert!(finished(&effects, 2).unwrap().succeeded);
    let effects = core.apply(rest(&[task("b", &["a"])], "b"));
    assert_eq!(counts(&effects), counted(2, 1, 1));
    assert_eq!(task_name(&grant(&effects).task), "b");
}

#[test]
fn a_plan_that_is_cancelled_on_its_way_is_forgotten() {
    let mut core = Core::new();
    core.connect("x1", 2, &[native()]);
    core.apply(part(&[task("a", &[])]));
    let effects = core.apply(Event::PlanCancelled(plan_id(1)));
    assert!(finished(&effects, 1).unwrap().cancelled);
    assert!(core.state.snapshot(plan_id(1)).is_none());
}

#[test]
fn a_very_large_plan_is_placed_with_the_next_event_longest_way_first_and_not_told_task_by_task() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let (mut tasks, names) = many(10_001, &native());
    tasks.extend([task("first", &[]), task("second", &["first"])]);
    tasks.push(task("all", &[&["second"], refs(&names).as_slice()].concat()));
    for tasks in tasks.chunks(1_000) {
        assert_eq!(core.apply(part(tasks)), []);
    }
    let effects = core.apply(rest(&[], "all"));
    let only = |effect: &&Effect| matches!(effect, Effect::Admitted { .. });
    assert_eq!((effects.len(), effects.iter().filter(only).count()), (1, 1), "told one by one");
    assert!(tasks.len() > TASKS_TOLD_MAX);
    let effects = core.apply(Event::Tick);
    assert_eq!(task_name(&grant(&effects).task), "first");
    assert_eq!(told(&effects, 1).len(), 1);
}
