//! Plans: what each wants and how far it is, its end, and what the core forgets with it.
use crate::arena::{ClassIx, ContentIx, TaskIx};
use crate::state::{Class, Phase};
use crate::{Effect, Fact, News, PlanCounts, PlanSummary, State, Timestamp};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use model::PlanId;

/// A live plan.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) admitted: Timestamp,
    /// Its tasks; true for those that were done without a build for this plan.
    pub(crate) tasks: BTreeMap<TaskIx, bool>,
    pub(crate) roots: Vec<PlanRoot>,
    /// Admitted: all of it is here.
    pub(crate) is_whole: bool,
    /// It wants something that its tasks do not make.
    pub(crate) is_malformed: bool,
    /// Tasks still to be done.
    pub(crate) open: usize,
    pub(crate) roots_pending: usize,
    /// What was built for it, and the longest way through that, each task where it takes least.
    pub(crate) work_ms: u64,
    pub(crate) path_ms: u64,
    /// The most slots that there were when something of it was built.
    pub(crate) slots_max: u64,
    /// Ready tasks by requirement.
    pub(crate) ready: BTreeMap<ClassIx, usize>,
    /// What was last told of requirements that nobody meets.
    pub(crate) waiting_told: BTreeMap<ClassIx, WaitingTold>,
}

/// What was told of a requirement that nobody meets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitingTold {
    /// Tasks that wait for it.
    pub(crate) tasks: usize,
    /// Executors that lack nothing but room.
    pub(crate) full: usize,
    pub(crate) at: Timestamp,
}

/// A wanted output.
#[derive(Debug)]
pub(crate) struct PlanRoot {
    pub(crate) task: TaskIx,
    pub(crate) output: String,
    pub(crate) content: ContentIx,
    pub(crate) state: RootState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RootState {
    Pending,
    Available,
    Failed,
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Plan {
    pub(crate) fn new(admitted: Timestamp) -> Self {
        Self {
            admitted,
            tasks: BTreeMap::new(),
            roots: Vec::new(),
            is_whole: false,
            is_malformed: false,
            open: 0,
            roots_pending: 0,
            work_ms: 0,
            path_ms: 0,
            slots_max: 0,
            ready: BTreeMap::new(),
            waiting_told: BTreeMap::new(),
        }
    }

    /// Nothing is left to wait for.
    fn is_over(&self) -> bool {
        self.is_whole && self.open == 0 && self.roots_pending == 0
    }
}

impl State {
    /// Whether some plan still waits for this content.
    pub(crate) fn has_pending_root(&self, content: ContentIx) -> bool {
        let is_pending = |(plan, position): &(PlanId, usize)| {
            let root = self.plans.get(plan).and_then(|plan| plan.roots.get(*position));
            root.is_some_and(|root| root.state == RootState::Pending)
        };
        self.contents[content].roots.iter().any(is_pending)
    }

    /// Settles all pending roots that want this content; gives their tasks.
    pub(crate) fn settle_roots(&mut self, content: ContentIx, state: RootState) -> Vec<TaskIx> {
        let mut settled = Vec::new();
        let path = self.path_of(content);
        for (id, position) in self.contents[content].roots.clone() {
            let Some(plan) = self.plans.get_mut(&id) else { continue };
            let Some(root) = plan.roots.get_mut(position) else { continue };
            if root.state != RootState::Pending {
                continue;
            }
            root.state = state;
            plan.roots_pending -= 1;
            settled.push(root.task);
            self.queues.plans.insert(id);
            if state == RootState::Available {
                let task = self.tasks[root.task].id.clone();
                let path = path.clone();
                let news = News::RootAvailable { task, output: root.output.clone(), path };
                self.out.roots.push((id, news));
            }
        }
        settled
    }

    pub(crate) fn counts(&self, id: PlanId) -> PlanCounts {
        let Some(plan) = self.plans.get(&id) else { return PlanCounts::default() };
        let held = plan.tasks.keys().filter(|task| self.tasks[**task].phase == Phase::Done).count();
        PlanCounts {
            tasks_total: count(plan.tasks.len()),
            tasks_to_build: count(plan.open),
            tasks_held: count(held),
        }
    }

    /// Ends the plans that have nothing to wait for any more. Says whether there was one.
    pub(crate) fn finish_plans(&mut self) -> bool {
        let mut has_finished = false;
        while let Some(id) = self.queues.plans.pop_first() {
            let is_over = self.plans.get(&id).is_some_and(Plan::is_over);
            if is_over {
                self.end_plan(id, false);
                has_finished = true;
            }
        }
        has_finished
    }

    /// Tells a plan's end and forgets it, and all tasks that no other plan has.
    pub(crate) fn end_plan(&mut self, id: PlanId, cancelled: bool) {
        let summary = self.summary(id, cancelled);
        if let Some(last) = self.snapshot(id) {
            self.out.push(Effect::Ended { plan: id, last });
        }
        self.out.record(Fact::PlanEnded(id, summary.clone()));
        self.out.tell(id, News::Finished(summary));
        self.out.waiting.remove(&id);
        let Some(plan) = self.plans.remove(&id) else { return };
        for root in &plan.roots {
            self.contents[root.content].roots.retain(|(other, _)| *other != id);
        }
        let mut dropped = Vec::new();
        for task in plan.tasks.into_keys() {
            let is_ready = self.tasks[task].phase == Phase::Ready;
            if is_ready {
                self.queue(task, false);
            }
            let plans = &mut self.tasks[task].plans;
            plans.retain(|other| *other != id);
            let has_none = plans.is_empty();
            if is_ready && !has_none {
                self.queue(task, true);
            }
            if has_none {
                dropped.push(task);
            }
        }
        self.drop_tasks(&dropped);
        self.release(plan.roots.iter().map(|root| root.content).collect());
        if plan.roots_pending > 0 {
            self.reconsider_pulls();
        }
        if self.plans.is_empty() {
            self.forget_given();
        }
        self.drains_changed = true;
    }

    fn summary(&self, id: PlanId, cancelled: bool) -> PlanSummary {
        let Some(plan) = self.plans.get(&id) else { return PlanSummary::default() };
        let mut summary = PlanSummary {
            succeeded: !cancelled
                && !plan.is_malformed
                && plan.roots.iter().all(|root| root.state == RootState::Available),
            cancelled,
            duration_ms: self.now.0.saturating_sub(plan.admitted.0),
            bound_ms: self.bound_ms(id),
            ..PlanSummary::default()
        };
        for (task, was_held) in &plan.tasks {
            match self.tasks[*task].phase {
                Phase::Done if *was_held => summary.tasks_held += 1,
                Phase::Done => summary.tasks_built += 1,
                Phase::Failed(_) => summary.tasks_failed += 1,
                Phase::DependencyFailed => summary.tasks_dependency_failed += 1,
                _ => {}
            }
        }
        summary
    }

    /// Forgets tasks that no plan has. Content by content, since thousands may use the same.
    fn drop_tasks(&mut self, dropped: &[TaskIx]) {
        let mut touched = BTreeSet::new();
        for place in dropped {
            self.cancel_leases(*place);
            self.set_phase(*place, Phase::Idle);
            let task = &self.tasks[*place];
            touched.extend(task.inputs.iter().copied());
            touched.extend(self.made_by(*place));
        }
        for content in &touched {
            let Self { contents, tasks, .. } = self;
            contents[*content].users.retain(|user| !tasks[*user].plans.is_empty());
            contents[*content].makers.retain(|maker| !tasks[*maker].plans.is_empty());
        }
        for place in dropped {
            for position in 0..self.tasks[*place].outputs.len() {
                let content = self.tasks[*place].outputs[position].content;
                self.loosen(content);
            }
            let class = self.tasks[*place].class;
            self.unname_task(*place);
            self.tasks.remove(*place);
            self.out.changed.remove(place);
            self.leave_class(class);
        }
        for content in &touched {
            // Another plan's task may have counted on a task that is gone.
            self.demand_if_needed(*content);
            self.forget_if_unused(*content);
        }
        self.release(touched.into_iter().collect());
    }

    fn leave_class(&mut self, place: ClassIx) {
        let class = &mut self.classes[place];
        class.tasks_len = class.tasks_len.saturating_sub(1);
        if class.tasks_len == 0 {
            let Class { requirement, .. } = core::mem::take(class);
            self.class_places.remove(&requirement);
            self.classes.remove(place);
        }
    }
}
