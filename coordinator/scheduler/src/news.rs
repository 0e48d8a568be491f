//! What those who watch a plan are told, at the end of each event; and snapshots for those who come later.
use crate::arena::ClassIx;
use crate::plan::{Plan, RootState, WaitingTold};
use crate::{AvailableRoot, News, Snapshot, State, TaskChange, TaskState, Waiting};
use alloc::vec::Vec;
use core::mem;
use model::{ExecutorName, PlanId};

/// Tasks that a plan may have whose tasks are told one by one when it is admitted: who watches a larger one needs a [`Snapshot`] first.
pub const TASKS_TOLD_MAX: usize = 4_096;
/// Tasks named in one word about a requirement that nobody meets.
const WAITING_TASKS_MAX: usize = 20;
/// Full executors named in it.
const WAITING_EXECUTORS_MAX: usize = 20;
/// Shortest time between two words about the same requirement that differ in the number of tasks only.
const WAITING_NEWS_INTERVAL_MS: u64 = 5_000;

impl State {
    /// Where a live plan is; `None` for a plan that ended or was never admitted.
    pub fn snapshot(&self, plan: PlanId) -> Option<Snapshot> {
        let plan_id = plan;
        let plan = self.plans.get(&plan_id)?;
        let tasks = plan.tasks.keys().filter_map(|task| self.change(*task, plan)).collect();
        let available = plan.roots.iter().filter(|root| root.state == RootState::Available);
        let roots = available.map(|root| AvailableRoot {
            task: self.tasks[root.task].id.clone(),
            output: root.output.clone(),
            path: self.path_of(root.content),
        });
        let waiting = plan.waiting_told.keys().map(|class| self.waiting(plan_id, plan, *class));
        Some(Snapshot { tasks, roots: roots.collect(), waiting: waiting.collect() })
    }

    fn waiting(&self, id: PlanId, plan: &Plan, class: ClassIx) -> Waiting {
        let ready = self.classes[class].ready.values().flatten().map(|(_, _, task)| &self.tasks[*task]);
        let tasks = ready.filter(|task| task.plans.contains(&id)).take(WAITING_TASKS_MAX);
        let full = self.full(class).take(WAITING_EXECUTORS_MAX).cloned();
        Waiting {
            requirement: self.classes[class].requirement.clone(),
            tasks: tasks.map(|task| task.id.clone()).collect(),
            tasks_total: u32::try_from(plan.ready.get(&class).copied().unwrap_or(0)).unwrap_or(u32::MAX),
            full: full.collect(),
        }
    }

    /// Executors that meet a requirement and have no room.
    fn full(&self, class: ClassIx) -> impl Iterator<Item = &ExecutorName> {
        let executors = self.executors.places().map(|place| &self.executors[place]);
        let is_full = move |executor: &&crate::state::Executor| {
            let requirement = &self.classes[class].requirement;
            executor.is_full
                && executor.may_get_leases_with_room()
                && requirement.platform_in(&executor.capability).is_some()
        };
        executors.filter(is_full).map(|executor| &executor.name)
    }

    /// Tells what changed since it was last told.
    pub(crate) fn tell(&mut self) {
        self.tell_tasks();
        for (plan, news) in mem::take(&mut self.out.roots) {
            self.out.tell(plan, news);
        }
        if !self.is_in_grace() {
            self.tell_waiting();
        }
    }

    fn tell_tasks(&mut self) {
        let admitted = self.out.admitted.take();
        for task in mem::take(&mut self.out.changed) {
            for id in self.tasks[task].plans.iter().filter(|id| admitted != Some(**id)) {
                let Some(plan) = self.plans.get(id) else { continue };
                // A task that rests is told as cancelled: nobody wants it now.
                let change = self.change(task, plan).unwrap_or_else(|| TaskChange {
                    task: self.tasks[task].id.clone(),
                    state: TaskState::Cancelled,
                    executor: None,
                    platform: None,
                    attempt: self.tasks[task].attempts,
                    failure: None,
                    was_held: false,
                    duration_ms: 0,
                });
                self.out.tell(*id, News::Task(change));
            }
        }
        if let Some((id, plan)) = admitted.and_then(|id| Some((id, self.plans.get(&id)?)))
            && plan.tasks.len() <= TASKS_TOLD_MAX
        {
            for task in plan.tasks.keys() {
                if let Some(change) = self.change(*task, plan) {
                    self.out.tell(id, News::Task(change));
                }
            }
        }
    }

    /// Says which requirements of ready tasks nobody meets, and which are met again.
    fn tell_waiting(&mut self) {
        for id in mem::take(&mut self.out.waiting) {
            let Some(plan) = self.plans.get(&id) else { continue };
            let mut classes: Vec<ClassIx> = plan.ready.keys().copied().collect();
            classes.extend(plan.waiting_told.keys().filter(|class| !plan.ready.contains_key(class)));
            for class in classes {
                self.tell_waiting_of(id, class);
            }
        }
    }

    fn tell_waiting_of(&mut self, id: PlanId, class: ClassIx) {
        self.refresh_class(class);
        let Some(plan) = self.plans.get(&id) else { return };
        let is_met = !self.classes[class].eligible.is_empty();
        let number = if is_met { 0 } else { plan.ready.get(&class).copied().unwrap_or(0) };
        let full = self.full(class).count();
        let due = match plan.waiting_told.get(&class) {
            None => number > 0,
            Some(told) if (told.tasks, told.full) == (number, full) => false,
            Some(told) if number == 0 || (told.full == 0) != (full == 0) => true,
            Some(told) if self.now.0.saturating_sub(told.at.0) >= WAITING_NEWS_INTERVAL_MS => true,
            Some(_) => {
                // Told later: asked again at the next tick.
                self.out.waiting_later.insert(id);
                false
            }
        };
        if !due {
            return;
        }
        let waiting = if number > 0 {
            self.waiting(id, plan, class)
        } else {
            let requirement = self.classes[class].requirement.clone();
            Waiting { requirement, tasks: Vec::new(), tasks_total: 0, full: Vec::new() }
        };
        let at = self.now;
        let Some(plan) = self.plans.get_mut(&id) else { return };
        if number > 0 {
            plan.waiting_told.insert(class, WaitingTold { tasks: number, full, at });
        } else {
            plan.waiting_told.remove(&class);
        }
        self.out.tell(id, News::Waiting(waiting));
    }
}
