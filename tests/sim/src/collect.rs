//! Executors' stores with limits: what they would like to drop, what they may, and that nothing is built again for it.
use crate::bits::Bits;
use crate::world::World;
use model::ContentId;
use scheduler::{Event, Held};
use std::collections::BTreeMap;

/// What executors were allowed to drop, with how many plans had been admitted by then, where nobody else had it.
#[derive(Default)]
pub struct Dropped {
    plans: Vec<u8>,
    last_ones: BTreeMap<usize, usize>,
}

impl Dropped {
    pub fn admitted(&mut self, plan: u8) {
        self.plans.push(plan);
    }

    /// Plans that were admitted after content had been dropped.
    fn since(&self, content: usize) -> &[u8] {
        self.last_ones.get(&content).map_or(&[], |plans| &self.plans[*plans..])
    }
}

impl World {
    /// What an executor uses, and what it has made and nobody has acknowledged.
    fn in_use(&self, position: usize) -> Bits {
        let truth = |task| &self.graph.truths[self.graph.task_places[task]];
        let executor = &self.executors[position];
        let mut used = Bits::default();
        for (_, job) in &executor.running {
            used.add_all(&truth(&job.task).inputs_closure);
            truth(&job.task).outputs.iter().for_each(|output| _ = used.add(*output));
        }
        for (_, job, _) in &executor.finished {
            truth(&job.task).outputs.iter().for_each(|output| _ = used.add(*output));
        }
        used
    }

    /// An executor that has more than it may have asks what may go: one question at a time.
    pub fn ask_for_room(&mut self, position: usize) {
        let used = self.in_use(position);
        let executor = &mut self.executors[position];
        let can = executor.is_linked && executor.is_up && !executor.is_frozen && !executor.is_asking;
        if !can || executor.disk.iter().count() <= executor.disk_max {
            return;
        }
        let random = &mut self.random;
        let unused = executor.disk.without(&used).iter().filter(|_| random.once_in(2));
        let contents: Vec<ContentId> =
            unused.map(|content| self.graph.contents[content].id.clone()).collect();
        if contents.is_empty() {
            return;
        }
        executor.is_asking = true;
        executor.question += 1;
        let (number, executor_name) = (executor.question, executor.name.clone());
        executor.outbox.push_back(Event::ExecutorWouldDrop { executor: executor_name, number, contents });
    }

    /// The answer: what is in use stays, and the coordinator hears of it. It may be one to an older question.
    pub fn answered(&mut self, position: usize, number: u64, contents: &[ContentId]) {
        let used = self.in_use(position);
        let executor = &mut self.executors[position];
        if executor.question != number || !std::mem::take(&mut executor.is_asking) {
            return;
        }
        let mut kept = vec![];
        for id in contents {
            let content = self.graph.content_places[id];
            if used.has(content) && executor.disk.has(content) {
                kept.push(self.graph.contents[content].known(vec![]));
            } else {
                self.tally.dropped += u64::from(executor.disk.remove(content));
            }
        }
        if !kept.is_empty() {
            let held = Held { executor: executor.name.clone(), contents: kept, is_last: false };
            executor.outbox.push_back(Event::ExecutorHolds(held));
        }
    }

    /// What may be dropped is noted, where nobody else has it.
    pub fn check_drops(&mut self, contents: &[ContentId]) {
        for id in contents {
            let content = self.graph.content_places[id];
            if !self.belief.has_holder(content) {
                self.dropped.last_ones.insert(content, self.dropped.plans.len());
            }
        }
    }

    /// Whether a task is built again because what it makes was dropped, and only then somebody wanted it.
    pub fn is_for_a_later_plan(&self, task: usize) -> bool {
        let truths = &self.graph.truths;
        truths[task].outputs.iter().any(|output| {
            // Another task may make the same.
            let makes = |other: usize| truths[other].outputs.contains(output);
            let wants = |plan: &u8| self.plans[plan].tasks.iter().any(makes);
            self.dropped.since(*output).iter().any(wants)
        })
    }
}
