//! Levels: what is left to do from the beginning of a task to the end of the last one that waits for it, in milliseconds.
//!
//! The largest level is the critical path. Levels follow what was measured: after every so many measurements they are
//! counted anew, which costs each measurement a constant number of tasks.
use crate::State;
use crate::arena::{ClassIx, ContentIx, ExecutorIx, Place, TaskIx};
use crate::estimate::is_emulated;
use alloc::{vec, vec::Vec};
use core::cmp::Reverse;

/// Measurements after which all levels are counted anew; with more than as many tasks of this number, more.
const MEASUREMENTS_MIN: u64 = 8;
const TASKS_PER_MEASUREMENT: u64 = 2;

impl State {
    /// Counts the levels of a large plan that was admitted with the last event: until then nothing was placed.
    pub(crate) fn level_admitted(&mut self) {
        if !self.unlevelled.is_empty() {
            let tasks = core::mem::take(&mut self.unlevelled);
            self.count_levels(&tasks);
            self.placement_due = true;
        }
    }

    /// Counts levels anew if enough was measured since.
    pub(crate) fn refresh_levels(&mut self) {
        let tasks = u64::try_from(self.task_names.len()).unwrap_or(u64::MAX);
        let enough = MEASUREMENTS_MIN.max(tasks / TASKS_PER_MEASUREMENT);
        let measured = self.estimates.measured();
        let has_new_speeds = self.levels_version != self.executors_version;
        if measured.saturating_sub(self.levels_measured) < enough && !has_new_speeds {
            return;
        }
        self.levels_measured = measured;
        self.levels_version = self.executors_version;
        let all: Vec<TaskIx> = self.task_names.iter().collect();
        for place in &all {
            if self.tasks[*place].phase.is_open() {
                self.estimate(*place);
            }
        }
        self.count_levels(&all);
    }

    /// Counts the levels of these tasks from the last to the first. Those in a circle count for themselves.
    pub(crate) fn count_levels(&mut self, tasks: &[TaskIx]) {
        let only_makers = self.only_makers();
        let mut users_left = vec![0_u32; self.tasks.places_len()];
        for place in tasks {
            for maker in self.makers_of_inputs(*place, &only_makers) {
                users_left[maker.position()] += 1;
            }
        }
        let mut levels: Vec<u64> = vec![0; self.tasks.places_len()];
        let mut is_counted = vec![false; self.tasks.places_len()];
        let mut work: Vec<TaskIx> =
            tasks.iter().copied().filter(|place| users_left[place.position()] == 0).collect();
        for place in &work {
            is_counted[place.position()] = true;
        }
        while let Some(place) = work.pop() {
            let task = &self.tasks[place];
            let is_to_do = task.phase.is_open();
            let own = if is_to_do { task.best_ms } else { 0 };
            let level = levels[place.position()].saturating_add(own);
            self.set_level(place, level.max(1));
            for maker in self.makers_of_inputs(place, &only_makers) {
                let at = maker.position();
                // What is there already waits for nobody.
                if is_to_do {
                    levels[at] = levels[at].max(level);
                }
                users_left[at] = users_left[at].saturating_sub(1);
                if users_left[at] == 0 && !is_counted[at] {
                    is_counted[at] = true;
                    work.push(maker);
                }
            }
        }
    }

    /// The maker of each content that has one alone: close together, since they are looked at once for each input.
    fn only_makers(&self) -> Vec<Option<TaskIx>> {
        let only = |content| match self.contents[content].makers.as_slice() {
            [only] => Some(*only),
            _ => None,
        };
        self.contents.places().map(only).collect()
    }

    fn makers_of_inputs<'a>(
        &'a self,
        place: TaskIx,
        only_makers: &'a [Option<TaskIx>],
    ) -> impl Iterator<Item = TaskIx> + 'a {
        let makers = |input: &ContentIx| match &only_makers[input.position()] {
            Some(only) => core::slice::from_ref(only),
            None => self.contents[*input].makers.as_slice(),
        };
        self.tasks[place].inputs.iter().flat_map(makers).copied()
    }

    /// Estimates a task, on whoever is fastest.
    pub(crate) fn estimate(&mut self, place: TaskIx) {
        self.refresh_class(self.tasks[place].class);
        let described = self.tasks[place].described;
        let work_ms = [false, true].map(|is_emulated| self.estimates.work_ms(described, is_emulated));
        self.tasks[place].work_ms = work_ms;
        let best = self.best_ms(place);
        self.tasks[place].best_ms = best;
    }

    /// What a task takes where it takes least.
    fn best_ms(&self, place: TaskIx) -> u64 {
        let class: ClassIx = self.tasks[place].class;
        let eligible = &self.classes[class].eligible;
        let times = eligible
            .iter()
            .map(|(executor, platform)| self.takes_ms(place, *executor, is_emulated(platform)));
        times.min().unwrap_or(self.tasks[place].work_ms[0])
    }

    /// What a task takes on an executor.
    pub(crate) fn takes_ms(&self, place: TaskIx, executor: ExecutorIx, is_emulated: bool) -> u64 {
        self.on_executor(self.tasks[place].work_ms[usize::from(is_emulated)], executor, is_emulated)
    }

    /// What takes so long on most takes here.
    pub(crate) fn on_executor(&self, work_ms: u64, executor: ExecutorIx, is_emulated: bool) -> u64 {
        self.estimates.on_ms(work_ms, executor, self.executors[executor].speed(), is_emulated)
    }

    /// A ready task waits in the order of its level.
    fn set_level(&mut self, place: TaskIx, level: u64) {
        let task = &mut self.tasks[place];
        if task.level == level {
            return;
        }
        let former = core::mem::replace(&mut task.level, level);
        let Some(plan) = task.plans.first() else { return };
        if let Some(ready) = self.classes[task.class].ready.get_mut(plan)
            && ready.remove(&(Reverse(former), task.id.clone(), place))
        {
            ready.insert((Reverse(level), task.id.clone(), place));
        }
    }
}
