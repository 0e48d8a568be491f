//! What was measured decides: who is waited for, what goes first, how fast an executor is believed to be.
use crate::common::*;
use model::{BootId, Capability, Kind, TaskSpec};
use scheduler::{Event, Grant, LeaseKey, Measurement, State};

/// An executor that says how fast it is.
fn connect(core: &mut Core, executor: &str, slots: u32, speed: u32) {
    let capability = Capability { speed, ..capability(slots, &[native(), emulated()]) };
    let executor = name(executor);
    core.apply(Event::ExecutorConnected { executor, boot: BootId([1; 16]), capability, running: vec![] });
}

fn remember(core: &mut Core, measured: &[(&TaskSpec, bool, u64)]) {
    let measurement = |(task, is_emulated, work_ms): &(&TaskSpec, bool, u64)| Measurement {
        derivation: task.id.path.clone(),
        name: task.name.clone(),
        kind: task.kind,
        is_emulated: *is_emulated,
        work_ms: *work_ms,
        memory_bytes: 0,
    };
    core.apply(Event::Remembered(measured.iter().map(measurement).collect()));
}

fn keys(grants: &[Grant]) -> Vec<LeaseKey> {
    grants.iter().map(|grant| grant.lease).collect()
}

/// A plan of one task that takes a minute keeps the fast one busy; then the second comes.
fn second_beside_a_busy_fast_one(first_ms: u64, second_ms: u64) -> (Core, Vec<Grant>, Vec<Grant>) {
    let (first, second) = (task("first", &[]), task("second", &[]));
    let mut core = Core::new();
    connect(&mut core, "fast", 1, 1000);
    connect(&mut core, "slow", 1, 250);
    remember(&mut core, &[(&first, false, first_ms), (&second, false, second_ms)]);
    let begun = grants(&core.admit(1, &[first], &["first"], &[]));
    assert_eq!(granted_of(&begun), ["first on fast"]);
    let then = grants(&core.admit(2, &[second], &["second"], &[]));
    (core, begun, then)
}

fn granted_of(grants: &[Grant]) -> Vec<String> {
    grants.iter().map(|grant| format!("{} on {}", task_name(&grant.task), grant.executor)).collect()
}

#[test]
fn a_task_waits_for_a_fast_executor_if_it_ends_sooner_there() {
    // 10 s of waiting and 60 s of work, or four minutes of work.
    let (mut core, begun, then) = second_beside_a_busy_fast_one(10_000, 60_000);
    assert_eq!(then.len(), 0);
    core.now_ms += 10_000;
    let after = grants(&core.build(&begun[0], &[]));
    assert_eq!(granted_of(&after), ["second on fast"]);
}

#[test]
fn a_task_goes_to_a_slow_executor_if_waiting_gains_little() {
    // 170 s of waiting and 60 s of work, or four minutes of work.
    let (_, _, then) = second_beside_a_busy_fast_one(170_000, 60_000);
    assert_eq!(granted_of(&then), ["second on slow"]);
}

#[test]
fn waiting_for_what_takes_longer_than_it_should_loses_its_appeal() {
    let (mut core, begun, then) = second_beside_a_busy_fast_one(10_000, 60_000);
    assert_eq!(then.len(), 0);
    let running = keys(&begun);
    let begin_ms = core.now_ms;
    let leased = std::iter::repeat_with(|| grants(&core.pass(5_000, &[("fast", &running), ("slow", &[])])));
    let first = leased.take(240).find(|leased| !leased.is_empty()).unwrap();
    assert_eq!(granted_of(&first), ["second on slow"], "the other hangs");
    // A quarter of twelve minutes, and a minute of work: more than the four minutes elsewhere.
    assert!((600_000..1_000_000).contains(&(core.now_ms - begin_ms)), "{}", core.now_ms - begin_ms);
}

#[test]
fn the_longest_way_in_time_goes_first() {
    let short = [task("a1", &[]), task("a2", &["a1"]), task("a3", &["a2"])];
    let long = task("z", &[]);
    let mut core = Core::new();
    remember(&mut core, &[(&long, false, 100_000)]);
    remember(&mut core, &short.each_ref().map(|task| (task, false, 10_000)));
    connect(&mut core, "x1", 1, 1000);
    let tasks = [short.to_vec(), vec![long]].concat();
    assert_eq!(granted_of(&grants(&core.admit(1, &tasks, &["a3", "z"], &[]))), ["z on x1"]);
}

#[test]
fn an_executor_is_believed_to_be_as_fast_as_its_builds() {
    let mut core = Core::new();
    connect(&mut core, "a-slow", 1, 1000);
    connect(&mut core, "b-true", 1, 1000);
    let tasks: Vec<TaskSpec> = (0..40).map(|number| task(&format!("t{number:02}"), &[])).collect();
    let known: Vec<_> = tasks.iter().map(|task| (task, false, 10_000)).collect();
    remember(&mut core, &known);
    let names: Vec<String> = tasks.iter().map(|task| task.name.clone()).collect();
    let mut running = grants(&core.admit(1, &tasks, &refs(&names), &[]));
    let mut ends: Vec<(u64, Grant)> = vec![];
    let mut shares = [0, 0];
    loop {
        for grant in running.drain(..) {
            let is_slow = &*grant.executor.0 == "a-slow";
            shares[usize::from(!is_slow)] += 1;
            ends.push((core.now_ms + if is_slow { 80_000 } else { 10_000 }, grant));
        }
        ends.sort_by_key(|(end, _)| *end);
        if ends.is_empty() {
            break;
        }
        let (end, grant) = ends.remove(0);
        core.now_ms = end;
        running = grants(&core.build(&grant, &[]));
    }
    assert_eq!(shares.iter().sum::<i32>(), 40);
    assert!(shares[0] <= 6, "eight times as slow: {shares:?}");
}

#[test]
fn one_sample_under_emulation_informs_about_all_executors() {
    let kinds = |name: &str| TaskSpec { requirement: emulated(), ..task(name, &[]) };
    let (measured, other) = (kinds("package-1.0"), kinds("other-1.0"));
    let mut core = Core::new();
    connect(&mut core, "x1", 1, 1000);
    let begun = grants(&core.admit(1, &[measured], &["package-1.0"], &[]));
    core.now_ms += 900_000;
    core.build(&begun[0], &[]);
    core.stored("package-1.0");
    // Another version of it takes as long; what nobody knows takes four minutes.
    let next = TaskSpec { requirement: emulated(), name: "package-2.0".into(), ..task("n", &[]) };
    let effects = core.admit(2, &[next, other], &["n", "other-1.0"], &[]);
    assert_eq!(granted_of(&grants(&effects)), ["n on x1"]);
}

#[test]
fn a_name_of_another_kind_says_nothing() {
    let package = TaskSpec { name: "python3-3.8".into(), kind: Kind::Heavy, ..task("p", &[]) };
    let links = TaskSpec { name: "python3-3.8".into(), kind: Kind::Tiny, ..task("env", &[]) };
    let build = task("b", &[]);
    let mut core = Core::new();
    remember(&mut core, &[(&links, false, 50), (&build, false, 60_000)]);
    connect(&mut core, "x1", 1, 1000);
    let effects = core.admit(1, &[package, build], &["p", "b"], &[]);
    assert_eq!(granted_of(&grants(&effects)), ["p on x1"]);
}

/// However many wait for what only a busy executor offers, others are not kept from one that is free.
#[test]
fn a_long_line_before_one_executor_leaves_no_other_idle() {
    let mut core = Core::new();
    core.connect("emulator", 1, &[emulated()]);
    core.connect("native", 1, &[native()]);
    let mut tasks: Vec<TaskSpec> =
        (0..1_000).map(|number| requiring(&format!("e{number:04}"), &[], emulated())).collect();
    tasks.push(TaskSpec { kind: Kind::Tiny, ..task("n", &[]) });
    let names: Vec<String> = tasks.iter().map(|task| task.name.clone()).collect();
    let leased = granted_of(&grants(&core.admit(1, &tasks, &refs(&names), &[])));
    assert_eq!(leased, ["e0000 on emulator", "n on native"]);
}

#[test]
fn plans_take_turns() {
    let plan = |prefix: &str| -> (Vec<TaskSpec>, Vec<String>) {
        let tasks: Vec<TaskSpec> = (0..6).map(|number| task(&format!("{prefix}{number}"), &[])).collect();
        let names = tasks.iter().map(|task| task.name.clone()).collect();
        (tasks, names)
    };
    let mut core = Core::new();
    let ((first, first_names), (second, second_names)) = (plan("a"), plan("b"));
    core.admit(1, &first, &refs(&first_names), &[]);
    core.admit(2, &second, &refs(&second_names), &[]);
    connect(&mut core, "x1", 4, 1000);
    let leased = core.log.iter().filter_map(|effect| match effect {
        scheduler::Effect::Grant(grant) => Some(task_name(&grant.task)),
        _ => None,
    });
    let of_second = leased.filter(|name| name.starts_with('b')).count();
    assert_eq!(of_second, 2, "the second plan has half of the slots");
}

#[test]
fn nonsense_that_was_remembered_harms_nobody() {
    let mut core = Core { state: State::new(SETTINGS), ..Core::new() };
    let task = task("a", &[]);
    remember(&mut core, &[(&task, false, 0), (&task, true, u64::MAX), (&task, false, u64::MAX)]);
    connect(&mut core, "x1", 1, u32::MAX);
    let begun = grants(&core.admit(1, &[task], &["a"], &[]));
    core.now_ms = u64::MAX - 1_000_000;
    core.build(&begun[0], &[]);
}

#[test]
fn levels_are_counted_anew_when_there_was_a_measurement_for_every_eighth_task() {
    // Measurements of the second chain's end; whose beginning goes first.
    for (measurements, first) in [(3, "p"), (4, "q")] {
        let mut core = Core::new();
        core.connect("x1", 1, &[native()]);
        let before = grant(&core.admit(1, &[task("before", &[])], &["before"], &[]));
        let (mut tasks, names) = many(35, &native());
        tasks.extend([task("p", &[]), task("p2", &["p"]), task("q", &[]), task("q2", &["q"])]);
        let mut roots = refs(&names);
        roots.extend(["p2", "q2"]);
        core.admit(2, &tasks, &roots, &[]);
        let measured = (&task("q2", &[]), false, 10_000_000);
        remember(&mut core, &vec![measured; measurements]);
        // It is one more; each counts four times.
        let next = grant(&core.build(&before, &[]));
        assert_eq!(task_name(&next.task), first, "{measurements}");
    }
}
