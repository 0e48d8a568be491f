//! Which leases run and which are finished but not acknowledged; decides what each message means. Pure.
use crate::lease::{LeaseKey, Subject};
use std::collections::BTreeMap;

/// Leases that may wait for a slot, for each slot.
const WAITING_PER_SLOT: usize = 2;
/// Finished results that are kept for a coordinator that does not acknowledge.
const FINISHED_MAX: usize = 100_000;

/// What to do with a lease that arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Build it.
    Start,
    /// It runs already.
    Running,
    /// It is done: report it again.
    ReportAgain,
    /// Report that it cannot run here now.
    Refuse(&'static str),
}

/// The leases of this process and the results of earlier ones.
#[derive(Debug)]
pub struct Ledger {
    slots: usize,
    running: BTreeMap<LeaseKey, Subject>,
    finished: BTreeMap<LeaseKey, Subject>,
    draining: bool,
    may_leave: bool,
}

impl Ledger {
    /// A ledger with the results that an earlier process left.
    pub fn new(slots: usize, finished: impl IntoIterator<Item = (LeaseKey, Subject)>) -> Self {
        let finished = finished.into_iter().collect();
        Self { slots, running: BTreeMap::new(), finished, draining: false, may_leave: false }
    }

    /// Decides about a lease; [`Admission::Start`] records it as running.
    pub fn admit(&mut self, key: LeaseKey, subject: &Subject) -> Admission {
        if self.running.contains_key(&key) {
            return Admission::Running;
        }
        // A coordinator that began anew may use a number again: a result of another derivation is not meant.
        match self.finished.get(&key) {
            Some(finished) if finished.derivation == subject.derivation => return Admission::ReportAgain,
            Some(_) => drop(self.finished.remove(&key)),
            None => {}
        }
        if self.draining {
            return Admission::Refuse("the executor is draining");
        }
        if self.running.len() >= self.slots * (1 + WAITING_PER_SLOT) {
            return Admission::Refuse("all slots of the executor are taken");
        }
        if self.finished.len() >= FINISHED_MAX {
            return Admission::Refuse("the executor holds too many results that nobody acknowledged");
        }
        self.running.insert(key, subject.clone());
        Admission::Start
    }

    /// Records a lease that is refused, so that its result is kept and acknowledged like any other.
    pub fn refuse(&mut self, key: LeaseKey, subject: &Subject) {
        self.running.insert(key, subject.clone());
    }

    /// Whether nothing runs.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// A running lease has a result, which is safe on disk.
    pub fn finish(&mut self, key: LeaseKey) {
        if let Some(subject) = self.running.remove(&key) {
            self.finished.insert(key, subject);
        }
    }

    /// The coordinator has the result; says whether there was one.
    pub fn acknowledge(&mut self, key: LeaseKey) -> bool {
        self.finished.remove(&key).is_some()
    }

    /// What runs, for hello and heartbeat. Results that wait for acknowledgement count as running: nobody else
    /// need build them.
    pub fn believed(&self) -> Vec<(LeaseKey, Subject)> {
        let all = self.running.iter().chain(&self.finished);
        let mut all: Vec<_> = all.map(|(key, subject)| (*key, subject.clone())).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    /// Results to send after a reconnect.
    pub fn unacknowledged(&self) -> Vec<LeaseKey> {
        self.finished.keys().copied().collect()
    }

    /// Takes no more leases; says whether that is new.
    pub fn drain(&mut self) -> bool {
        !std::mem::replace(&mut self.draining, true)
    }

    /// Whether no more leases are taken.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// The coordinator needs nothing any more that only this executor holds.
    pub fn allow_leave(&mut self) {
        self.may_leave = true;
    }

    /// Whether the process may end: asked to drain, nothing runs, nothing is unacknowledged, and nothing is needed.
    pub fn can_leave(&self) -> bool {
        self.draining && self.may_leave && self.running.is_empty() && self.finished.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ContentId, Epoch, LeaseId, StorePath, TrustDomain};

    fn key(id: u64) -> LeaseKey {
        LeaseKey { id: LeaseId(id), epoch: Epoch(1) }
    }

    fn derivation(name: &str) -> Subject {
        let path =
            StorePath::from_validated(&format!("/nix/store/w51084ksv60sy0fkcb9hz4rxv8rv2avb-{name}.drv"));
        Subject { derivation: ContentId { domain: TrustDomain::Shared, path }, platform: None }
    }

    #[test]
    fn a_lease_runs_once_and_its_result_waits_for_acknowledgement() {
        let mut ledger = Ledger::new(1, []);
        let a = derivation("a");
        assert_eq!(ledger.admit(key(1), &a), Admission::Start);
        assert_eq!(ledger.admit(key(1), &a), Admission::Running);
        assert_eq!(ledger.believed(), [(key(1), a.clone())]);
        assert!(ledger.unacknowledged().is_empty());
        ledger.finish(key(1));
        assert_eq!(ledger.admit(key(1), &a), Admission::ReportAgain);
        assert_eq!((ledger.believed(), ledger.unacknowledged()), (vec![(key(1), a)], vec![key(1)]));
        assert!(ledger.acknowledge(key(1)));
        assert!(!ledger.acknowledge(key(1)));
        assert!(ledger.believed().is_empty());
    }

    #[test]
    fn results_of_an_earlier_process_are_reported_but_not_for_another_derivation() {
        let mut ledger = Ledger::new(1, [(key(7), derivation("a"))]);
        assert_eq!(ledger.unacknowledged(), [key(7)]);
        assert_eq!(ledger.admit(key(7), &derivation("b")), Admission::Start);
        assert!(ledger.unacknowledged().is_empty());
    }

    #[test]
    fn leases_beyond_the_slots_and_their_queue_are_refused() {
        let mut ledger = Ledger::new(2, []);
        for id in 0..6 {
            assert_eq!(ledger.admit(key(id), &derivation("a")), Admission::Start, "{id}");
        }
        assert!(matches!(ledger.admit(key(6), &derivation("a")), Admission::Refuse(_)));
    }

    #[test]
    fn a_draining_executor_leaves_when_nothing_runs_waits_or_is_needed() {
        let mut ledger = Ledger::new(1, []);
        assert_eq!(ledger.admit(key(1), &derivation("a")), Admission::Start);
        assert!(ledger.drain());
        assert!(!ledger.drain());
        assert!(matches!(ledger.admit(key(2), &derivation("b")), Admission::Refuse(_)));
        ledger.allow_leave();
        assert!(!ledger.can_leave());
        ledger.finish(key(1));
        assert!(!ledger.can_leave());
        ledger.acknowledge(key(1));
        assert!(ledger.can_leave());
        let mut idle = Ledger::new(1, []);
        idle.allow_leave();
        assert!(!idle.can_leave(), "nobody asked it to drain");
    }
}
