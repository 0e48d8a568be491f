//! Changes of a task's phase, and everything that is counted by phase.
use crate::arena::TaskIx;
use crate::plan::Plan;
use crate::state::Phase;
use crate::{State, TaskChange, TaskState};
use core::cmp::Reverse;
use core::mem;
use model::PlanId;

impl State {
    /// Moves a task to a phase: all counts follow, and its plans will hear of it.
    pub(crate) fn set_phase(&mut self, place: TaskIx, phase: Phase) {
        let task = &mut self.tasks[place];
        let (is_open, is_ready) = (phase.is_open(), phase == Phase::Ready);
        let former = mem::replace(&mut task.phase, phase);
        let was_ready = former == Phase::Ready;
        if was_ready != is_ready {
            self.queue(place, is_ready);
        }
        let task = &self.tasks[place];
        for id in &task.plans {
            let Some(plan) = self.plans.get_mut(id) else { continue };
            plan.open = plan.open + usize::from(is_open) - usize::from(former.is_open());
            if was_ready != is_ready {
                plan.count_ready(task.class, is_ready);
                self.out.waiting.insert(*id);
            }
            if !is_open {
                self.queues.plans.insert(*id);
            }
        }
        // All tasks of a plan that is admitted are told anyway.
        if self.out.admitted.is_none()
            || task.plans.len() != 1
            || task.plans.first().copied() != self.out.admitted
        {
            self.out.changed.insert(place);
        }
    }

    /// A task's outputs are there, by a build or because somebody has them.
    pub(crate) fn done(&mut self, place: TaskIx, was_held: bool) {
        for id in &self.tasks[place].plans {
            if let Some(plan) = self.plans.get_mut(id) {
                plan.tasks.insert(place, was_held);
            }
        }
        self.set_phase(place, Phase::Done);
    }

    /// A task joins a plan, in whatever phase it is.
    pub(crate) fn join(&mut self, place: TaskIx, id: PlanId) {
        let task = &mut self.tasks[place];
        let Some(plan) = self.plans.get_mut(&id) else { return };
        if plan.tasks.insert(place, task.phase == Phase::Done).is_some() {
            return;
        }
        // Most have one plan for ever.
        task.plans.reserve_exact(1);
        task.plans.push(id);
        plan.open += usize::from(task.phase.is_open());
        if task.phase == Phase::Ready {
            plan.count_ready(task.class, true);
            self.out.waiting.insert(id);
        }
    }

    /// Puts a task into its line of ready tasks, or takes it out.
    pub(crate) fn queue(&mut self, place: TaskIx, is_ready: bool) {
        let task = &self.tasks[place];
        let Some(plan) = task.plans.first() else { return };
        let key = (Reverse(task.level), task.id.clone(), place);
        self.placement_due |= is_ready;
        let lines = &mut self.classes[task.class].ready;
        if is_ready {
            lines.entry(*plan).or_default().insert(key);
        } else if let Some(line) = lines.get_mut(plan) {
            line.remove(&key);
            if line.is_empty() {
                lines.remove(plan);
            }
        }
    }

    /// A task as one of its plans sees it; `None` while it need not be built and is not there.
    pub(crate) fn change(&self, place: TaskIx, plan: &Plan) -> Option<TaskChange> {
        let task = &self.tasks[place];
        let mut change = TaskChange {
            task: task.id.clone(),
            state: TaskState::Waiting,
            executor: None,
            platform: None,
            attempt: task.attempts,
            failure: None,
            was_held: false,
            duration_ms: 0,
        };
        change.state = match &task.phase {
            Phase::Idle => return None,
            Phase::Waiting | Phase::Resolving | Phase::Shared => TaskState::Waiting,
            Phase::Ready => TaskState::Ready,
            Phase::Running(_) => TaskState::Running,
            Phase::Done => TaskState::Done,
            Phase::Failed(_) => TaskState::Failed,
            Phase::DependencyFailed => TaskState::DependencyFailed,
        };
        match &task.phase {
            Phase::Running(lease) => {
                let lease = self.leases.get(lease);
                change.executor = lease.map(|lease| self.executors[lease.executor].name.clone());
                change.platform = lease.map(|lease| lease.platform.clone());
            }
            Phase::Done if plan.tasks.get(&place) == Some(&true) => {
                change.was_held = true;
                change.attempt = 0;
            }
            Phase::Done | Phase::Failed(_) => {
                if let Some(last) = &task.past().last {
                    change.executor = Some(self.executors[last.executor].name.clone());
                    change.platform.clone_from(&last.platform);
                    change.duration_ms = last.duration_ms;
                }
            }
            _ => {}
        }
        if let Phase::Failed(failure) = &task.phase {
            change.failure = Some((**failure).clone());
        }
        Some(change)
    }
}

impl Plan {
    fn count_ready(&mut self, class: crate::arena::ClassIx, is_one_more: bool) {
        let ready = self.ready.entry(class).or_default();
        *ready = if is_one_more { *ready + 1 } else { ready.saturating_sub(1) };
        if *ready == 0 {
            self.ready.remove(&class);
        }
    }
}
