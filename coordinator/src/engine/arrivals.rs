//! Large plans go to the core in parts, and between two parts the engine looks at its queue.
use super::run::{Beginning, Engine};
use crate::journal::{AdmittedPlan, Entry};
use model::{TaskId, TaskSpec};
use scheduler::{Event, KnownContent, NewPlan, PlanCounts, PlanPart};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use tracing::Span;

/// Tasks, or contents, of one part: a few milliseconds.
const PART_MAX: usize = 1_000;

/// A plan on its way to the core.
pub(super) struct Arrival {
    /// What comes last.
    last: NewPlan,
    /// What is still to come before.
    contents: std::vec::IntoIter<KnownContent>,
    tasks: std::vec::IntoIter<TaskSpec>,
    tasks_len: usize,
    comes_in_parts: bool,
    board: Arc<str>,
    span: Span,
    done: oneshot::Sender<PlanCounts>,
}

impl Arrival {
    fn new(mut plan: NewPlan, board: Arc<str>, span: Span, done: oneshot::Sender<PlanCounts>) -> Self {
        let (contents, tasks) = (std::mem::take(&mut plan.contents), std::mem::take(&mut plan.tasks));
        let tasks_len = tasks.len();
        let comes_in_parts = contents.len() + tasks_len > PART_MAX;
        let (contents, tasks) = (contents.into_iter(), tasks.into_iter());
        Self { last: plan, contents, tasks, tasks_len, comes_in_parts, board, span, done }
    }

    /// The next part; nothing when only the last word is left, or the plan is small. Tasks come after all contents, inputs before dependents.
    fn part(&mut self) -> Option<PlanPart> {
        if !self.comes_in_parts || self.contents.len() + self.tasks.len() == 0 {
            return None;
        }
        let contents: Vec<_> = self.contents.by_ref().take(PART_MAX).collect();
        let tasks = self.tasks.by_ref().take(PART_MAX - contents.len()).collect();
        Some(PlanPart { id: self.last.id, tasks, contents, bindings: Vec::new() })
    }
}

fn ids(tasks: &[TaskSpec]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.id.clone()).collect()
}

impl Engine {
    /// A plan is to be admitted.
    pub(super) fn expect(
        &mut self,
        plan: NewPlan,
        board: Arc<str>,
        span: Span,
        done: oneshot::Sender<PlanCounts>,
    ) {
        self.parts.plans.begin(plan.id, &board, plan.tasks.len(), true);
        self.arrivals.push_back(Arrival::new(plan, board, span, done));
    }

    /// Whether there is something for [`Engine::arrive`].
    pub(super) fn is_arriving(&self) -> bool {
        self.is_to_be_placed || !self.arrivals.is_empty()
    }

    /// Hands the next part of the plan that came first to the core.
    pub(super) fn arrive(&mut self) {
        if std::mem::take(&mut self.is_to_be_placed) {
            return self.apply(Event::Tick);
        }
        let Some(arrival) = self.arrivals.front_mut() else { return };
        if let Some(mut part) = arrival.part() {
            let tasks = ids(&part.tasks);
            self.parts.plans.want(part.id, tasks.as_slice().into(), true);
            self.parts_of_plans.push(Entry::PlanTasks(part.id, tasks));
            self.name_holders(&mut part.contents);
            return self.apply(Event::PlanArrives(part));
        }
        let Some(Arrival { mut last, contents, tasks, tasks_len, comes_in_parts, board, span, done }) =
            self.arrivals.pop_front()
        else {
            return;
        };
        (last.contents, last.tasks) = (contents.collect(), tasks.collect());
        let tasks = ids(&last.tasks);
        self.parts.plans.want(last.id, tasks.as_slice().into(), true);
        // The core places a large plan with the event after this.
        self.is_to_be_placed = comes_in_parts;
        tracing::info!(parent: &span, plan = %last.id, %board, tasks = tasks_len, "plan admitted");
        self.remember(Entry::PlanAdmitted(AdmittedPlan {
            id: last.id,
            board,
            roots: last.roots.clone(),
            tasks,
            trace: node::propagate::of(&span),
            admitted_unix_ms: unix_ms(),
        }));
        self.begin(Beginning { plan: last.id, span, done: Some(done) }, last);
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
