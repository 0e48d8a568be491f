//! The spans of plans, of ready tasks that wait for an executor, and of leases: one trace from the client to the build.
use model::{ExecutorName, PlanId, TaskId};
use scheduler::{Grant, LeaseKey, PlanSummary, TaskChange, TaskState};
use std::collections::HashMap;
use tracing::{Span, field::Empty};

/// Ready tasks whose wait is a span of its own; more are not shown.
const QUEUED_SPANS_MAX: usize = 4_096;

/// All spans that are open.
#[derive(Debug, Default)]
pub(super) struct Traces {
    plans: HashMap<PlanId, Span>,
    queued: HashMap<TaskId, Span>,
    leases: HashMap<LeaseKey, (ExecutorName, Span)>,
}

/// The span of a plan, below the current one.
pub(super) fn plan_span(plan: PlanId, board: &str, tasks: usize) -> Span {
    let (duration_ms, bound_ms) = (Empty, Empty);
    tracing::info_span!("plan", %plan, board, tasks, duration_ms, bound_ms)
}

/// The span of a plan that an earlier run began.
pub(super) fn resumed_plan_span(plan: PlanId, board: &str, trace: &HashMap<String, String>) -> Span {
    let (is_resumed, duration_ms, bound_ms) = (true, Empty, Empty);
    let span = tracing::info_span!(parent: None, "plan", %plan, board, is_resumed, duration_ms, bound_ms);
    node::propagate::set_parent(&span, trace);
    span
}

impl Traces {
    /// A plan lives.
    pub(super) fn plan(&mut self, plan: PlanId, span: Span) {
        self.plans.insert(plan, span);
    }

    /// A plan ended: its span says how long it took over what it could not have taken less than.
    pub(super) fn plan_ended(&mut self, plan: PlanId, summary: &PlanSummary) {
        if let Some(span) = self.plans.remove(&plan) {
            span.record("duration_ms", summary.duration_ms);
            span.record("bound_ms", summary.bound_ms);
        }
    }

    /// The span of a living plan, or none.
    pub(super) fn of_plan(&self, plan: Option<PlanId>) -> Span {
        plan.and_then(|plan| self.plans.get(&plan)).cloned().unwrap_or_else(Span::none)
    }

    /// A task of a plan changed.
    pub(super) fn changed(&mut self, plan: PlanId, change: &TaskChange) {
        if change.state != TaskState::Ready {
            self.queued.remove(&change.task);
            return;
        }
        if let Some(parent) = self.plans.get(&plan)
            && self.queued.len() < QUEUED_SPANS_MAX
            && !self.queued.contains_key(&change.task)
        {
            let span = tracing::info_span!(parent: parent, "queue", derivation = %change.task.path, name = name(&change.task));
            self.queued.insert(change.task.clone(), span);
        }
    }

    /// A task is leased: gives the context for its executor.
    pub(super) fn leased(&mut self, grant: &Grant) -> HashMap<String, String> {
        self.queued.remove(&grant.task);
        let parent = self.plans.get(&grant.plan).cloned().unwrap_or_else(Span::none);
        let span = tracing::info_span!(
            parent: &parent,
            "lease",
            derivation = %grant.task.path,
            name = name(&grant.task),
            executor = %grant.executor,
            platform = %grant.platform,
            attempt = grant.attempt,
            lease = grant.lease.id.0,
            outcome = tracing::field::Empty,
        );
        let context = node::propagate::of(&span);
        self.leases.insert(grant.lease, (grant.executor.clone(), span));
        context
    }

    /// The attempt of an executor's lease ended.
    pub(super) fn reported(&mut self, executor: &ExecutorName, lease: LeaseKey, outcome: &str) {
        if self.leases.get(&lease).is_some_and(|(holder, _)| holder == executor)
            && let Some((_, span)) = self.leases.remove(&lease)
        {
            span.record("outcome", outcome);
        }
    }

    /// All leases of an executor are over.
    pub(super) fn lost(&mut self, executor: &ExecutorName) {
        for (_, (_, span)) in self.leases.extract_if(|_, (name, _)| name == executor) {
            span.record("outcome", "executor lost");
        }
    }
}

/// A derivation's name, for people: the file's name without hash and extension.
pub(super) fn name(task: &TaskId) -> &str {
    let file = task.path.as_str().rsplit('/').next().unwrap_or_default();
    let name = file.split_once('-').map_or(file, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name)
}
