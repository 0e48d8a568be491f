//! Placement: which ready task goes next, and to which executor.
use crate::arena::{ClassIx, ContentIx, ExecutorIx, TaskIx};
use crate::{State, Timestamp};
use alloc::vec::Vec;
use core::cmp::Ordering;
use model::{ExecutorName, Platform};

/// An executor that could run a task now.
struct Candidate {
    executor: ExecutorIx,
    platform: Platform,
    leases: u64,
    slots: u64,
    /// Leases of this platform so far.
    given: u64,
    /// Bytes of the inputs that it has.
    held_bytes: u64,
}

impl State {
    /// Leases ready tasks to free slots, longest way to a root first, until one of the two runs out.
    pub(crate) fn place(&mut self) {
        if self.is_in_grace() {
            return;
        }
        for class in self.class_places.values().copied().collect::<Vec<_>>() {
            self.refresh_class(class);
        }
        while let Some((task, class)) = self.next_task() {
            let mut closure = self.closure(&self.tasks[task].inputs.clone());
            closure.retain(|content| !self.contents[*content].id.path.is_promise());
            let Some((executor, platform)) = self.choose_executor(task, class, &closure) else { return };
            self.grant(task, executor, platform, &closure);
        }
    }

    /// Whether executors may still announce what they have run since before a restart.
    pub(crate) fn is_in_grace(&self) -> bool {
        let started = self.started.unwrap_or(self.now);
        self.now < Timestamp(started.0.saturating_add(self.settings.restart_grace_ms))
    }

    /// Brings the executors of a class up to date.
    pub(crate) fn refresh_class(&mut self, class: ClassIx) {
        if self.classes[class].eligible_version == self.executors_version {
            return;
        }
        let mut eligible = Vec::new();
        for executor in self.executors.places() {
            let item = &self.executors[executor];
            let platform = self.classes[class].requirement.platform_in(&item.capability);
            if let (Some(platform), true) = (platform, item.may_get_leases()) {
                eligible.push((executor, platform.clone()));
            }
        }
        self.classes[class].eligible = eligible;
        self.classes[class].eligible_version = self.executors_version;
    }

    /// Whether a task may go to an executor: to one that had trouble with it only if there is no other.
    fn may_go(&self, task: TaskIx, class: ClassIx, executor: ExecutorIx) -> bool {
        let avoided = &self.tasks[task].avoided;
        !avoided.contains(&executor)
            || self.classes[class].eligible.iter().all(|(other, _)| avoided.contains(other))
    }

    /// The first task, over all requirements, for which some executor has a free slot.
    fn next_task(&self) -> Option<(TaskIx, ClassIx)> {
        let mut best = None;
        for class in self.class_places.values().copied() {
            let item = &self.classes[class];
            let free: Vec<_> = item
                .eligible
                .iter()
                .map(|(executor, _)| *executor)
                .filter(|executor| self.executors[*executor].slots_free() > 0)
                .collect();
            if free.is_empty() {
                continue;
            }
            let goes = |task: TaskIx| free.iter().any(|executor| self.may_go(task, class, *executor));
            if let Some(first) = item.ready.iter().find(|(_, _, task)| goes(*task))
                && best.is_none_or(|(other, _)| first < other)
            {
                best = Some((first, class));
            }
        }
        best.map(|((_, _, task), class)| (*task, class))
    }

    fn choose_executor(
        &self,
        task: TaskIx,
        class: ClassIx,
        closure: &[ContentIx],
    ) -> Option<(ExecutorIx, Platform)> {
        let eligible = &self.classes[class].eligible;
        let given_to = |executor: ExecutorIx, platform: &Platform| {
            self.executors[executor].given.get(platform).copied().unwrap_or(0)
        };
        let given_total: u64 =
            eligible.iter().map(|(executor, platform)| given_to(*executor, platform)).sum();
        let slots_of = |executor: ExecutorIx| u64::from(self.executors[executor].capability.slots);
        let slots_total: u64 = eligible.iter().map(|(executor, _)| slots_of(*executor)).sum();
        let mut candidates: Vec<Candidate> = Vec::new();
        for (executor, platform) in eligible {
            let item = &self.executors[*executor];
            if item.slots_free() > 0 && self.may_go(task, class, *executor) {
                candidates.push(Candidate {
                    executor: *executor,
                    platform: platform.clone(),
                    leases: u64::try_from(item.leases.len()).unwrap_or(u64::MAX),
                    slots: slots_of(*executor),
                    given: given_to(*executor, platform),
                    held_bytes: 0,
                });
            }
        }
        if candidates.len() > 1 {
            self.weigh_inputs(&mut candidates, closure);
        }
        let held_most = candidates.iter().map(|candidate| candidate.held_bytes).max().unwrap_or(0);
        let name = |candidate: &Candidate| -> &ExecutorName { &self.executors[candidate.executor].name };
        let best = candidates.into_iter().min_by(|a, b| {
            let starves = |candidate: &Candidate| is_starving(candidate, given_total, slots_total);
            starves(b)
                .cmp(&starves(a))
                .then_with(|| compare_load(a, b))
                .then_with(|| compare_share(a, b, held_most))
                .then_with(|| name(a).cmp(name(b)))
        })?;
        Some((best.executor, best.platform))
    }

    fn weigh_inputs(&self, candidates: &mut [Candidate], closure: &[ContentIx]) {
        for content in closure {
            let item = &self.contents[*content];
            let Some(facts) = &item.facts else { continue };
            for candidate in candidates.iter_mut() {
                if item.holders.contains(&candidate.executor) {
                    candidate.held_bytes = candidate.held_bytes.saturating_add(facts.nar_size);
                }
            }
        }
    }
}

/// Whether an executor was given less than two thirds of its share: however busy the others keep it with other platforms'
/// tasks, it then comes first.
fn is_starving(candidate: &Candidate, given_total: u64, slots_total: u64) -> bool {
    let fair = u128::from(given_total) * u128::from(candidate.slots);
    u128::from(candidate.given) * 3 * u128::from(slots_total) < fair * 2
}

/// Fewer busy slots of all its slots first.
fn compare_load(a: &Candidate, b: &Candidate) -> Ordering {
    let scaled = |leases: u64, slots: u64| u128::from(leases) * u128::from(slots);
    scaled(a.leases, b.slots).cmp(&scaled(b.leases, a.slots))
}

/// Fewer tasks of this platform so far first, where holding the most input bytes counts like one task less.
fn compare_share(a: &Candidate, b: &Candidate, held_most: u64) -> Ordering {
    let preferred = |candidate: &Candidate| u64::from(held_most > 0 && candidate.held_bytes == held_most);
    let left = a.given + preferred(b);
    let right = b.given + preferred(a);
    left.cmp(&right).then_with(|| a.given.cmp(&b.given))
}
