//! Executors come, live, drain, disconnect and are lost.
use crate::arena::ExecutorIx;
use crate::quarantine::Conduct;
use crate::state::{Executor, Link};
use crate::{Effect, LeaseKey, RunningLease, State};
use alloc::{collections::BTreeSet, vec::Vec};
use core::mem;
use model::{BootId, Capability, ExecutorName, LeaseId};

/// Heartbeats in a row that must leave out a lease before it is believed to be lost. One that was never named may still be on
/// its way through a slow link: it has as long as an executor that is silent.
const HEARTBEATS_MISSED_MAX: u32 = 2;

impl State {
    /// The place of an executor. One that nobody has heard of yet, but the journal, has the same time to connect as
    /// one whose connection ended just now.
    pub(crate) fn executor(&mut self, name: &ExecutorName) -> ExecutorIx {
        if let Some(place) = self.executor_places.get(name) {
            return *place;
        }
        let executor = Executor { name: name.clone(), last_heard: self.now, ..Executor::default() };
        let place = self.executors.insert(executor);
        self.executor_places.insert(name.clone(), place);
        place
    }

    /// An executor that has a session.
    pub(crate) fn connected(&self, name: &ExecutorName) -> Option<ExecutorIx> {
        let place = *self.executor_places.get(name)?;
        (self.executors[place].link == Link::Connected).then_some(place)
    }

    /// A session begins. What it does not say it runs, it does not run.
    pub(crate) fn connect(
        &mut self,
        name: &ExecutorName,
        boot: BootId,
        capability: Capability,
        running: &[RunningLease],
    ) {
        let place = self.executor(name);
        let now = self.now;
        let executor = &mut self.executors[place];
        let is_known = executor.boot == Some(boot);
        executor.boot = Some(boot);
        executor.link = Link::Connected;
        executor.capability = capability;
        // A process that drains goes on draining; it says so again, but only after a while.
        executor.is_draining &= is_known;
        executor.is_full &= is_known;
        executor.hinted.clear();
        if !is_known {
            executor.conduct = Conduct::default();
        }
        executor.was_told_to_leave = false;
        executor.last_heard = now;
        executor.unnamed = Some(executor.holds.union(&executor.held_once).copied().collect());
        let named: BTreeSet<LeaseId> = running.iter().map(|running| running.lease.id).collect();
        let lost: Vec<_> = executor.leases.difference(&named).copied().collect();
        if !is_known {
            self.forget_given();
        }
        self.executors_changed();
        for lease in lost {
            self.lose_lease(lease);
        }
        for lease in running {
            self.adopt(place, lease);
        }
    }

    /// Who may run what has changed.
    pub(crate) fn executors_changed(&mut self) {
        self.executors_version += 1;
        self.placement_due = true;
        self.drains_changed = true;
        self.out.waiting.extend(self.plans.keys().copied());
    }

    /// Shares are counted anew, so that a newcomer is not given everything until it has caught up.
    pub(crate) fn forget_given(&mut self) {
        for place in self.executors.places() {
            self.executors[place].given.clear();
        }
    }

    /// An executor lives; differences about what it runs are reconciled.
    pub(crate) fn heartbeat(&mut self, name: &ExecutorName, running: &[LeaseKey], is_full: bool) {
        let Some(place) = self.executor_places.get(name).copied() else { return };
        match self.executors[place].link {
            Link::Connected => {}
            // It has a session all the same: the end of an older one was told late.
            Link::Disconnected if self.executors[place].boot.is_some() => {
                self.executors[place].link = Link::Connected;
                self.executors_changed();
            }
            Link::Disconnected => return,
            Link::Lost => return self.out.push(Effect::Evict(name.clone())),
        }
        self.executors[place].last_heard = self.now;
        self.fill(place, is_full);
        let named: BTreeSet<LeaseKey> = running.iter().copied().collect();
        let missing_ms = self.settings.heartbeat_interval_ms.saturating_mul(u64::from(HEARTBEATS_MISSED_MAX));
        let on_its_way_ms = missing_ms.max(self.settings.eviction_after_ms);
        let mut lost = Vec::new();
        let mut known = BTreeSet::new();
        for id in &self.executors[place].leases {
            let Some(lease) = self.leases.get_mut(id) else { continue };
            known.insert(lease.key);
            let is_named = named.contains(&lease.key);
            if is_named || lease.heartbeats_missed == 0 {
                lease.missed_since = self.now;
            }
            lease.was_named |= is_named;
            let grace_ms = if lease.was_named { missing_ms } else { on_its_way_ms };
            lease.heartbeats_missed = if is_named { 0 } else { lease.heartbeats_missed.saturating_add(1) };
            // Several that were sent before the lease arrived may be heard at once, when the coordinator was busy.
            let missed_ms = self.now.0.saturating_sub(lease.missed_since.0);
            if lease.heartbeats_missed >= HEARTBEATS_MISSED_MAX && missed_ms >= grace_ms {
                lost.push(*id);
            }
        }
        for key in named.difference(&known) {
            self.cancel_at(place, *key);
        }
        for lease in lost {
            self.lose_lease(lease);
        }
    }

    /// An executor's disk is full, or has room again: it is given nothing meanwhile.
    pub(crate) fn fill(&mut self, place: ExecutorIx, is_full: bool) {
        if mem::replace(&mut self.executors[place].is_full, is_full) != is_full {
            self.executors_changed();
        }
    }

    /// An executor takes no more leases.
    pub(crate) fn drain(&mut self, name: &ExecutorName) {
        let Some(place) = self.connected(name) else { return };
        self.executors[place].was_told_to_leave = false;
        if !mem::replace(&mut self.executors[place].is_draining, true) {
            self.executors_changed();
        }
        self.drains_changed = true;
    }

    /// A session's connection ended.
    pub(crate) fn disconnect(&mut self, name: &ExecutorName) {
        let Some(place) = self.connected(name) else { return };
        let executor = &mut self.executors[place];
        executor.link = Link::Disconnected;
        executor.unnamed = None;
        self.executors_changed();
    }

    /// Loses the executors that were silent for too long.
    pub(crate) fn evict_silent(&mut self) {
        for place in self.executors.places() {
            let executor = &self.executors[place];
            let silent_ms = self.now.0.saturating_sub(executor.last_heard.0);
            if executor.link != Link::Lost && silent_ms >= self.settings.eviction_after_ms {
                self.evict(place);
            }
        }
    }

    fn evict(&mut self, place: ExecutorIx) {
        let executor = &mut self.executors[place];
        executor.link = Link::Lost;
        executor.unnamed = None;
        let holds = mem::take(&mut executor.holds);
        let leases: Vec<_> = executor.leases.iter().copied().collect();
        executor.held_once.extend(holds.iter().copied());
        let name = executor.name.clone();
        self.executors_changed();
        for content in holds {
            self.contents[content].holders.retain(|holder| *holder != place);
            self.refresh_content(content);
        }
        for lease in leases {
            self.lose_lease(lease);
        }
        self.out.push(Effect::Evict(name));
    }
}
