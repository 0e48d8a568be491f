//! Events in a line each, for whoever plays one seed.
use crate::common::short;
use model::Outcome;
use scheduler::Event;

/// An event without the long parts.
pub fn event(event: &Event) -> String {
    match event {
        Event::PlanAdmitted(plan) => format!(
            "PlanAdmitted {}: {} tasks, {} roots, {} contents",
            plan.id.0[0],
            plan.tasks.len(),
            plan.roots.len(),
            plan.contents.len()
        ),
        Event::PlanArrives(part) => {
            format!(
                "PlanArrives {}: {} tasks, {} contents",
                part.id.0[0],
                part.tasks.len(),
                part.contents.len()
            )
        }
        Event::PlanCancelled(plan) => format!("PlanCancelled {}", plan.0[0]),
        Event::ExecutorConnected { executor, boot, running, .. } => {
            format!("ExecutorConnected {executor}, boot {}, runs {}", boot.0[0], running.len())
        }
        Event::ExecutorHolds(held) => format!(
            "ExecutorHolds {}: {}{}",
            held.executor,
            held.contents.iter().map(|known| short(&known.id.path)).collect::<Vec<_>>().join(" "),
            if held.is_last { ", no more" } else { "" }
        ),
        Event::Heartbeat { executor, running, is_full } => {
            let running: Vec<String> = running.iter().map(|key| key.id.0.to_string()).collect();
            let full = if *is_full { ", full" } else { "" };
            format!("Heartbeat {executor}: {}{full}", running.join(" "))
        }
        Event::ExecutorWouldDrop { executor, number, contents } => {
            let names: Vec<String> = contents.iter().map(|id| short(&id.path)).collect();
            format!("ExecutorWouldDrop {executor}, question {number}: {}", names.join(" "))
        }
        Event::AttemptUsed { executor, lease, memory_bytes, fetched_bytes, fetch_ms } => format!(
            "AttemptUsed {executor}, lease {}: {memory_bytes} bytes of memory, {fetched_bytes} fetched in {fetch_ms} ms",
            lease.id.0
        ),
        Event::LeaseReported { executor, lease, task, outcome } => {
            let outcome = match outcome {
                Outcome::Built(outputs) => format!("{} outputs", outputs.len()),
                Outcome::Failed(failure) => format!("{:?}", failure.class),
            };
            format!("LeaseReported {executor}, lease {} of {}: {outcome}", lease.id.0, short(&task.path))
        }
        Event::Resolved { task, number, .. } => format!("Resolved {}, question {number}", short(&task.path)),
        Event::Stored(content) => format!("Stored {}", short(&content.path)),
        Event::PullFailed { content, from } => {
            format!("PullFailed {} from {}", short(&content.path), from.len())
        }
        Event::Remembered(measured) => format!("Remembered {}", measured.len()),
        other => format!("{other:?}"),
    }
}
