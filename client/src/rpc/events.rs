//! Plan events from the wire.
use crate::event::{Finished, LogPiece, PlanEvent, Root, TaskChange, TaskState, Waiting};
use model::StorePath;
use proto::convert::{WireError, store_path};
use proto::v1;

/// Reads an event.
pub(super) fn plan_event(wire: v1::plan_event::Event) -> Result<PlanEvent, WireError> {
    use v1::plan_event::Event;
    Ok(match wire {
        Event::Snapshot(snapshot) => PlanEvent::Snapshot {
            tasks: all(snapshot.tasks, task)?,
            roots: all(snapshot.roots, root)?,
            waiting: all(snapshot.waiting, waiting)?,
        },
        Event::TaskChanged(change) => PlanEvent::Task(Box::new(task(change)?)),
        Event::LogChunk(log) => {
            // A decoded `Bytes` keeps its whole message alive: a log lives no longer than its event.
            let piece = LogPiece { log: log.log, end: log.log_end, text: log.text };
            PlanEvent::Log { derivation: store_path("derivation", &log.derivation)?, piece }
        }
        Event::RootAvailable(available) => PlanEvent::Root(root(available)?),
        Event::Waiting(wire) => PlanEvent::Waiting(waiting(wire)?),
        Event::Finished(finished) => PlanEvent::Finished(Finished {
            succeeded: finished.succeeded,
            cancelled: finished.cancelled,
            tasks_built: finished.tasks_built,
            tasks_held: finished.tasks_held,
            tasks_failed: finished.tasks_failed,
            tasks_dependency_failed: finished.tasks_dependency_failed,
            duration_ms: finished.duration_ms,
            bound_ms: finished.bound_ms,
        }),
    })
}

fn all<W, T>(wire: Vec<W>, one: impl Fn(W) -> Result<T, WireError>) -> Result<Vec<T>, WireError> {
    wire.into_iter().map(one).collect()
}

fn task(wire: v1::TaskChanged) -> Result<TaskChange, WireError> {
    let state = match wire.state() {
        v1::TaskState::Unspecified | v1::TaskState::Waiting => TaskState::Waiting,
        v1::TaskState::Ready => TaskState::Ready,
        v1::TaskState::Running => TaskState::Running,
        v1::TaskState::Done => TaskState::Done,
        v1::TaskState::Failed => TaskState::Failed,
        v1::TaskState::DependencyFailed => TaskState::DependencyFailed,
        v1::TaskState::Cancelled => TaskState::Cancelled,
    };
    Ok(TaskChange {
        derivation: store_path("derivation", &wire.derivation)?,
        state,
        executor: wire.executor,
        // How a task runs is told for people only: a platform of a later version is left out.
        platform: wire.platform.and_then(|platform| platform.try_into().ok()),
        attempt: wire.attempt,
        phase: wire.phase,
        failure: wire.failure.map(TryInto::try_into).transpose()?,
        log_tail: wire.log_tail,
        was_held: wire.was_held,
        duration_ms: wire.duration_ms,
    })
}

fn root(wire: v1::RootAvailable) -> Result<Root, WireError> {
    Ok(Root {
        derivation: store_path("derivation", &wire.derivation)?,
        output: wire.output,
        path: store_path("path", &wire.path)?,
        realisation: realisation(wire.realisation)?,
    })
}

/// Nix's daemon gets it as it is: nothing else than what it may be.
fn realisation(id: String) -> Result<Option<String>, WireError> {
    let is_named = id.split_once('!').is_some_and(|(hash, output)| {
        let is_hash = hash
            .strip_prefix("sha256:")
            .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        is_hash && nix_formats::store_path::name_problem(output).is_none()
    });
    match (id.is_empty(), is_named) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(id)),
        (false, false) => {
            Err(WireError::new("realisation", format!("`{id}` is not Nix's name of an output")))
        }
    }
}

fn waiting(wire: v1::Waiting) -> Result<Waiting, WireError> {
    let derivations: Result<Vec<StorePath>, _> =
        wire.derivations.iter().map(|path| store_path("derivations", path)).collect();
    Ok(Waiting {
        requirement: wire.requirement,
        derivations: derivations?,
        tasks_total: wire.tasks_total,
        full_executors: wire.full_executors,
    })
}
