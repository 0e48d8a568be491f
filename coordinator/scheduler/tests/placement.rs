//! Placement: order, slots, shares, sources, and requirements that nobody meets.
use crate::common::*;
use model::{FailureClass, Platform, TaskSpec};
use scheduler::{Event, Grant, Holder, KnownContent};
use std::collections::BTreeMap;

const STORE: Holder = Holder::ContentStore;

#[test]
fn the_longest_way_to_a_root_goes_first_then_the_name() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let tasks = [task("z", &[]), task("a", &[]), task("b", &[]), task("y", &["z"]), task("x", &["y"])];
    let mut order = vec![];
    let mut effects = core.admit(1, &tasks, &["x", "a", "b"], &[]);
    for _ in 0..5 {
        let next = grant(&effects);
        order.push(task_name(&next.task));
        effects = core.build(&next, &[]);
    }
    assert_eq!(order, ["z", "y", "a", "b", "x"]);
}

#[test]
fn slots_are_not_exceeded_and_each_requirement_goes_where_it_is_met() {
    let mut core = Core::new();
    core.connect("x1", 2, &[native()]);
    core.connect("x2", 1, &[emulated(), cross()]);
    let tasks = [
        requiring("e", &[], emulated()),
        requiring("c", &[], cross()),
        task("n1", &[]),
        task("n2", &[]),
        task("n3", &[]),
    ];
    let effects = core.admit(1, &tasks, &["e", "c", "n1", "n2", "n3"], &[]);
    let leased: Vec<_> = granted(&effects);
    // What is emulated takes longer, and goes first.
    let expected = [("e", "x2"), ("n1", "x1"), ("n2", "x1")];
    assert_eq!(leased, expected.map(|(task, executor)| (task.to_owned(), executor.to_owned())));
    assert_eq!(grants(&effects)[0].platform, Platform::Emulated(system("aarch64-linux")));
    let effects = core.build(&grants(&effects)[0].clone(), &[]);
    assert_eq!(granted(&effects), [("c".into(), "x2".into())]);
    assert_eq!(grants(&effects)[0].platform, Platform::Cross { build: system("x86_64-linux") });
}

/// Runs a plan whose tasks end in the order in which they were leased; counts tasks by executor.
fn shares(
    core: &mut Core,
    tasks: &[model::TaskSpec],
    roots: &[&str],
    contents: &[scheduler::KnownContent],
) -> BTreeMap<String, usize> {
    let mut running: std::collections::VecDeque<Grant> =
        grants(&core.admit(1, tasks, roots, contents)).into();
    let mut shares = BTreeMap::new();
    while let Some(grant) = running.pop_front() {
        *shares.entry(grant.executor.0.to_string()).or_default() += 1;
        running.extend(grants(&core.build(&grant, &[])));
    }
    shares
}

#[test]
fn equal_executors_share_the_work_even_if_one_holds_everything() {
    let wide: Vec<model::TaskSpec> = many(12, &native()).0;
    let wide_names = many(12, &native()).1;
    let chain_names: Vec<String> = (0..12).map(|number| format!("t{number:02}")).collect();
    let mut chain = vec![task("t00", &[])];
    for pair in chain_names.windows(2) {
        chain.push(task(&pair[1], &[&pair[0]]));
    }
    let sourced = |tasks: &[model::TaskSpec]| -> Vec<model::TaskSpec> {
        tasks
            .iter()
            .cloned()
            .map(|spec| model::TaskSpec { input_sources: vec![content("s")], ..spec })
            .collect()
    };
    for (tasks, roots) in [(sourced(&wide), refs(&wide_names)), (sourced(&chain), vec!["t11"])] {
        for slots in [1, 2, 4] {
            let mut core = Core::new();
            core.connect("x1", slots, &[native()]);
            core.connect("x2", slots, &[native()]);
            let shares = shares(&mut core, &tasks, &roots, &[known("s", &[], &[at("x2"), STORE])]);
            assert!(shares.len() == 2 && shares.values().all(|share| *share >= 3), "{slots} {shares:?}");
        }
    }
}

#[test]
fn an_executor_that_has_the_inputs_is_preferred_among_equals() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 1, &[native()]);
    let a = model::TaskSpec { input_sources: vec![content("s")], ..task("a", &[]) };
    let effects = core.admit(1, &[a], &["a"], &[known("s", &[], &[at("x2"), STORE])]);
    assert_eq!(granted(&effects), [("a".into(), "x2".into())]);
}

#[test]
fn sources_are_named_best_first() {
    let mut core = Core::new();
    for executor in ["x1", "x2", "x3"] {
        core.connect(executor, 1, &[emulated()]);
    }
    core.apply(Event::ExecutorDisconnected(name("x2")));
    core.connect("x4", 1, &[native()]);
    let holders = |names: &[&str]| names.iter().map(|name| at(name)).collect::<Vec<_>>();
    let own = known("own", &[], &holders(&["x4"]));
    let all = known("s", &["own"], &[holders(&["x1", "x2", "x4"]), vec![STORE]].concat());
    let spec = model::TaskSpec { input_sources: vec![content("s")], ..task("a", &[]) };
    let inputs = grant(&core.admit(1, &[spec], &["a"], &[all, own])).inputs;
    assert_eq!(inputs[0].holders, [at("x4")], "itself, since nobody else has it");
    assert_eq!(inputs[1].holders, [at("x1"), STORE, at("x2")]);
}

#[test]
fn a_requirement_that_nobody_meets_is_told_at_once_and_when_it_is_met_again() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let (tasks, names) = many(3, &emulated());
    let effects = core.admit(1, &tasks[..2], &refs(&names[..2]), &[]);
    assert_eq!(waiting(&effects, 1), [("aarch64-linux".into(), 2)]);
    let snapshot = core.state.snapshot(plan_id(1)).expect("it lives");
    assert_eq!(snapshot.waiting[0].tasks, [task_id("t00"), task_id("t01")]);
    assert!(waiting(&core.pass(2_000, &[("x1", &[])]), 1).is_empty());
    let effects = core.connect("x2", 1, &[emulated()]);
    assert_eq!(waiting(&effects, 1), [("aarch64-linux".into(), 0)]);
    let lease = grant(&effects);
    // Draining counts as not there; what runs goes on.
    let effects = core.apply(Event::ExecutorDraining(name("x2")));
    assert_eq!(waiting(&effects, 1), [("aarch64-linux".into(), 1)]);
    assert!(grants(&core.build(&lease, &[])).is_empty());
    assert!(core.connect("x2", 1, &[emulated()]).is_empty(), "a process that drains goes on draining");
    let effects = core.connect_running("x2", 2, 1, &[emulated()], &[]);
    assert_eq!(waiting(&effects, 1), [("aarch64-linux".into(), 0)]);
    assert_eq!(granted(&effects), [("t01".into(), "x2".into())]);
}

#[test]
fn a_number_of_waiting_tasks_that_changes_is_not_told_every_time() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let (firsts, names) = many(6, &native());
    let seconds: Vec<_> =
        names.iter().map(|name| requiring(&format!("e-{name}"), &[name], emulated())).collect();
    let roots: Vec<String> = names.iter().map(|name| format!("e-{name}")).collect();
    let mut effects = core.admit(1, &[firsts, seconds].concat(), &refs(&roots), &[]);
    let mut told = vec![];
    while let [lease] = &grants(&effects)[..] {
        effects = core.build(lease, &[]);
        told.extend(waiting(&effects, 1));
    }
    assert_eq!(told, [("aarch64-linux".into(), 1)]);
    assert_eq!(waiting(&core.pass(6_000, &[("x1", &[])]), 1), [("aarch64-linux".into(), 6)]);
}

#[test]
fn a_task_waits_for_a_busy_executor_rather_than_go_where_it_failed() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 1, &[native()]);
    let (tasks, names) = many(2, &native());
    let leases = grants(&core.admit(1, &tasks, &refs(&names), &[]));
    let effects = core.report(&leases[0], failed(FailureClass::Infrastructure, &[]));
    assert!(grants(&effects).is_empty());
    let effects = core.build(&leases[1], &[]);
    assert_eq!(granted(&effects), [("t00".into(), leases[1].executor.0.to_string())]);
}

#[test]
fn a_platform_is_shared_even_where_others_keep_one_executor_busier() {
    let mut core = Core::new();
    core.connect("x1", 2, &[native(), cross()]);
    core.connect("x2", 2, &[native(), cross()]);
    let names: Vec<String> = (0..12).map(|number| format!("c{number:02}")).collect();
    let mut tasks = vec![task("long", &[]), requiring("c00", &[], cross())];
    tasks.extend(names.windows(2).map(|pair| requiring(&pair[1], &[&pair[0]], cross())));
    let mut next = grants(&core.admit(1, &tasks, &["long", "c11"], &[]));
    assert_eq!(&*next.pop().expect("two are leased").executor.0, "x2", "busy for ever with the long one");
    let mut of_x2 = 0;
    while let Some(lease) = next.pop() {
        of_x2 += usize::from(&*lease.executor.0 == "x2");
        next = grants(&core.build(&lease, &[]));
    }
    assert!((3..=6).contains(&of_x2), "{of_x2} of 12");
}

#[test]
fn shares_are_counted_anew_when_no_plan_is_left() {
    let mut core = Core::new();
    core.connect("x1", 4, &[native()]);
    core.connect("x2", 4, &[native()]);
    core.apply(Event::ExecutorDisconnected(name("x2")));
    let (tasks, names) = many(10, &native());
    let first = shares(&mut core, &tasks, &refs(&names), &[]);
    assert_eq!(first, BTreeMap::from([("x1".into(), 10)]));
    core.apply(Event::PlanCancelled(plan_id(1)));
    core.connect("x2", 4, &[native()]);
    let second: Vec<_> = names.iter().map(|name| task(&format!("second-{name}"), &[])).collect();
    let roots: Vec<String> = second.iter().map(|spec| spec.name.clone()).collect();
    let leased = granted(&core.admit(2, &second[..4], &refs(&roots[..4]), &[]));
    let of_x2 = leased.iter().filter(|(_, executor)| executor == "x2").count();
    assert_eq!((leased.len(), of_x2), (4, 2));
}

#[test]
fn bytes_that_are_missing_cost_time_by_the_measured_rate() {
    // Of a thousand bytes a millisecond: a gigabyte takes 1,000 s, and a build of 25 s waits for who has it.
    for (rate, expected) in [(1_000_000, 2), (1_000, 1)] {
        let mut core = Core::new();
        core.connect("has", 1, &[native()]);
        core.connect("other", 2, &[native()]);
        let effects = core.admit(1, &[task("f1", &[]), task("f2", &[])], &["f1", "f2"], &[]);
        for grant in grants(&effects) {
            core.apply(Event::AttemptUsed {
                executor: grant.executor.clone(),
                lease: grant.lease,
                memory_bytes: 0,
                fetched_bytes: 10_000 * rate,
                fetch_ms: 10_000,
            });
            core.build(&grant, &[]);
        }
        let large = KnownContent { nar_size: 1_000_000_000, ..known("s", &[], &[at("has"), STORE]) };
        let spec = |name: &str| TaskSpec { input_sources: vec![content("s")], ..task(name, &[]) };
        core.holds("has", std::slice::from_ref(&large));
        let effects = core.admit(3, &[spec("a"), spec("b")], &["a", "b"], &[large]);
        assert_eq!(granted(&effects).len(), expected, "{rate}: {:?}", granted(&effects));
    }
}
