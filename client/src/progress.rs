//! Where a plan is: what its events add up to. Pure.
use crate::event::{Finished, PlanEvent, Root, TaskChange, TaskState, Waiting};
use model::StorePath;
use std::collections::HashMap;

/// Failures whose log tails are kept; a plan with more has a common cause.
const FAILURES_KEPT_MAX: usize = 100;

/// What is known of a plan.
#[derive(Debug, Default)]
pub struct Progress {
    states: HashMap<StorePath, TaskState>,
    /// What failed, in the order of the news.
    pub failures: Vec<TaskChange>,
    /// How it ended.
    pub finished: Option<Finished>,
    /// Requirements that nobody meets now.
    pub waiting: Vec<Waiting>,
    /// Wanted outputs that are available, each once.
    pub roots: Vec<Root>,
}

impl Progress {
    /// Adds an event.
    pub fn apply(&mut self, event: &PlanEvent) {
        match event {
            PlanEvent::Snapshot { tasks, roots, waiting } => {
                self.states.clear();
                self.waiting.clone_from(waiting);
                tasks.iter().for_each(|task| self.task(task));
                roots.iter().for_each(|root| self.root(root));
            }
            PlanEvent::Task(task) => self.task(task),
            PlanEvent::Log { .. } => {}
            PlanEvent::Root(root) => self.root(root),
            PlanEvent::Waiting(waiting) => {
                self.waiting.retain(|known| known.requirement != waiting.requirement);
                if waiting.tasks_total > 0 {
                    self.waiting.push(waiting.clone());
                }
            }
            PlanEvent::Finished(finished) => self.finished = Some(*finished),
        }
    }

    fn task(&mut self, task: &TaskChange) {
        self.states.insert(task.derivation.clone(), task.state);
        if matches!(task.state, TaskState::Failed | TaskState::DependencyFailed) {
            let is_known = self.failures.iter().any(|known| known.derivation == task.derivation);
            if !is_known && self.failures.len() < FAILURES_KEPT_MAX {
                self.failures.push(task.clone());
            }
        }
    }

    fn root(&mut self, root: &Root) {
        if !self.roots.contains(root) {
            self.roots.push(root.clone());
        }
    }

    /// How many tasks are in a state, of those that were heard of.
    pub fn count(&self, state: TaskState) -> usize {
        self.states.values().filter(|known| **known == state).count()
    }

    /// How many tasks were heard of.
    pub fn tasks_known(&self) -> usize {
        self.states.len()
    }
}
