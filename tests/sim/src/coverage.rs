//! What happened in many worlds: events, faults, and which fault struck beside which event.
use crate::fault::Fault;
use scheduler::Event;
use std::fmt;
use std::time::Duration;

/// Kinds of events.
pub const EVENTS: [&str; 16] = [
    "PlanAdmitted",
    "PlanCancelled",
    "ExecutorConnected",
    "ExecutorHolds",
    "Heartbeat",
    "ExecutorDraining",
    "ExecutorDisconnected",
    "LeaseReported",
    "Resolved",
    "Stored",
    "PullFailed",
    "Remembered",
    "Tick",
    "AttemptUsed",
    "PlanArrives",
    "ExecutorWouldDrop",
];

/// The kind of an event, as a position in [`EVENTS`].
pub fn kind(event: &Event) -> usize {
    match event {
        Event::PlanAdmitted(_) => 0,
        Event::PlanCancelled(_) => 1,
        Event::ExecutorConnected { .. } => 2,
        Event::ExecutorHolds(_) => 3,
        Event::Heartbeat { .. } => 4,
        Event::ExecutorDraining(_) => 5,
        Event::ExecutorDisconnected(_) => 6,
        Event::LeaseReported { .. } => 7,
        Event::Resolved { .. } => 8,
        Event::Stored(_) => 9,
        Event::PullFailed { .. } => 10,
        Event::Remembered(_) => 11,
        Event::ExecutorWouldDrop { .. } => 15,
        // Worlds end the time of grace by the clock, at every length; this ends it as a tick does.
        Event::AllBack | Event::Tick => 12,
        Event::AttemptUsed { .. } => 13,
        Event::PlanArrives(_) => 14,
    }
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Tasks of plans that were admitted.
    pub tasks: u64,
    /// Builds that were leased.
    pub leases: u64,
    /// Those among them of what ran elsewhere already.
    pub speculative: u64,
    /// Contents that executors dropped, being allowed to.
    pub dropped: u64,
    /// Faults since the last event.
    pub since: Vec<Fault>,
    /// How often a busy executor was told what it may fetch.
    pub hints: u64,
    /// What the core took, and its checks, where that was measured.
    pub took: [Duration; 2],
    /// Events while no plan lived.
    pub idle: u64,
    /// Faults.
    pub faults: u64,
    /// By kind.
    pub events: [u64; EVENTS.len()],
    /// How often each fault struck right before or after each kind of event.
    pub strikes: [[u64; Fault::ALL.len()]; EVENTS.len()],
}

impl Tally {
    /// Adds what happened in another world.
    pub fn add(&mut self, other: &Self) {
        self.tasks += other.tasks;
        self.leases += other.leases;
        self.speculative += other.speculative;
        self.dropped += other.dropped;
        self.hints += other.hints;
        self.idle += other.idle;
        self.faults += other.faults;
        self.took.iter_mut().zip(other.took).for_each(|(took, other)| *took += other);
        for kind in 0..EVENTS.len() {
            self.events[kind] += other.events[kind];
            for fault in 0..Fault::ALL.len() {
                self.strikes[kind][fault] += other.strikes[kind][fault];
            }
        }
    }

    /// An event follows.
    pub fn event(&mut self, kind: usize) {
        self.events[kind] += 1;
        for fault in std::mem::take(&mut self.since) {
            self.strikes[kind][fault.position()] += 1;
        }
    }

    /// A fault strikes after an event.
    pub fn fault(&mut self, kind: usize, fault: Fault) {
        self.faults += 1;
        self.strikes[kind][fault.position()] += 1;
        self.since.push(fault);
    }

    /// All events.
    pub fn events_total(&self) -> u64 {
        self.events.iter().sum()
    }

    /// All faults.
    pub fn faults_total(&self) -> u64 {
        self.faults
    }

    /// Pairs of event and fault that did not occur.
    pub fn pairs_missing(&self) -> Vec<String> {
        let pairs = (0..EVENTS.len()).flat_map(|kind| Fault::ALL.iter().map(move |fault| (kind, *fault)));
        let missing = pairs.filter(|(kind, fault)| self.strikes[*kind][fault.position()] == 0);
        missing.map(|(kind, fault)| format!("{fault:?} beside {}", EVENTS[kind])).collect()
    }
}

impl fmt::Display for Tally {
    /// The table: faults down, events across.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<18}", "")?;
        for name in EVENTS {
            write!(f, "{:>9}", &name[name.len().saturating_sub(8)..])?;
        }
        writeln!(f)?;
        for fault in Fault::ALL {
            write!(f, "{:<18}", format!("{fault:?}"))?;
            for strikes in &self.strikes {
                write!(f, "{:>9}", strikes[fault.position()])?;
            }
            writeln!(f)?;
        }
        write!(f, "{:<18}", "events")?;
        self.events.iter().try_for_each(|events| write!(f, "{events:>9}"))
    }
}
