//! Any event at any time, from those who lie: the core neither panics nor loses count.
use crate::common::*;
use model::{BootId, Epoch, FailureClass, InputDerivation, LeaseId, Outcome, Output, PlanId, TaskSpec};
use proptest::collection::vec;
use proptest::prelude::*;
use scheduler::{
    Binding, Event, Held, Holder, KnownContent, LeaseKey, NewPlan, PlanPart, Resolution, Root, RunningLease,
    Settings, State, Timestamp, apply,
};

fn small() -> impl Strategy<Value = usize> {
    0..6_usize
}

fn content_name() -> impl Strategy<Value = String> {
    (small(), 0..5_usize).prop_map(|(number, kind)| match kind {
        0 => format!("t{number}"),
        1 => format!("t{number}-dev"),
        2 => format!("t{number}.drv"),
        // What stands for an output whose path nobody knows.
        3 => format!("t{number}.drv!dev"),
        _ => format!("t{number}.drv!out"),
    })
}

fn executor() -> impl Strategy<Value = model::ExecutorName> {
    (0..4_usize).prop_map(|number| name(&format!("x{number}")))
}

fn key() -> impl Strategy<Value = LeaseKey> {
    let id = prop_oneof![4 => 1_000..1_012_u64, 2 => 0..4_u64, 1 => Just(u64::MAX)];
    let epoch = prop_oneof![4 => 1..4_u64, 1 => Just(0), 1 => Just(u64::MAX)];
    (id, epoch).prop_map(|(id, epoch)| LeaseKey { id: LeaseId(id), epoch: Epoch(epoch) })
}

fn requirement() -> impl Strategy<Value = model::Requirement> {
    prop_oneof![Just(native()), Just(emulated()), Just(cross())]
}

fn spec() -> impl Strategy<Value = TaskSpec> {
    let output = (any::<bool>(), any::<bool>(), small()).prop_map(|(is_dev, is_promise, number)| {
        let (name, path_name) = if is_dev { ("dev", "-dev") } else { ("out", "") };
        let path = match is_promise {
            true => path(&format!("t{number}.drv!{name}")),
            false => path(&format!("t{number}{path_name}")),
        };
        Output { name: name.into(), path }
    });
    let input = (small(), vec(prop_oneof![Just("out".to_owned()), Just("dev".to_owned())], 0..3))
        .prop_map(|(number, outputs)| InputDerivation { task: task_id(&format!("t{number}")), outputs });
    let sources = vec(content_name().prop_map(|name| content(&name)), 0..2);
    (small(), requirement(), vec(output, 0..3), vec(input, 0..3), sources, any::<bool>()).prop_map(
        |(number, requirement, outputs, input_derivations, input_sources, needs_resolution)| {
            let task = requiring(&format!("t{number}"), &[], requirement);
            TaskSpec { outputs, input_derivations, input_sources, needs_resolution, ..task }
        },
    )
}

fn known_content() -> impl Strategy<Value = KnownContent> {
    let holder = prop_oneof![executor().prop_map(Holder::Executor), Just(Holder::ContentStore)];
    (content_name(), vec(content_name(), 0..3), vec(holder, 0..3), 0..2_u8, any::<u64>()).prop_map(
        |(name, references, holders, hash, nar_size)| KnownContent {
            nar_sha256: [hash; 32],
            nar_size,
            ..known(&name, &refs(&references), &holders)
        },
    )
}

fn binding() -> impl Strategy<Value = Binding> {
    (content_name(), content_name())
        .prop_map(|(promise, to)| Binding { promise: content(&promise), to: content(&to) })
}

/// What the shell could say of a derivation, right or not.
fn resolution() -> impl Strategy<Value = Result<Resolution, model::Failure>> {
    let name =
        prop_oneof![3 => Just("out".to_owned()), 2 => Just("dev".to_owned()), 1 => Just("other".to_owned())];
    let output = (name, content_name()).prop_map(|(name, is)| (name, content(&is)));
    let resolved = (vec(output, 0..3), vec(known_content(), 0..3), vec(binding(), 0..3))
        .prop_map(|(outputs, contents, bindings)| Ok(Resolution { outputs, contents, bindings }));
    let refused = failed(FailureClass::InputRejected, &[]);
    let Outcome::Failed(refused) = refused else { unreachable!("a failure is one") };
    prop_oneof![5 => resolved, 1 => Just(Err(refused))]
}

fn plan() -> impl Strategy<Value = NewPlan> {
    let outputs = vec(prop_oneof![Just("out".to_owned()), Just("dev".to_owned())], 0..3);
    let root = (small(), outputs)
        .prop_map(|(number, outputs)| Root { task: task_id(&format!("t{number}")), outputs });
    let failure = (small(), Just(failed(FailureClass::BuildFailed, &[])));
    let known = (vec(known_content(), 0..5), vec(binding(), 0..3), vec(failure, 0..2));
    (0..4_u8, vec(spec(), 0..8), vec(root, 0..3), known).prop_map(
        |(number, tasks, roots, (contents, bindings, failed))| NewPlan {
            id: plan_id(number),
            tasks,
            roots,
            contents,
            bindings,
            failed: failed
                .into_iter()
                .filter_map(|(number, outcome)| match outcome {
                    Outcome::Failed(failure) => Some((task_id(&format!("t{number}")), failure)),
                    Outcome::Built(_) => None,
                })
                .collect(),
        },
    )
}

/// Whether it is `dev`, its path, what it refers to, whether its bytes are others, who made it.
type Claimed = (bool, String, Vec<String>, bool, Option<usize>);

fn outcome() -> impl Strategy<Value = Outcome> {
    use FailureClass::*;
    let class = prop::sample::select(vec![BuildFailed, Infrastructure, InputMissing, OutOfDisk, Cancelled]);
    let deriver = prop::option::of(small());
    let output = (any::<bool>(), content_name(), vec(content_name(), 0..2), any::<bool>(), deriver);
    prop_oneof![
        (class, vec(content_name(), 0..3)).prop_map(|(class, missing)| failed(class, &refs(&missing))),
        vec(output, 0..3).prop_map(|outputs| {
            let built_one = |(is_dev, name, references, is_other, deriver): Claimed| {
                let output = if is_dev { "dev" } else { "out" };
                let mut facts = facts(&name, &refs(&references));
                facts.nar_sha256[31] = u8::from(is_other);
                facts.deriver = deriver.map(|number| path(&format!("t{number}.drv")));
                model::BuiltOutput { name: output.into(), path: path(&name), facts }
            };
            Outcome::Built(outputs.into_iter().map(built_one).collect())
        }),
    ]
}

fn running_lease() -> impl Strategy<Value = RunningLease> {
    (key(), small(), requirement()).prop_map(|(lease, number, requirement)| RunningLease {
        lease,
        task: task_id(&format!("t{number}")),
        platform: platform(&requirement),
    })
}

/// An event, or a lease's own executor reporting what the task really makes.
#[derive(Debug, Clone)]
enum Move {
    Event(Event),
    Build(usize, bool),
    StorePulled(bool),
    /// The answer to a question that was asked, right or not.
    Resolve(Result<Resolution, model::Failure>),
}

fn event() -> impl Strategy<Value = Event> {
    let slots = prop_oneof![Just(0_u32), Just(1), Just(2), Just(u32::MAX)];
    let connected = (executor(), 0..3_u8, slots, vec(requirement(), 0..4), vec(running_lease(), 0..3))
        .prop_map(|(executor, boot, slots, offers, running)| Event::ExecutorConnected {
            executor,
            boot: BootId([boot; 16]),
            capability: model::Capability {
                memory_bytes: u64::from(slots) << 30,
                build_memory_bytes: u64::from(boot) << 30,
                ..capability(slots, &offers)
            },
            running,
        });
    let holds = (executor(), vec(known_content(), 0..4), any::<bool>())
        .prop_map(|(executor, contents, is_last)| Event::ExecutorHolds(Held { executor, contents, is_last }));
    let reported = (executor(), key(), small(), outcome()).prop_map(|(executor, lease, number, outcome)| {
        Event::LeaseReported { executor, lease, task: task_id(&format!("t{number}")), outcome }
    });
    let used = (executor(), key(), prop_oneof![Just(0_u64), Just(5 << 30), Just(u64::MAX)]).prop_map(
        |(executor, lease, bytes)| Event::AttemptUsed {
            executor,
            lease,
            memory_bytes: bytes,
            fetched_bytes: bytes,
            fetch_ms: bytes % 3,
        },
    );
    let pull_failed = (content_name(), vec(executor(), 0..3))
        .prop_map(|(name, from)| Event::PullFailed { content: content(&name), from });
    let resolved = (small(), 0..4_u64, resolution()).prop_map(|(task, number, resolution)| Event::Resolved {
        task: task_id(&format!("t{task}")),
        number,
        resolution,
    });
    let part = plan().prop_map(|NewPlan { id, tasks, contents, bindings, .. }| PlanPart {
        id,
        tasks,
        contents,
        bindings,
    });
    let heartbeat = (executor(), vec(key(), 0..4), any::<bool>())
        .prop_map(|(executor, running, is_full)| Event::Heartbeat { executor, running, is_full });
    let would_drop = (executor(), vec(content_name(), 0..4)).prop_map(|(executor, names)| {
        let contents = names.iter().map(|name| content(name)).collect();
        Event::ExecutorWouldDrop { executor, number: 1, contents }
    });
    prop_oneof![
        2 => part.prop_map(Event::PlanArrives),
        2 => resolved,
        4 => plan().prop_map(Event::PlanAdmitted),
        1 => (0..4_u8).prop_map(|number| Event::PlanCancelled(PlanId([number; 16]))),
        4 => connected,
        3 => holds,
        2 => heartbeat,
        2 => would_drop,
        1 => executor().prop_map(Event::ExecutorDraining),
        1 => executor().prop_map(Event::ExecutorDisconnected),
        4 => reported,
        2 => used,
        2 => content_name().prop_map(|name| Event::Stored(content(&name))),
        2 => pull_failed,
        2 => Just(Event::Tick),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        5 => event().prop_map(Move::Event),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, is_good)| Move::Build(which, is_good)),
        1 => any::<bool>().prop_map(Move::StorePulled),
        3 => resolution().prop_map(Move::Resolve),
    ]
}

/// Time that may stand still, jump, or seem to go back.
fn passed_ms() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..2_000_u64, 1 => Just(20_000), 1 => Just(u64::MAX)]
}

/// Plays moves against a core; gives what was granted along the way.
fn play(settings: Settings, moves: Vec<(Move, u64)>) -> Result<(), TestCaseError> {
    let mut state = State::new(settings);
    let mut now_ms = 0_u64;
    let mut granted: Vec<(scheduler::Grant, Vec<Output>)> = vec![];
    let (mut pulled, mut asked) = (vec![], vec![]);
    let mut outputs = std::collections::BTreeMap::new();
    for (next, passed) in moves {
        now_ms = if passed == u64::MAX { now_ms / 2 } else { now_ms.saturating_add(passed) };
        let event = match next {
            Move::Event(event) => event,
            Move::Build(which, is_good) if !granted.is_empty() => {
                let (grant, made) = granted[which % granted.len()].clone();
                let built = made.iter().map(|output| {
                    let deriver = output.path.as_promise().map(|(derivation, _)| derivation.to_owned());
                    let name = short(&output.path).replace(".drv!", "-built-");
                    let deriver = deriver.as_deref().map(model::StorePath::from_validated);
                    let facts = model::PathFacts { deriver, ..facts(&name, &[]) };
                    model::BuiltOutput { name: output.name.clone(), path: path(&name), facts }
                });
                let bad = failed(FailureClass::Infrastructure, &[]);
                let outcome = if is_good { Outcome::Built(built.collect()) } else { bad };
                let (executor, lease, task) = (grant.executor, grant.lease, grant.task);
                Event::LeaseReported { executor, lease, task, outcome }
            }
            Move::StorePulled(is_good) if !pulled.is_empty() => {
                let (content, from) = pulled.remove(0);
                if is_good { Event::Stored(content) } else { Event::PullFailed { content, from } }
            }
            Move::Resolve(resolution) if !asked.is_empty() => {
                let (task, number) = asked.remove(0);
                Event::Resolved { task, number, resolution }
            }
            _ => Event::Tick,
        };
        if let Event::PlanAdmitted(plan) = &event {
            for spec in &plan.tasks {
                outputs.insert(spec.id.clone(), spec.outputs.clone());
            }
        }
        let shown = format!("{event:?}");
        for effect in apply(&mut state, event, Timestamp(now_ms)) {
            match effect {
                scheduler::Effect::Grant(grant) => {
                    let made = outputs.get(&grant.task).cloned().unwrap_or_default();
                    granted.push((grant, made));
                }
                scheduler::Effect::Pull { content, from, .. } => pulled.push((content, from)),
                scheduler::Effect::Resolve { task, number, .. } => asked.push((task, number)),
                _ => {}
            }
        }
        state
            .check_invariants()
            .map_err(|problem| TestCaseError::fail(format!("{problem}\nafter {shown}")))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_anybody_says_breaks_the_core(
        moves in vec((moves(), passed_ms()), 0..60),
        attempts_max in 0..4_u32,
        restart_grace_ms in prop_oneof![Just(0_u64), Just(1_000), Just(u64::MAX)],
    ) {
        play(Settings { attempts_max, restart_grace_ms, ..SETTINGS }, moves)?;
    }
}
