//! Placement: which ready task goes next, and to which executor. Rolling HEFT: in the order of levels, each task goes where it
//! ends first, and waits for a busy executor if it ends earlier there than on one that is free.
//!
//! All is looked at again with every change, so that a wrong guess costs no more than the time until the next.
use crate::arena::{ClassIx, ContentIx, ExecutorIx, TaskIx};
use crate::estimate::is_emulated;
use crate::memory::Rooms;
use crate::state::Link;
use crate::{State, Timestamp};
use alloc::{collections::BTreeMap, vec::Vec};
use core::cmp::{Ordering, Reverse};
use core::iter::Peekable;
use model::{ExecutorName, PlanId, Platform, TaskId};

/// Tasks of one requirement that may be kept waiting for a busy executor in one look.
const WINDOW: usize = 256;
/// Ends that differ by less are the same: a hundredth of the time and this.
const SAME_END_MS: u64 = 20;
/// Waiting must gain more than one part in this many of the time that it saves.
const GAIN_PARTS: u64 = 12;
/// Free slots of one executor that are filled in one look.
const SLOTS_LOOKED_AT_MAX: usize = 1024;

/// An executor that could run a task.
pub(crate) struct Candidate {
    pub(crate) executor: ExecutorIx,
    platform: Platform,
    /// When it could begin, and when it would end, from now on.
    pub(crate) begin_ms: u64,
    pub(crate) end_ms: u64,
    leases: u64,
    slots: u64,
    /// Leases of this platform so far.
    given: u64,
    /// Bytes of the inputs that it has.
    pub(crate) held_bytes: u64,
}

/// What a task needs, and who has how much of it, in bytes.
#[derive(Default)]
pub(crate) struct Inputs {
    pub(crate) bytes: u64,
    held: BTreeMap<ExecutorIx, u64>,
}

/// What is to be granted.
pub(crate) struct Decision {
    task: TaskIx,
    executor: ExecutorIx,
    platform: Platform,
    closure: Vec<ContentIx>,
}

type Ready = (Reverse<u64>, TaskId, TaskIx);

impl State {
    /// Leases ready tasks to free slots until one of the two runs out, or all that are left wait for something better.
    pub(crate) fn place(&mut self) {
        if self.is_in_grace() || !self.unlevelled.is_empty() || !core::mem::take(&mut self.placement_due) {
            return;
        }
        self.refresh_levels();
        for class in self.class_places.values().copied().collect::<Vec<_>>() {
            self.refresh_class(class);
        }
        for decision in self.decide() {
            self.grant(decision.task, decision.executor, decision.platform, &decision.closure);
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
        let gives = eligible.iter().map(|(executor, _)| self.build_memory_bytes(*executor));
        self.classes[class].memory_bytes_max = gives.max().unwrap_or(0);
        self.classes[class].eligible = eligible;
        self.classes[class].eligible_version = self.executors_version;
    }

    /// Whether a task may go to an executor: to one that is big enough, and that had trouble with it only if there is no other.
    pub(crate) fn may_go(&self, task: TaskIx, class: ClassIx, executor: ExecutorIx) -> bool {
        let avoided = &self.tasks[task].past().avoided;
        let mut others = self.classes[class].eligible.iter().map(|(other, _)| *other);
        self.is_big_enough(task, class, executor)
            && (!avoided.contains(&executor)
                || others.all(|other| avoided.contains(&other) || !self.is_big_enough(task, class, other)))
    }

    /// Who gets what now.
    fn decide(&mut self) -> Vec<Decision> {
        let mut decisions: Vec<Decision> = Vec::new();
        if self.class_places.values().all(|class| self.classes[*class].ready.is_empty()) {
            return decisions;
        }
        let mut marks = core::mem::take(&mut self.content_marks);
        let mut slots = SlotTimes::of(self);
        let mut rooms = Rooms::of(self);
        let mut queue = Queue::of(self);
        let mut waiting: BTreeMap<ClassIx, usize> = BTreeMap::new();
        while slots.free > 0 {
            let Some((task, class, plan)) = queue.next() else { break };
            let (mut candidates, _) = self.candidates(task, class, (&slots, &rooms), &decisions);
            let memory_bytes = self.memory_bytes(task);
            let Some(best) = candidates.iter().map(|candidate| candidate.end_ms).min() else { continue };
            let free_best = candidates.iter().filter(|one| one.begin_ms == 0).map(|one| one.end_ms).min();
            let Some(free_best) = free_best.filter(|free| !is_worth_waiting(best, *free)) else {
                // It is counted where it would go, so that the next does not wait for the same.
                if let Some(first) = candidates.iter().min_by_key(|candidate| candidate.end_ms) {
                    slots.take(first.executor, first.end_ms);
                    rooms.take(first.executor, first.end_ms, memory_bytes);
                    queue.charge(plan);
                    let waiting = waiting.entry(class).or_default();
                    *waiting += 1;
                    if *waiting == WINDOW {
                        queue.close(class);
                    }
                }
                continue;
            };
            let mut closure = self.closure_with(&mut marks, &self.tasks[task].inputs);
            closure.retain(|content| !self.contents[*content].id.path.is_promise());
            candidates.retain(|candidate| {
                let same = free_best.saturating_add(free_best / 100).saturating_add(SAME_END_MS);
                candidate.begin_ms == 0 && candidate.end_ms <= same
            });
            let Some(chosen) = self.choose(candidates, class) else { continue };
            if !self.is_in_reach(&closure, chosen.executor) {
                continue;
            }
            slots.take(chosen.executor, chosen.end_ms);
            rooms.take(chosen.executor, chosen.end_ms, memory_bytes);
            queue.charge(plan);
            decisions.push(Decision { task, executor: chosen.executor, platform: chosen.platform, closure });
        }
        self.content_marks = marks;
        decisions
    }

    /// Where a task could go, and when it would end there; and what it needs.
    pub(crate) fn candidates(
        &self,
        task: TaskIx,
        class: ClassIx,
        (slots, rooms): (&SlotTimes, &Rooms),
        decisions: &[Decision],
    ) -> (Vec<Candidate>, Inputs) {
        let mut candidates = Vec::new();
        let memory_bytes = self.memory_bytes(task);
        let inputs = self.weigh_inputs(task);
        for (executor, platform) in &self.classes[class].eligible {
            if !self.may_go(task, class, *executor) {
                continue;
            }
            let Some(begin_ms) = slots.first(*executor) else { continue };
            let begin_ms = begin_ms.max(rooms.free_ms(*executor, memory_bytes));
            let item = &self.executors[*executor];
            let now = decisions.iter().filter(|decision| decision.executor == *executor);
            let now_same = now.clone().filter(|decision| decision.platform == *platform).count();
            let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
            let held_bytes = inputs.held.get(executor).copied().unwrap_or(0);
            let fetch_ms = self.estimates.fetch_ms(*executor, inputs.bytes.saturating_sub(held_bytes));
            let takes_ms = self.takes_ms(task, *executor, is_emulated(platform)).saturating_add(fetch_ms);
            candidates.push(Candidate {
                executor: *executor,
                platform: platform.clone(),
                begin_ms,
                end_ms: begin_ms.saturating_add(takes_ms),
                leases: number(item.leases.len() + now.count()),
                slots: u64::from(item.capability.slots),
                given: item.given.get(platform).copied().unwrap_or(0) + number(now_same),
                held_bytes,
            });
        }
        (candidates, inputs)
    }

    /// Among executors where it ends at nearly the same time: the one whose inputs are there first, then by share.
    fn choose(&self, candidates: Vec<Candidate>, class: ClassIx) -> Option<Candidate> {
        let eligible = &self.classes[class].eligible;
        let given = |executor: &ExecutorIx, platform: &Platform| {
            self.executors[*executor].given.get(platform).copied().unwrap_or(0)
        };
        let given_total: u64 = eligible.iter().map(|(executor, platform)| given(executor, platform)).sum();
        let slots_total: u64 =
            eligible.iter().map(|(executor, _)| u64::from(self.executors[*executor].capability.slots)).sum();
        let held_most = candidates.iter().map(|candidate| candidate.held_bytes).max().unwrap_or(0);
        let name = |candidate: &Candidate| -> &ExecutorName { &self.executors[candidate.executor].name };
        candidates.into_iter().min_by(|a, b| {
            let starves = |candidate: &Candidate| is_starving(candidate, given_total, slots_total);
            starves(b)
                .cmp(&starves(a))
                .then_with(|| compare_load(a, b))
                .then_with(|| compare_share(a, b, held_most))
                .then_with(|| b.held_bytes.cmp(&a.held_bytes))
                .then_with(|| name(a).cmp(name(b)))
        })
    }

    /// Whether inputs can be had now. Those whose holders are all disconnected come back with them soon, or are made again.
    pub(crate) fn is_in_reach(&self, closure: &[ContentIx], executor: ExecutorIx) -> bool {
        closure.iter().all(|content| {
            let item = &self.contents[*content];
            let is_near =
                |holder: &ExecutorIx| *holder == executor || self.executors[*holder].link == Link::Connected;
            item.in_store || item.holders.iter().any(is_near)
        })
    }

    /// A task's own inputs; who has those most likely has what they refer to.
    fn weigh_inputs(&self, task: TaskIx) -> Inputs {
        let mut inputs = Inputs::default();
        for content in &self.tasks[task].inputs {
            let item = &self.contents[*content];
            let Some(facts) = &item.facts else { continue };
            inputs.bytes = inputs.bytes.saturating_add(facts.nar_size);
            for holder in &item.holders {
                let held = inputs.held.entry(*holder).or_default();
                *held = held.saturating_add(facts.nar_size);
            }
        }
        inputs
    }
}

/// When the slots of each executor become free, as far as anybody can tell, in milliseconds from now.
pub(crate) struct SlotTimes {
    /// Soonest first.
    times: BTreeMap<ExecutorIx, Vec<u64>>,
    /// Slots that are free now.
    free: usize,
}

impl SlotTimes {
    pub(crate) fn of(state: &State) -> Self {
        let mut times = BTreeMap::new();
        let mut free = 0;
        for executor in state.executors.places() {
            let item = &state.executors[executor];
            if !item.may_get_leases() {
                continue;
            }
            let running = item.leases.iter().filter_map(|lease| state.leases.get(lease));
            let mut of_executor: Vec<u64> = running.map(|lease| state.left_ms(lease)).collect();
            let of_executor_free = item.slots_free().min(SLOTS_LOOKED_AT_MAX);
            free += of_executor_free;
            of_executor.extend(core::iter::repeat_n(0, of_executor_free));
            of_executor.sort_unstable();
            times.insert(executor, of_executor);
        }
        Self { times, free }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.times.values().map(Vec::len).sum()
    }

    /// When the first slot of an executor is free.
    fn first(&self, executor: ExecutorIx) -> Option<u64> {
        self.times.get(&executor)?.first().copied()
    }

    /// The first slot of an executor is taken until then.
    pub(crate) fn take(&mut self, executor: ExecutorIx, until_ms: u64) {
        let Some(times) = self.times.get_mut(&executor).filter(|times| !times.is_empty()) else { return };
        self.free = self.free.saturating_sub(usize::from(times[0] == 0));
        times[0] = until_ms.max(1);
        times.sort_unstable();
    }
}

impl State {
    /// What a running task has left: one that takes longer than was thought will take longer still.
    pub(crate) fn left_ms(&self, lease: &crate::state::Lease) -> u64 {
        let expected_ms = self.takes_ms(lease.task, lease.executor, is_emulated(&lease.platform));
        let elapsed_ms = self.now.0.saturating_sub(lease.granted.0);
        expected_ms.saturating_sub(elapsed_ms).max(elapsed_ms / 4).max(1)
    }
}

/// Ready tasks in the order in which they are placed: of the plan that has least, the one with the longest way to the end.
pub(crate) struct Queue<'a> {
    lines: Vec<Line<'a>>,
    /// Tasks that run or were just placed, by plan.
    running: BTreeMap<PlanId, usize>,
}

struct Line<'a> {
    class: ClassIx,
    plan: PlanId,
    tasks: Peekable<alloc::collections::btree_set::Iter<'a, Ready>>,
}

impl<'a> Queue<'a> {
    pub(crate) fn of(state: &'a State) -> Self {
        let mut lines = Vec::new();
        for class in state.class_places.values() {
            for (plan, ready) in &state.classes[*class].ready {
                if !state.classes[*class].eligible.is_empty() {
                    lines.push(Line { class: *class, plan: *plan, tasks: ready.iter().peekable() });
                }
            }
        }
        let mut running = BTreeMap::new();
        for lease in state.leases.values() {
            if let Some(plan) = state.tasks[lease.task].plans.first() {
                *running.entry(*plan).or_insert(0) += 1;
            }
        }
        Self { lines, running }
    }

    pub(crate) fn next(&mut self) -> Option<(TaskIx, ClassIx, PlanId)> {
        let running = &self.running;
        let has = |plan: &PlanId| running.get(plan).copied().unwrap_or(0);
        let mut best: Option<(usize, &Ready, usize)> = None;
        for (position, line) in self.lines.iter_mut().enumerate() {
            let (plan, Some(first)) = (line.plan, line.tasks.peek().copied()) else { continue };
            if best.is_none_or(|(least, other, _)| (has(&plan), first) < (least, other)) {
                best = Some((has(&plan), first, position));
            }
        }
        let (_, _, position) = best?;
        let line = &mut self.lines[position];
        let (_, _, task) = line.tasks.next()?;
        Some((*task, line.class, line.plan))
    }

    /// No more of these: tasks with other requirements may still find a free executor.
    fn close(&mut self, class: ClassIx) {
        self.lines.retain(|line| line.class != class);
    }

    pub(crate) fn charge(&mut self, plan: PlanId) {
        *self.running.entry(plan).or_insert(0) += 1;
    }
}

/// Whether an end on a busy executor is so much sooner than on a free one that it is worth waiting for.
fn is_worth_waiting(busy_end_ms: u64, free_end_ms: u64) -> bool {
    busy_end_ms.saturating_add(free_end_ms / GAIN_PARTS).saturating_add(SAME_END_MS) < free_end_ms
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Place;
    use model::System;

    fn candidate(given: u64, slots: u64, held_bytes: u64) -> Candidate {
        let platform = Platform::Native(System("x86_64-linux".into()));
        let executor = ExecutorIx::at(0);
        Candidate { executor, platform, begin_ms: 0, end_ms: 0, leases: 0, slots, given, held_bytes }
    }

    #[test]
    fn waiting_must_gain_a_twelfth_and_more_than_what_is_the_same() {
        // The end on a busy executor, on a free one; whether the busy one is worth it.
        let cases =
            [(0, 20, false), (0, 21, false), (0, 22, true), (1_080, 1_200, false), (1_079, 1_200, true)];
        for (busy, free, is_worth) in cases {
            assert_eq!(is_worth_waiting(busy, free), is_worth, "{busy} {free}");
        }
    }

    #[test]
    fn two_thirds_of_a_share_are_enough() {
        // Of 30 given to executors with 10 slots, 2 here: 6 would be its share.
        for (given, is_starved) in [(0, true), (3, true), (4, false), (6, false)] {
            assert_eq!(is_starving(&candidate(given, 2, 0), 30, 10), is_starved, "{given}");
        }
        assert!(!is_starving(&candidate(0, 2, 0), 0, 10), "nobody was given anything");
    }

    #[test]
    fn holding_most_of_the_inputs_counts_like_one_task_less() {
        let [with, without] = [50, 0].map(|bytes| move |given| candidate(given, 1, bytes));
        let cases = [(1, 1, Ordering::Less), (2, 1, Ordering::Greater), (3, 1, Ordering::Greater)];
        for (has_it, has_not, order) in cases {
            assert_eq!(compare_share(&with(has_it), &without(has_not), 50), order, "{has_it} {has_not}");
        }
        // Nobody holds anything, and everybody holds as much.
        assert_eq!(compare_share(&without(1), &without(2), 0), Ordering::Less);
        assert_eq!(compare_share(&without(1), &without(1), 0), Ordering::Equal);
        assert_eq!(compare_share(&with(2), &with(1), 50), Ordering::Greater);
    }
}
