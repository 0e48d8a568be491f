//! Everything bad that happens, and when.
use crate::bits::Bits;
use crate::common::failed;
use crate::coverage;
use crate::graph::Scale;
use crate::world::World;
use model::FailureClass;
use scheduler::Event;

/// Something bad.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing passes between an executor and the coordinator for a while.
    Late,
    /// A message arrives twice.
    Doubled,
    /// A message does not arrive.
    Lost,
    /// A heartbeat or a report arrives after what was said later.
    Overtaken,
    /// An executor's process ends; its disk stays.
    Dies,
    /// An executor's host ends with its disk, and nobody is told.
    Wiped,
    /// An executor's process stops.
    Frozen,
    /// Nothing passes to and from an executor, and nobody is told.
    Partitioned,
    /// An executor's connection ends.
    LinkBreaks,
    /// An executor's builds end late.
    Slow,
    /// An executor says what is not so.
    Lies,
    /// A build ends by its executor's own trouble.
    Fails,
    /// An executor's disk loses some of what it had.
    Collected,
    /// An executor's disk has no room for builds for a while.
    Full,
    /// An executor is asked to drain.
    Drains,
    /// The content store cannot take what was pulled.
    StoreTrouble,
    /// The coordinator stands still.
    Stalls,
    /// A client wants its plan no more.
    ClientLeaves,
    /// The coordinator ends before a batch's facts are in the journal.
    CrashBeforeAppend,
    /// The coordinator ends when they are, and before any effect.
    CrashAfterAppend,
    /// The coordinator ends after some of the effects.
    CrashAmidEffects,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Late,
        Self::Doubled,
        Self::Lost,
        Self::Overtaken,
        Self::Dies,
        Self::Wiped,
        Self::Frozen,
        Self::Partitioned,
        Self::LinkBreaks,
        Self::Slow,
        Self::Lies,
        Self::Fails,
        Self::Collected,
        Self::Full,
        Self::Drains,
        Self::StoreTrouble,
        Self::Stalls,
        Self::ClientLeaves,
        Self::CrashBeforeAppend,
        Self::CrashAfterAppend,
        Self::CrashAmidEffects,
    ];

    /// Its place among all.
    pub fn position(self) -> usize {
        Self::ALL.iter().position(|other| *other == self).unwrap_or(0)
    }

    fn is_crash(self) -> bool {
        matches!(self, Self::CrashBeforeAppend | Self::CrashAfterAppend | Self::CrashAmidEffects)
    }
}

/// One in so many events of a kind is followed by a fault: of rare kinds more, so that everything meets everything.
const STRIKES: [usize; coverage::EVENTS.len()] =
    [15, 3, 12, 80, 150, 2, 6, 80, 100, 80, 5, 6, 100, 100, 15, 30];
/// So many times another fault is tried where one could do nothing.
const TRIES: usize = 6;
/// Clients that leave come back until there are so many.
const PLANS_MAX: usize = 12;

impl World {
    /// Perhaps something bad follows an event.
    pub fn strike_after(&mut self, kind: usize) {
        // Small worlds have few events.
        let times =
            if self.options.scale == Scale::Small { STRIKES[kind].div_ceil(4) } else { STRIKES[kind] };
        if !self.random.once_in(times) {
            return;
        }
        for _ in 0..TRIES {
            let fault = Fault::ALL[self.random.below(Fault::ALL.len())];
            if self.strikes(fault) {
                self.tally.fault(kind, fault);
                if let Some(trace) = self.options.trace {
                    trace(&format!("{:>9} fault: {fault:?}", self.now_ms));
                }
                // Troubles come together.
                if !self.random.once_in(4) {
                    return;
                }
            }
        }
    }

    /// Does it, if there is anybody to do it to.
    fn strikes(&mut self, fault: Fault) -> bool {
        let position = self.random.below(self.executors.len());
        match fault {
            Fault::Doubled => self.double(position),
            Fault::Lost => self.lose_message(position),
            Fault::Overtaken => self.overtake(position),
            Fault::Lies => self.lie(position),
            Fault::Fails => self.fail(position),
            Fault::StoreTrouble => self.trouble_store(),
            Fault::ClientLeaves => self.leave_plan(),
            Fault::Stalls => {
                (0..self.executors.len()).for_each(|position| self.disturb(position));
                self.now_ms += 500 * u64::try_from(4 + self.random.below(40)).unwrap_or(4);
                true
            }
            crash if crash.is_crash() => {
                let was_armed = self.crash.is_some();
                // Each takes as long as many other events.
                let is_chosen = !was_armed && self.random.once_in(2);
                self.crash = if is_chosen { Some(crash) } else { self.crash };
                is_chosen
            }
            other => self.strikes_executor(other, position),
        }
    }

    fn strikes_executor(&mut self, fault: Fault, position: usize) -> bool {
        let for_ms = 500 * u64::try_from(1 + self.random.below(14)).unwrap_or(1);
        let now_ms = self.now_ms;
        let executor = &mut self.executors[position];
        let (was_up, was_linked) = (executor.is_up, executor.is_linked);
        let can = match fault {
            Fault::Late | Fault::LinkBreaks => executor.is_reachable(now_ms),
            Fault::Partitioned => was_linked && !executor.is_cut,
            Fault::Frozen => was_up && !executor.is_frozen,
            Fault::Drains => was_up && !executor.is_draining,
            Fault::Collected => was_up && !executor.disk.is_empty(),
            _ => was_up,
        };
        if !can {
            return false;
        }
        match fault {
            Fault::Late => executor.late_until_ms = now_ms + for_ms,
            Fault::Dies => executor.die(),
            Fault::Wiped => {
                executor.die();
                executor.disk = Bits::default();
                executor.finished.clear();
                self.engine.is_silent[position] = true;
            }
            Fault::Frozen => executor.is_frozen = true,
            Fault::Partitioned => executor.is_cut = true,
            Fault::LinkBreaks => executor.unlink(),
            Fault::Slow => executor.slow_until_ms = now_ms + 3 * for_ms,
            Fault::Full => executor.full_until_ms = now_ms + for_ms,
            Fault::Collected => {
                let random = &mut self.random;
                executor.disk = executor.disk.iter().filter(|_| !random.once_in(3)).collect();
            }
            Fault::Drains => {
                executor.is_draining = true;
                if was_linked {
                    executor.outbox.push_back(Event::ExecutorDraining(executor.name.clone()));
                }
            }
            _ => {}
        }
        let is_told = matches!(fault, Fault::Dies | Fault::LinkBreaks) && was_linked;
        if is_told && !self.executors[position].is_cut {
            let name = self.executors[position].name.clone();
            self.engine.pending.push_back(Event::ExecutorDisconnected(name));
        }
        if !matches!(fault, Fault::Slow | Fault::Full | Fault::Collected) {
            self.disturb(position);
        }
        true
    }

    fn double(&mut self, position: usize) -> bool {
        let executor = &mut self.executors[position];
        let (to, from) = (executor.inbox.len(), executor.outbox.len());
        let place = self.random.below((to + from).max(1));
        if let Some(message) = executor.inbox.get(place).cloned() {
            executor.inbox.insert(place, message);
        } else if let Some(event) = executor.outbox.get(place - to).cloned() {
            executor.outbox.insert(place - to, event);
        } else {
            return false;
        }
        self.disturb(position);
        true
    }

    /// What each side says again: the coordinator anything, an executor that it lives. Its reports are lost with its connection only.
    fn lose_message(&mut self, position: usize) -> bool {
        let executor = &mut self.executors[position];
        let (to, from) = (executor.inbox.len(), executor.outbox.len());
        let place = self.random.below((to + from).max(1));
        if executor.inbox.remove(place).is_none() {
            let is_beat = |event: &Event| matches!(event, Event::Heartbeat { .. });
            let beat = executor.outbox.iter().rposition(is_beat);
            let Some(beat) = beat.filter(|_| place >= to) else { return false };
            executor.outbox.remove(beat);
        }
        self.disturb(position);
        true
    }

    fn overtake(&mut self, first: usize) -> bool {
        let may = |event: &Event| matches!(event, Event::Heartbeat { .. } | Event::LeaseReported { .. });
        // Seldom does anybody have two things to say.
        let place = |position: usize| {
            let outbox = &self.executors[position].outbox;
            outbox.iter().take(outbox.len().saturating_sub(1)).position(may).map(|place| (position, place))
        };
        let all = self.executors.len();
        let Some((position, place)) = (first..all).chain(0..first).find_map(place) else { return false };
        let executor = &mut self.executors[position];
        let moved = executor.outbox.remove(place);
        executor.outbox.extend(moved);
        self.disturb(position);
        true
    }

    fn fail(&mut self, position: usize) -> bool {
        let executor = &mut self.executors[position];
        let classes = [FailureClass::Infrastructure, FailureClass::OutOfDisk, FailureClass::OutOfMemory];
        let Some((key, _)) = self.random.pick(&executor.running).filter(|_| executor.is_up) else {
            return false;
        };
        let (key, class) = (*key, classes[self.random.below(3)]);
        executor.finish(key, failed(class, &[]), &[]);
        true
    }

    fn trouble_store(&mut self) -> bool {
        let pulls: Vec<usize> = self.pulls.keys().copied().collect();
        let Some(content) = self.random.pick(&pulls).copied() else { return false };
        self.pulls.remove(&content);
        let content = self.graph.contents[content].id.clone();
        self.engine.pending.push_back(Event::PullFailed { content, from: vec![] });
        true
    }

    fn leave_plan(&mut self) -> bool {
        // A plan of which nobody has heard yet cannot be left.
        let living: Vec<u8> = self.journal.living.iter().copied().collect();
        let Some(number) = self.random.pick(&living).copied() else { return false };
        let Some(plan) = self.plans.get_mut(&number).filter(|plan| !plan.is_cancelled) else { return false };
        plan.is_cancelled = true;
        self.engine.pending.push_back(Event::PlanCancelled(plan.new.id));
        // Sooner or later somebody wants the same.
        let roots = plan.roots.clone();
        if self.plans.len() < PLANS_MAX {
            self.submit(roots);
        }
        true
    }
}
