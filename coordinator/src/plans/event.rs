//! What watchers are told about a plan.
use super::Piece;
use model::StorePath;
use scheduler::{AvailableRoot, PlanSummary, TaskChange, Waiting};
use std::sync::Arc;

/// One event of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlanEvent {
    /// All that earlier events said.
    Snapshot(Arc<View>),
    /// A task changed.
    Task(TaskView),
    /// Next bytes of a build log.
    Log {
        /// Whose.
        derivation: StorePath,
        /// Any bytes, and their place.
        piece: Piece,
    },
    /// A wanted output can be fetched.
    Root(AvailableRoot),
    /// A requirement that nobody meets, or that is met again.
    Waiting(Waiting),
    /// The plan ended: the last event.
    Finished(PlanSummary),
}

#[cfg(test)]
impl PlanEvent {
    pub(super) fn root_for_tests(number: usize) -> Self {
        let path = StorePath::from_validated("/nix/store/x.drv");
        let task = model::ContentId { domain: model::TrustDomain::Shared, path: path.clone() };
        Self::Root(AvailableRoot { task, output: number.to_string(), path })
    }
}

/// A task with what its executor says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskView {
    /// Where it is.
    pub change: TaskChange,
    /// Phase of its build, when it said so.
    pub phase: Arc<str>,
    /// The end of its log, when it failed.
    pub log_tail: Arc<[u8]>,
}

/// Where a plan is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Its tasks.
    pub tasks: Vec<TaskView>,
    /// Wanted outputs that can be fetched.
    pub roots: Vec<AvailableRoot>,
    /// Requirements that nobody meets.
    pub waiting: Vec<Waiting>,
}
