//! One event after another.
use crate::{Effect, Event, State, Timestamp};
use alloc::vec::Vec;

/// Applies an event: changes the state, and says what is to be done, facts first. Never panics, whatever the event.
pub fn apply(state: &mut State, event: Event, now: Timestamp) -> Vec<Effect> {
    state.now = state.now.max(now);
    state.started.get_or_insert(state.now);
    state.level_admitted();
    match event {
        Event::PlanArrives(part) => state.arrive(&part),
        Event::PlanAdmitted(plan) => state.admit(plan),
        Event::PlanCancelled(plan) => state.cancel_plan(plan),
        Event::ExecutorConnected { executor, boot, capability, running } => {
            state.connect(&executor, boot, capability, &running);
        }
        Event::ExecutorHolds(held) => state.inventory(held),
        Event::Heartbeat { executor, running, is_full } => {
            state.heartbeat(&executor, &running, is_full);
        }
        Event::ExecutorWouldDrop { executor, number, contents } => {
            state.would_drop(&executor, number, contents);
        }
        Event::ExecutorDraining(executor) => state.drain(&executor),
        Event::ExecutorDisconnected(executor) => state.disconnect(&executor),
        Event::AttemptUsed { executor, lease, memory_bytes, fetched_bytes, fetch_ms } => {
            if let Some(executor) = state.lessee(&executor, lease) {
                state.used(lease, executor, memory_bytes);
                state.estimates.fetched(executor, fetched_bytes, fetch_ms);
            }
        }
        Event::LeaseReported { executor, lease, task, outcome } => {
            state.report(&executor, lease, &task, outcome);
        }
        Event::Resolved { task, number, resolution } => state.resolved(&task, number, resolution),
        Event::Stored(content) => state.stored(&content),
        Event::PullFailed { content, from } => state.pull_failed(&content, &from),
        Event::Remembered(measurements) => state.estimates.restore(&measurements),
        Event::AllBack => {
            state.settings.restart_grace_ms = 0;
            state.placement_due = true;
        }
        Event::Tick => state.tick(),
    }
    state.settle();
    state.out.take()
}

impl State {
    fn tick(&mut self) {
        self.evict_silent();
        self.end_quarantines();
        self.retry_pulls();
        self.placement_due = true;
        self.stragglers_due = true;
        self.prefetch_due = true;
        let later = core::mem::take(&mut self.out.waiting_later);
        self.out.waiting.extend(later);
    }

    /// Draws all consequences, until nothing follows any more.
    fn settle(&mut self) {
        loop {
            self.flush();
            self.place();
            // What is ready goes first.
            if core::mem::take(&mut self.stragglers_due) {
                self.speculate();
            }
            if core::mem::take(&mut self.prefetch_due) {
                self.prefetch();
            }
            self.drains();
            self.start_pulls();
            self.tell();
            if !self.finish_plans() {
                return self.forget_unused();
            }
        }
    }
}
