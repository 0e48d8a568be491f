//! Prefetch: whoever is busy is told what the tasks that will most likely come next need, and fetches it while it builds.
//!
//! A hint and no more: nothing is promised, nothing waits for it, and it is looked at with the ticks alone.
use crate::arena::{ExecutorIx, TaskIx};
use crate::memory::Rooms;
use crate::place::{Queue, SlotTimes};
use crate::{Effect, State};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use model::limits::PREFETCHED_INPUTS_MAX;

/// Fewer bytes that are missing are fetched as fast as they are told of.
const MISSING_BYTES_MIN: u64 = 1 << 20;

impl State {
    /// Tells busy executors what to fetch: for as many tasks as they have slots, each once.
    pub(crate) fn prefetch(&mut self) {
        if self.is_in_grace() || !self.unlevelled.is_empty() {
            return;
        }
        let mut hinted: BTreeMap<ExecutorIx, BTreeSet<TaskIx>> = BTreeMap::new();
        for (task, executor) in self.next_tasks() {
            hinted.entry(executor).or_default().insert(task);
            if !self.executors[executor].hinted.contains(&task) {
                self.hint(task, executor);
            }
        }
        for executor in self.executors.places().collect::<Vec<_>>() {
            self.executors[executor].hinted = hinted.remove(&executor).unwrap_or_default();
        }
    }

    /// Ready tasks that wait for a slot, and where each would go as far as anybody can tell, if there is something to be fetched for it.
    fn next_tasks(&self) -> Vec<(TaskIx, ExecutorIx)> {
        let mut slots = SlotTimes::of(self);
        let mut rooms = Rooms::of(self);
        let mut queue = Queue::of(self);
        let mut next = Vec::new();
        for _ in 0..slots.len() {
            let Some((task, class, plan)) = queue.next() else { break };
            let (candidates, inputs) = self.candidates(task, class, (&slots, &rooms), &[]);
            let Some(first) = candidates.into_iter().min_by_key(|candidate| candidate.end_ms) else {
                continue;
            };
            slots.take(first.executor, first.end_ms);
            rooms.take(first.executor, first.end_ms, self.memory_bytes(task));
            queue.charge(plan);
            let is_worth_it = inputs.bytes.saturating_sub(first.held_bytes) >= MISSING_BYTES_MIN;
            if first.begin_ms > 0 && is_worth_it {
                next.push((task, first.executor));
            }
        }
        next
    }

    fn hint(&mut self, task: TaskIx, executor: ExecutorIx) {
        let inputs = self.tasks[task].inputs.clone();
        let mut closure = self.closure(&inputs);
        closure.retain(|content| {
            let is_missing = !self.executors[executor].holds.contains(content);
            is_missing && !self.contents[*content].id.path.is_promise()
        });
        closure.truncate(PREFETCHED_INPUTS_MAX);
        let Some(plan) = self.tasks[task].plans.first().copied() else { return };
        if closure.is_empty() || !self.is_in_reach(&closure, executor) {
            return;
        }
        let turn = self.next_lease;
        let inputs = closure.into_iter().map(|content| self.granted_input(content, executor, turn)).collect();
        self.out.push(Effect::Prefetch { executor: self.executors[executor].name.clone(), inputs, plan });
    }
}
