//! A plan is ended by somebody.
use crate::arena::TaskIx;
use crate::{News, State, TaskChange, TaskState};
use alloc::vec::Vec;
use model::PlanId;

impl State {
    /// Ends a plan that nobody wants any more; tasks that no other plan wants are cancelled.
    pub(crate) fn cancel_plan(&mut self, id: PlanId) {
        let Some(plan) = self.plans.get(&id) else { return };
        let is_only_here = |task: &&TaskIx| {
            let task = &self.tasks[**task];
            task.phase.is_open() && task.plans.len() == 1
        };
        let cancelled: Vec<TaskChange> = plan
            .tasks
            .keys()
            .filter(is_only_here)
            .filter_map(|task| self.change(*task, plan))
            .map(|change| TaskChange { state: TaskState::Cancelled, ..change })
            .collect();
        for change in cancelled {
            self.out.tell(id, News::Task(change));
        }
        self.end_plan(id, true);
    }
}
