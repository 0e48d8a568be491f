//! Who is connected, so that the next run knows for whom to wait before it leases anything. Pure.
use crate::journal::Entry;
use model::ExecutorName;
use std::collections::HashSet;

/// The executors that the journal names, and those of the last run that have not come back yet.
#[derive(Debug, Default)]
pub(super) struct Roster {
    named: HashSet<ExecutorName>,
    awaited: HashSet<ExecutorName>,
}

impl Roster {
    /// As the last run left it.
    pub(super) fn new(recorded: Vec<ExecutorName>) -> Self {
        let named: HashSet<_> = recorded.into_iter().collect();
        Self { awaited: named.clone(), named }
    }

    /// An executor connects: what to remember.
    pub(super) fn connected(&mut self, executor: &ExecutorName) -> Option<Entry> {
        self.named.insert(executor.clone()).then(|| Entry::ExecutorMet(executor.clone()))
    }

    /// An executor has said what it runs and holds: whether it is the last one that was waited for.
    pub(super) fn is_last_back(&mut self, executor: &ExecutorName) -> bool {
        self.awaited.remove(executor) && self.awaited.is_empty()
    }

    /// An executor is lost: what to remember. Nobody waits for it any more.
    pub(super) fn lost(&mut self, executor: &ExecutorName) -> Option<Entry> {
        self.awaited.remove(executor);
        self.named.remove(executor).then(|| Entry::ExecutorGone(executor.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_to_come_back_is_noticed_once() {
        let [a, b, c] = ["a", "b", "c"].map(|name| ExecutorName(name.into()));
        let mut roster = Roster::new(vec![a.clone(), b.clone()]);
        assert_eq!(roster.connected(&c), Some(Entry::ExecutorMet(c.clone())));
        assert_eq!(roster.connected(&a), None);
        assert_eq!([&c, &a, &b, &b].map(|name| roster.is_last_back(name)), [false, false, true, false]);
        assert_eq!(roster.lost(&b), Some(Entry::ExecutorGone(b.clone())));
        assert_eq!(roster.lost(&b), None);
        // Nothing is known of an older journal: time alone decides.
        assert!(!Roster::default().is_last_back(&a));
    }
}
