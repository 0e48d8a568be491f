//! The coordinator's words to messages of the wire, which cannot fail, and keeps them within what a message may hold.
use crate::plans::{Piece, PlanEvent, TaskView, View};
use crate::session::{LeaseOrder, Order, OrderedInput, PrefetchOrder, Source};
use model::limits::CONTROL_MESSAGE_BYTES_MAX;
use prost::Message;
use proto::convert::path_info;
use proto::v1;
use scheduler::{AvailableRoot, LeaseKey, PlanSummary, TaskState, Waiting};

/// What a snapshot's tasks may take, in bytes: the rest of a message is for roots and requirements.
const SNAPSHOT_TASKS_BYTES_MAX: usize = CONTROL_MESSAGE_BYTES_MAX / 2;
/// What a snapshot's roots may take, in bytes.
const SNAPSHOT_ROOTS_BYTES_MAX: usize = CONTROL_MESSAGE_BYTES_MAX / 4;
/// What a tag and a length take at most, in bytes.
const FIELD_BYTES_MAX: usize = 16;

/// An order for an executor.
pub(super) fn coordinator_message(order: Order) -> v1::CoordinatorMessage {
    use v1::coordinator_message::Message;
    let message = match order {
        Order::Lease(order) => Message::Lease(lease(*order)),
        Order::Cancel(LeaseKey { id, epoch }) => {
            Message::Cancel(v1::CancelLease { lease_id: id.0, epoch: epoch.0 })
        }
        Order::Acknowledge(LeaseKey { id, epoch }) => {
            Message::Acknowledge(v1::Acknowledge { lease_id: id.0, epoch: epoch.0 })
        }
        Order::Prefetch(PrefetchOrder { inputs, trace }) => Message::Prefetch(v1::Prefetch {
            inputs: inputs.iter().map(input).collect(),
            trace_context: trace,
        }),
        Order::MayLeave => Message::MayLeave(v1::MayLeave {}),
        Order::MayDrop { number, contents } => {
            Message::MayDrop(v1::MayDrop { number, ids: contents.iter().map(Into::into).collect() })
        }
    };
    v1::CoordinatorMessage { message: Some(message) }
}

fn input(input: &OrderedInput) -> v1::Input {
    let source = |source: &Source| match source {
        Source::Executor { name, address } => v1::Source {
            source: Some(v1::source::Source::ExecutorAddress(address.to_string())),
            executor_name: name.to_string(),
        },
        Source::ContentStore => {
            v1::Source { source: Some(v1::source::Source::ContentStore(true)), executor_name: String::new() }
        }
    };
    v1::Input {
        info: Some(path_info(&input.id, &input.facts)),
        sources: input.sources.iter().map(source).collect(),
    }
}

fn lease(order: LeaseOrder) -> v1::Lease {
    v1::Lease {
        lease_id: order.lease.id.0,
        epoch: order.lease.epoch.0,
        derivation: Some((&order.task).into()),
        resolved_path: order.resolved_path.as_ref().map(ToString::to_string).unwrap_or_default(),
        derivation_text: bytes::Bytes::copy_from_slice(&order.text),
        platform: Some((&order.platform).into()),
        inputs: order.inputs.iter().map(input).collect(),
        trace_context: order.trace,
        limits: Some(v1::BuildLimits {
            timeout_s: order.limits.timeout_s,
            max_silent_s: order.limits.max_silent_s,
            log_bytes_max: order.limits.log_bytes_max,
        }),
    }
}

/// An event for a watcher.
pub(super) fn plan_event(sequence: u64, event: PlanEvent) -> v1::PlanEvent {
    use v1::plan_event::Event;
    let event = match event {
        PlanEvent::Snapshot(view) => Event::Snapshot(snapshot(&view)),
        PlanEvent::Task(view) => Event::TaskChanged(task(&view)),
        PlanEvent::Log { derivation, piece: Piece { log, end, text } } => {
            Event::LogChunk(v1::LogChunk { derivation: derivation.to_string(), text, log, log_end: end })
        }
        PlanEvent::Root(available) => Event::RootAvailable(root(&available)),
        PlanEvent::Waiting(wait) => Event::Waiting(waiting(&wait)),
        PlanEvent::Finished(summary) => Event::Finished(finished(&summary)),
    };
    v1::PlanEvent { sequence, event: Some(event) }
}

/// Of a plan too large for a message the tasks that matter most: what failed and what runs first, what is done last.
fn snapshot(view: &View) -> v1::Snapshot {
    let rank = |view: &&TaskView| match view.change.state {
        TaskState::Failed => 0,
        TaskState::Running => 1,
        TaskState::DependencyFailed => 2,
        TaskState::Ready => 3,
        TaskState::Waiting | TaskState::Cancelled => 4,
        TaskState::Done => 5,
    };
    let mut tasks: Vec<_> = view.tasks.iter().collect();
    tasks.sort_by_key(rank);
    v1::Snapshot {
        tasks: within(tasks.into_iter().map(task), SNAPSHOT_TASKS_BYTES_MAX),
        roots: within(view.roots.iter().map(root), SNAPSHOT_ROOTS_BYTES_MAX),
        waiting: view.waiting.iter().map(waiting).collect(),
    }
}

fn within<M: Message>(messages: impl Iterator<Item = M>, bytes_max: usize) -> Vec<M> {
    let mut bytes = 0;
    let fits = |message: &M| {
        bytes += message.encoded_len() + FIELD_BYTES_MAX;
        bytes <= bytes_max
    };
    messages.take_while(fits).collect()
}

fn task(view: &TaskView) -> v1::TaskChanged {
    let change = &view.change;
    let state = match change.state {
        TaskState::Waiting => v1::TaskState::Waiting,
        TaskState::Ready => v1::TaskState::Ready,
        TaskState::Running => v1::TaskState::Running,
        TaskState::Done => v1::TaskState::Done,
        TaskState::Failed => v1::TaskState::Failed,
        TaskState::DependencyFailed => v1::TaskState::DependencyFailed,
        TaskState::Cancelled => v1::TaskState::Cancelled,
    };
    v1::TaskChanged {
        derivation: change.task.path.to_string(),
        state: state.into(),
        executor: change.executor.as_ref().map(ToString::to_string).unwrap_or_default(),
        platform: change.platform.as_ref().map(Into::into),
        attempt: change.attempt,
        phase: view.phase.to_string(),
        failure: change.failure.as_ref().map(Into::into),
        log_tail: String::from_utf8_lossy(&view.log_tail).into_owned(),
        was_held: change.was_held,
        duration_ms: change.duration_ms,
    }
}

fn root(root: &AvailableRoot) -> v1::RootAvailable {
    v1::RootAvailable {
        derivation: root.task.path.to_string(),
        output: root.output.clone(),
        path: root.path.to_string(),
        realisation: String::new(),
    }
}

fn waiting(waiting: &Waiting) -> v1::Waiting {
    v1::Waiting {
        requirement: waiting.requirement.to_string(),
        derivations: waiting.tasks.iter().map(|task| task.path.to_string()).collect(),
        tasks_total: waiting.tasks_total,
        full_executors: waiting.full.iter().map(ToString::to_string).collect(),
    }
}

fn finished(summary: &PlanSummary) -> v1::PlanFinished {
    v1::PlanFinished {
        succeeded: summary.succeeded,
        cancelled: summary.cancelled,
        tasks_built: summary.tasks_built,
        tasks_held: summary.tasks_held,
        tasks_failed: summary.tasks_failed,
        tasks_dependency_failed: summary.tasks_dependency_failed,
        duration_ms: summary.duration_ms,
        bound_ms: summary.bound_ms,
    }
}
