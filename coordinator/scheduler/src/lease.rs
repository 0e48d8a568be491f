//! Leases: their grant, their end without a report, and those of an earlier run of the coordinator.
//!
//! A task has one lease, or a second one that another executor tries to end sooner: when one of the two ends, the other is left.
use crate::arena::{ContentIx, ExecutorIx, TaskIx};
use crate::state::{Attempt, Lease, Link, Phase};
use crate::{Effect, Grant, GrantedInput, Holder, LeaseKey, RunningLease, State};
use alloc::vec::Vec;
use model::{Epoch, ExecutorName, LeaseId, Platform};

/// Leases of one task that are over and still known.
const FORMER_LEASES_MAX: usize = 16;

impl State {
    /// Leases a ready task to an executor, or one that runs to another executor.
    pub(crate) fn grant(
        &mut self,
        place: TaskIx,
        executor: ExecutorIx,
        platform: Platform,
        closure: &[ContentIx],
    ) {
        let is_speculative = matches!(self.tasks[place].phase, Phase::Running(_));
        let id = self.next_lease;
        self.next_lease = LeaseId(id.0.saturating_add(1));
        let task = &mut self.tasks[place];
        task.epoch = task.epoch.saturating_add(1);
        let key = LeaseKey { id, epoch: Epoch(task.epoch) };
        self.enter_lease(key, place, executor, platform.clone());
        *self.executors[executor].given.entry(platform.clone()).or_default() += 1;
        let inputs = closure.iter().map(|content| self.granted_input(*content, executor, id)).collect();
        let bound = self.bound_inputs(place);
        let task = &self.tasks[place];
        let Some(plan) = task.plans.first().copied() else { return };
        self.out.push(Effect::Grant(Grant {
            executor: self.executors[executor].name.clone(),
            lease: key,
            task: task.id.clone(),
            platform,
            attempt: task.attempts,
            inputs,
            bound,
            plan,
            is_speculative,
        }));
    }

    /// Who has an input: connected executors, each lease beginning with another, then the content store, then those
    /// that may come back.
    pub(crate) fn granted_input(
        &self,
        content: ContentIx,
        lessee: ExecutorIx,
        lease: LeaseId,
    ) -> GrantedInput {
        let item = &self.contents[content];
        let others = item.holders.iter().copied().filter(|holder| *holder != lessee);
        let (mut near, far): (Vec<_>, Vec<_>) =
            others.partition(|holder| self.executors[*holder].link == Link::Connected);
        if !near.is_empty() {
            let turn = usize::try_from(lease.0).unwrap_or_default() % near.len();
            near.rotate_left(turn);
        }
        let name = |holder: ExecutorIx| Holder::Executor(self.executors[holder].name.clone());
        let mut holders: Vec<Holder> = near.into_iter().map(name).collect();
        holders.extend(item.in_store.then_some(Holder::ContentStore));
        holders.extend(far.into_iter().map(name));
        if holders.is_empty() {
            holders.push(name(lessee));
        }
        GrantedInput { id: item.id.clone(), holders }
    }

    /// The executor of this name, if it has this lease.
    pub(crate) fn lessee(&self, name: &ExecutorName, key: LeaseKey) -> Option<ExecutorIx> {
        let executor = *self.executor_places.get(name)?;
        let lease = self.leases.get(&key.id)?;
        ((lease.key, lease.executor) == (key, executor)).then_some(executor)
    }

    fn enter_lease(&mut self, key: LeaseKey, place: TaskIx, executor: ExecutorIx, platform: Platform) {
        let lease = Lease {
            key,
            task: place,
            executor,
            platform,
            granted: self.now,
            was_named: false,
            heartbeats_missed: 0,
            missed_since: self.now,
            memory_bytes: 0,
        };
        self.leases.insert(key.id, lease);
        self.executors[executor].leases.insert(key.id);
        self.tasks[place].attempts = self.tasks[place].attempts.saturating_add(1);
        if matches!(self.tasks[place].phase, Phase::Running(_)) {
            self.tasks[place].second = Some(key.id);
        } else {
            self.set_phase(place, Phase::Running(key.id));
        }
    }

    /// Ends a lease here. If the task has another, that goes on; else the task stays as it is, and the caller says where it goes.
    pub(crate) fn end_lease(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.placement_due = true;
        let executor = &mut self.executors[lease.executor];
        executor.leases.remove(&id);
        self.drains_changed |= executor.is_draining;
        let task = &mut self.tasks[lease.task];
        let past = task.past_mut();
        if past.former.len() >= FORMER_LEASES_MAX {
            past.former.remove(0);
        }
        past.former.reserve_exact(1);
        past.former.push((lease.key, lease.executor));
        let duration_ms = self.now.0.saturating_sub(lease.granted.0);
        past.last = Some(Attempt {
            executor: lease.executor,
            platform: Some(lease.platform.clone()),
            duration_ms,
            memory_bytes: lease.memory_bytes,
        });
        let second = task.second.take();
        match (task.phase == Phase::Running(id), second) {
            (true, Some(other)) => self.set_phase(lease.task, Phase::Running(other)),
            (false, Some(other)) if other != id => self.tasks[lease.task].second = second,
            _ => {}
        }
        Some(lease)
    }

    /// Whether a task has a lease that counts.
    pub(crate) fn has_lease(&self, place: TaskIx) -> bool {
        matches!(&self.tasks[place].phase, Phase::Running(lease) if self.leases.contains_key(lease))
    }

    /// Ends all leases of a task and tells their executors. They are no attempts that ended.
    pub(crate) fn cancel_leases(&mut self, place: TaskIx) {
        let last = self.tasks[place].past().last.clone();
        while let Phase::Running(id) = self.tasks[place].phase
            && let Some(lease) = self.end_lease(id)
        {
            self.cancel_at(lease.executor, lease.key);
        }
        if let Some(past) = &mut self.tasks[place].past {
            past.last = last;
        }
    }

    pub(crate) fn cancel_at(&mut self, executor: ExecutorIx, lease: LeaseKey) {
        let executor = self.executors[executor].name.clone();
        self.out.push(Effect::Cancel { executor, lease });
    }

    /// An executor lost a lease, or was lost with it: the task is tried again, and that is not its failure.
    pub(crate) fn lose_lease(&mut self, id: LeaseId) {
        if let Some(lease) = self.end_lease(id)
            && !self.has_lease(lease.task)
        {
            self.requeue(lease.task);
        }
    }

    /// A task without a lease waits again.
    pub(crate) fn requeue(&mut self, place: TaskIx) {
        self.set_phase(place, Phase::Waiting);
        self.refresh_task(place);
        for input in &self.tasks[place].inputs {
            if !self.contents[*input].is_whole {
                self.queues.demanded.push(*input);
            }
        }
    }

    /// Whether an executor once had this lease of this task, as far as anybody can tell: what an earlier run of the
    /// coordinator leased is not known.
    pub(crate) fn may_have_had(&self, place: TaskIx, key: LeaseKey, executor: ExecutorIx) -> bool {
        key.id < self.settings.first_lease || self.tasks[place].past().former.contains(&(key, executor))
    }

    /// An executor that connects says that it runs this: it goes on if the task is needed and nobody else has it.
    pub(crate) fn adopt(&mut self, executor: ExecutorIx, running: &RunningLease) {
        let key = running.lease;
        if let Some(lease) = self.leases.get_mut(&key.id) {
            if (lease.executor, lease.key) == (executor, key) {
                lease.heartbeats_missed = 0;
                lease.was_named = true;
                return;
            }
            return self.cancel_at(executor, key);
        }
        let Some(place) = self.task_place(&running.task) else {
            return self.cancel_at(executor, key);
        };
        let capability = &self.executors[executor].capability;
        let requirement = &self.classes[self.tasks[place].class].requirement;
        let is_offered = capability.offers.iter().any(|offer| offer.platform == running.platform);
        let has_features = requirement.platform_in(capability).is_some();
        let fits = is_offered && has_features && requirement.is_met_by(&running.platform);
        let task = &self.tasks[place];
        // What it was resolved to is not known again yet.
        let is_unresolved = task.needs_resolution && task.phase != Phase::Ready;
        if !fits || !task.phase.is_waiting() || is_unresolved || !self.may_have_had(place, key, executor) {
            return self.cancel_at(executor, key);
        }
        let task = &mut self.tasks[place];
        task.epoch = task.epoch.max(key.epoch.0);
        if let Some(past) = &mut task.past {
            past.former.retain(|(former, _)| *former != key);
        }
        self.enter_lease(key, place, executor, running.platform.clone());
        if let Some(lease) = self.leases.get_mut(&key.id) {
            lease.was_named = true;
        }
    }
}
