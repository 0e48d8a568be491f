//! Speculation: a free slot runs what takes much longer elsewhere than it should, or would end sooner here; the first result counts.
//!
//! Only what the end of a plan waits for, and only slots that no ready task wants.
use crate::State;
use crate::arena::{ExecutorIx, TaskIx};
use crate::estimate::is_emulated;
use crate::memory::Rooms;
use crate::state::Lease;
use alloc::{collections::BTreeMap, vec::Vec};
use core::cmp::Reverse;
use model::{PlanId, Platform};

/// What takes twice as long as expected and this is a straggler. What has not run for so long is not looked at.
const STRAGGLER_MS: u64 = 30_000;
/// What a second lease must gain: a fifth of what it takes, and this.
const GAIN_MS: u64 = 5_000;

/// A lease that a second one may outrun.
struct Straggler {
    task: TaskIx,
    executor: ExecutorIx,
    elapsed_ms: u64,
    left_ms: u64,
    /// From now to the end of the last task that waits for it.
    rest_ms: u64,
    /// Nobody knows what it takes, but that it takes long.
    is_unknown: bool,
    is_emulated: bool,
}

impl State {
    /// Gives slots that are left to what should have ended.
    pub(crate) fn speculate(&mut self) {
        if !self.settings.speculates || self.is_in_grace() {
            return;
        }
        // What is known now may be more than when its plan came.
        let is_old = |lease: &&Lease| self.now.0.saturating_sub(lease.granted.0) >= STRAGGLER_MS;
        let old: Vec<TaskIx> = self.leases.values().filter(is_old).map(|lease| lease.task).collect();
        old.into_iter().for_each(|task| self.estimate(task));
        let plan = |straggler: &Straggler| self.tasks[straggler.task].plans.first().copied();
        let mut running: Vec<Straggler> = self.leases.values().map(|lease| self.straggler(lease)).collect();
        let mut rests_ms: BTreeMap<Option<PlanId>, u64> = BTreeMap::new();
        for straggler in &running {
            let rest_ms = rests_ms.entry(plan(straggler)).or_default();
            *rest_ms = straggler.rest_ms.max(*rest_ms);
        }
        running.retain(|straggler| {
            let rest_ms = rests_ms.get(&plan(straggler)).copied().unwrap_or(0);
            let task = &self.tasks[straggler.task];
            let may_be = task.second.is_none() && task.inputs_missing == 0;
            may_be && straggler.elapsed_ms >= STRAGGLER_MS && straggler.rest_ms >= rest_ms - rest_ms / 4
        });
        running.sort_by_key(|straggler| Reverse(straggler.rest_ms));
        for straggler in running {
            self.outrun(&straggler);
        }
    }

    /// Whether a ready task could go to an executor, though it waits for a better one.
    fn is_wanted(&self, executor: ExecutorIx) -> bool {
        let mut waiting = self.class_places.values().map(|class| &self.classes[*class]);
        waiting.any(|class| {
            !class.ready.is_empty() && class.eligible.iter().any(|(eligible, _)| *eligible == executor)
        })
    }

    fn straggler(&self, lease: &Lease) -> Straggler {
        let is_emulated = is_emulated(&lease.platform);
        let task = &self.tasks[lease.task];
        let elapsed_ms = self.now.0.saturating_sub(lease.granted.0);
        let expected_ms = self.takes_ms(lease.task, lease.executor, is_emulated);
        let is_late = elapsed_ms > expected_ms.saturating_mul(2).saturating_add(STRAGGLER_MS);
        // Of what is late already, half is left, as often as not.
        let left_ms = if is_late { elapsed_ms } else { self.left_ms(lease) };
        Straggler {
            task: lease.task,
            executor: lease.executor,
            elapsed_ms,
            left_ms,
            rest_ms: task.level.saturating_sub(task.best_ms).saturating_add(left_ms),
            is_unknown: is_late && !self.estimates.is_known(task.described),
            is_emulated,
        }
    }

    /// Leases a task to an executor with a free slot where it would end sooner.
    fn outrun(&mut self, straggler: &Straggler) {
        let class = self.tasks[straggler.task].class;
        self.refresh_class(class);
        let rooms = Rooms::of(self);
        let mut best: Option<(u64, ExecutorIx, Platform)> = None;
        for (executor, platform) in &self.classes[class].eligible {
            let is_free = self.executors[*executor].slots_free() > 0 && !self.is_wanted(*executor);
            let is_other = *executor != straggler.executor;
            let has_room = self.is_big_enough(straggler.task, class, *executor)
                && rooms.free_ms(*executor, self.memory_bytes(straggler.task)) == 0;
            if !is_free
                || !is_other
                || !has_room
                || self.tasks[straggler.task].past().avoided.contains(executor)
            {
                continue;
            }
            let is_emulated = is_emulated(platform);
            let takes_ms = self.takes_ms(straggler.task, *executor, is_emulated);
            if best.as_ref().is_none_or(|(least, ..)| takes_ms < *least) {
                best = Some((takes_ms, *executor, platform.clone()));
            }
        }
        let Some((takes_ms, executor, platform)) = best else { return };
        let there_ms = match straggler.is_unknown {
            true => self.takes_ms(straggler.task, straggler.executor, straggler.is_emulated),
            false => straggler.left_ms.saturating_sub(GAIN_MS),
        };
        if takes_ms.saturating_add(takes_ms / 5) < there_ms {
            let mut closure = self.closure(&self.tasks[straggler.task].inputs.clone());
            closure.retain(|content| !self.contents[*content].id.path.is_promise());
            if self.is_in_reach(&closure, executor) {
                self.grant(straggler.task, executor, platform, &closure);
            }
        }
    }
}
