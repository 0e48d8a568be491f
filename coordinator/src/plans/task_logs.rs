//! What running tasks say: phase, and the end of the log, which outlives a failure. Pure.
use bytes::Bytes;
use model::{ExecutorName, TaskId, limits::LOG_TAIL_BYTES_MAX};
use scheduler::{LeaseKey, TaskChange, TaskState};
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

/// What one task says.
#[derive(Debug, Default)]
struct TaskLog {
    /// The lease that speaks for it.
    lease: Option<LeaseKey>,
    /// As it was last told to be running.
    running: Option<TaskChange>,
    phase: Arc<str>,
    tail: VecDeque<u8>,
    /// Bytes that were said in all.
    said: u64,
    /// The lease that began the log.
    number: u64,
    /// What another executor says that builds the same: nobody hears it yet.
    second: Option<Second>,
    /// The end of the log of a failure, and where that was.
    kept: Arc<[u8]>,
    kept_said: u64,
}

/// Bytes of a log and their place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Piece {
    /// Tells the log from those of other builds of the derivation.
    pub log: u64,
    /// Its length so far, these bytes included.
    pub end: u64,
    /// Any bytes.
    pub text: Bytes,
}

/// A second lease of a task, and the end of what it says.
#[derive(Debug)]
struct Second {
    lease: LeaseKey,
    executor: ExecutorName,
    tail: VecDeque<u8>,
    said: u64,
}

/// What all tasks say.
#[derive(Debug, Default)]
pub(super) struct TaskLogs {
    tasks: HashMap<TaskId, TaskLog>,
    leases: HashMap<LeaseKey, (ExecutorName, TaskId)>,
}

impl TaskLogs {
    /// A lease speaks for a task from now on, unless a newer one does; a log that an older one began is over.
    pub(super) fn leased(&mut self, lease: LeaseKey, executor: &ExecutorName, task: &TaskId) {
        let log = self.tasks.entry(task.clone()).or_default();
        if log.lease.is_some_and(|current| current.id >= lease.id) || self.leases.contains_key(&lease) {
            return;
        }
        if let Some(former) = log.lease.replace(lease) {
            self.leases.remove(&former);
        }
        log.phase = Arc::default();
        log.tail.clear();
        log.said = 0;
        log.number = lease.id.0;
        if let Some(second) = log.second.take() {
            self.leases.remove(&second.lease);
        }
        self.leases.insert(lease, (executor.clone(), task.clone()));
    }

    /// Another lease tries to end a task sooner. It speaks when it is the one that is told to run, or to have ended.
    pub(super) fn leased_second(&mut self, lease: LeaseKey, executor: &ExecutorName, task: &TaskId) {
        let log = self.tasks.entry(task.clone()).or_default();
        let second = Second { lease, executor: executor.clone(), tail: VecDeque::new(), said: 0 };
        if let Some(former) = log.second.replace(second) {
            self.leases.remove(&former.lease);
        }
        self.leases.insert(lease, (executor.clone(), task.clone()));
    }

    /// A task is told to run at an executor, or to have been built there. If that is the second one, it takes over: gives what it
    /// has said beyond what the first had.
    pub(super) fn told(&mut self, change: &TaskChange) -> Piece {
        let Some(log) = self.tasks.get_mut(&change.task) else { return Piece::default() };
        let Some(second) = log.second.take_if(|second| Some(&second.executor) == change.executor.as_ref())
        else {
            return Piece::default();
        };
        let is_running = change.state == TaskState::Running;
        if let Some(former) = mem::replace(&mut log.lease, is_running.then_some(second.lease)) {
            self.leases.remove(&former);
        }
        if !is_running {
            self.leases.remove(&second.lease);
        }
        let ahead = usize::try_from(second.said.saturating_sub(log.said)).unwrap_or(usize::MAX);
        let beyond = second.tail.len().saturating_sub(ahead);
        let text: Vec<u8> = second.tail.iter().skip(beyond).copied().collect();
        log.said = log.said.max(second.said);
        log.tail = second.tail;
        Piece { log: log.number, end: log.said, text: text.into() }
    }

    /// The task of an executor's lease, if that speaks for one.
    pub(super) fn task(&self, lease: LeaseKey, executor: &ExecutorName) -> Option<&TaskId> {
        self.leases.get(&lease).filter(|(holder, _)| holder == executor).map(|(_, task)| task)
    }

    /// Next bytes of a lease's log, up to `end` of it (0: nobody counts): gives what is new. `None` if nobody is to hear it now.
    pub(super) fn append(&mut self, lease: LeaseKey, task: &TaskId, end: u64, text: Bytes) -> Option<Piece> {
        let log = self.tasks.get_mut(task)?;
        if let Some(second) = log.second.as_mut().filter(|second| second.lease == lease) {
            say(&mut second.tail, &mut second.said, end, text);
            return None;
        }
        let text = say(&mut log.tail, &mut log.said, end, text);
        Some(Piece { log: log.number, end: log.said, text })
    }

    /// A task's build is in another phase; gives what to tell, if the task is told to be running.
    pub(super) fn enter(&mut self, task: &TaskId, phase: &str) -> Option<TaskChange> {
        let log = self.tasks.get_mut(task).filter(|log| &*log.phase != phase)?;
        log.phase = phase.into();
        log.running.clone()
    }

    /// Remembers how a running task is told.
    pub(super) fn running(&mut self, change: &TaskChange) {
        self.tasks.entry(change.task.clone()).or_default().running = Some(change.clone());
    }

    /// An executor's lease is over, and the task is settled or goes on with another.
    pub(super) fn released(&mut self, lease: LeaseKey, executor: &ExecutorName) {
        let Some(task) = self.task(lease, executor).cloned() else { return };
        self.leases.remove(&lease);
        if let Some(log) = self.tasks.get_mut(&task).filter(|log| log.lease == Some(lease)) {
            log.lease = None;
            log.running = None;
            log.phase = Arc::default();
        }
    }

    /// The task failed for good: the end of its log is kept, of two leases the one's that has come further.
    pub(super) fn failed(&mut self, task: &TaskId) -> Arc<[u8]> {
        let Some(log) = self.tasks.get_mut(task) else { return Arc::default() };
        let further = log.second.as_ref().filter(|second| second.said > log.said);
        log.kept_said = further.map_or(log.said, |second| second.said);
        let tail = further.map(|second| second.tail.clone());
        let tail = tail.unwrap_or_else(|| mem::take(&mut log.tail));
        log.kept = Vec::from(tail).into();
        log.kept.clone()
    }

    /// The end of a log that an earlier run has recorded.
    pub(super) fn restore(&mut self, task: &TaskId, tail: Arc<[u8]>) {
        self.tasks.entry(task.clone()).or_default().kept = tail;
    }

    /// The phase of a task's build.
    pub(super) fn phase(&self, task: &TaskId) -> Arc<str> {
        self.tasks.get(task).map(|log| log.phase.clone()).unwrap_or_default()
    }

    /// The end of a failed task's log.
    pub(super) fn tail(&self, task: &TaskId) -> Arc<[u8]> {
        self.tasks.get(task).map(|log| log.kept.clone()).unwrap_or_default()
    }

    /// What a task has said that runs or failed, as far as it is kept: for those who come late.
    pub(super) fn so_far(&self, task: &TaskId) -> Piece {
        let Some(log) = self.tasks.get(task) else { return Piece::default() };
        let (end, text) = match log.lease {
            Some(_) => (log.said, log.tail.iter().copied().collect()),
            None => (log.kept_said, log.kept.to_vec()),
        };
        Piece { log: log.number, end, text: text.into() }
    }

    /// Nobody wants a task any more.
    pub(super) fn forget(&mut self, task: &TaskId) {
        let Some(log) = self.tasks.remove(task) else { return };
        for lease in log.lease.into_iter().chain(log.second.map(|second| second.lease)) {
            self.leases.remove(&lease);
        }
    }
}

/// Adds what was not said before; gives it.
fn say(tail: &mut VecDeque<u8>, said: &mut u64, end: u64, text: Bytes) -> Bytes {
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let end = if end == 0 { said.saturating_add(length) } else { end };
    let new = usize::try_from(end.saturating_sub(*said)).unwrap_or(usize::MAX);
    let text = text.slice(text.len().saturating_sub(new)..);
    if new > text.len() {
        // Something between is missing: what is kept is in one piece.
        tail.clear();
    }
    *said = end.max(*said);
    keep_end(tail, &text);
    text
}

fn keep_end(tail: &mut VecDeque<u8>, text: &[u8]) {
    tail.extend(&text[text.len().saturating_sub(LOG_TAIL_BYTES_MAX)..]);
    let excess = tail.len().saturating_sub(LOG_TAIL_BYTES_MAX);
    tail.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ContentId, Epoch, LeaseId, StorePath, TrustDomain};

    fn lease(number: u64) -> LeaseKey {
        LeaseKey { id: LeaseId(number), epoch: Epoch(1) }
    }

    fn task() -> TaskId {
        ContentId { domain: TrustDomain::Shared, path: StorePath::from_validated("/nix/store/x.drv") }
    }

    #[test]
    fn only_the_newest_lease_speaks_and_its_log_begins_anew() {
        let mut logs = TaskLogs::default();
        let (executor, other) = (ExecutorName("x".into()), ExecutorName("other".into()));
        logs.leased(lease(1), &executor, &task());
        logs.append(lease(1), &task(), 0, b"old"[..].into());
        logs.leased(lease(2), &executor, &task());
        assert_eq!(logs.task(lease(1), &executor), None);
        assert_eq!(logs.task(lease(2), &executor), Some(&task()));
        logs.append(lease(2), &task(), 0, b"new"[..].into());
        assert_eq!(logs.so_far(&task()), piece(2, 3, b"new"));
        logs.released(lease(1), &executor);
        logs.leased(lease(1), &other, &task());
        logs.leased(lease(2), &other, &task());
        logs.released(lease(2), &other);
        assert_eq!((logs.task(lease(2), &other), logs.task(lease(2), &executor)), (None, Some(&task())));
        assert_eq!(&*logs.failed(&task()), b"new");
        assert_eq!(&*logs.tail(&task()), b"new");
        logs.released(lease(2), &executor);
        assert_eq!(logs.so_far(&task()), piece(2, 3, b"new"), "of a failure, too");
    }

    fn piece(log: u64, end: u64, text: &'static [u8]) -> Piece {
        Piece { log, end, text: text.into() }
    }

    #[test]
    fn what_is_said_again_after_a_reconnect_is_not_told_again_and_what_is_missing_counts() {
        let mut logs = TaskLogs::default();
        logs.leased(lease(7), &ExecutorName("x".into()), &task());
        let mut say = |end, text: &'static [u8]| logs.append(lease(7), &task(), end, text.into());
        assert_eq!(say(3, b"one"), Some(piece(7, 3, b"one")));
        assert_eq!(say(6, b"onetwo"), Some(piece(7, 6, b"two")));
        assert_eq!(say(6, b"two"), Some(piece(7, 6, b"")));
        assert_eq!(say(2, b"on"), Some(piece(7, 6, b"")), "an older piece takes nothing back");
        assert_eq!(say(0, b"X"), Some(piece(7, 7, b"X")), "of one who does not count");
        assert_eq!(say(20, b"end"), Some(piece(7, 20, b"end")));
        assert_eq!(say(u64::MAX, b"!"), Some(piece(7, u64::MAX, b"!")));
        assert_eq!(logs.so_far(&task()), piece(7, u64::MAX, b"!"), "in one piece");
    }

    fn change(state: TaskState, executor: &ExecutorName) -> TaskChange {
        TaskChange {
            task: task(),
            state,
            executor: Some(executor.clone()),
            platform: None,
            attempt: 2,
            failure: None,
            was_held: false,
            duration_ms: 0,
        }
    }

    #[test]
    fn a_second_lease_is_heard_from_where_the_first_ended_when_it_takes_over() {
        for (state, speaks_on) in [(TaskState::Running, true), (TaskState::Done, false)] {
            let mut logs = TaskLogs::default();
            let (slow, fast) = (ExecutorName("slow".into()), ExecutorName("fast".into()));
            logs.leased(lease(1), &slow, &task());
            assert!(logs.append(lease(1), &task(), 0, b"one\n"[..].into()).is_some());
            logs.leased_second(lease(2), &fast, &task());
            assert_eq!(
                logs.append(lease(2), &task(), 0, b"one\ntwo\nthr"[..].into()),
                None,
                "nobody hears it"
            );
            assert!(logs.append(lease(1), &task(), 0, b"two"[..].into()).is_some());
            assert_eq!(logs.told(&change(TaskState::Running, &slow)), Piece::default());
            assert_eq!(logs.told(&change(state, &fast)), piece(1, 11, b"\nthr"), "the same log goes on");
            assert_eq!(logs.task(lease(1), &slow), None, "the first is heard no more");
            assert_eq!(logs.told(&change(state, &fast)), Piece::default());
            assert_eq!(logs.leases.len(), usize::from(speaks_on));
            let so_far: &[u8] = if speaks_on { b"one\ntwo\nthr" } else { b"" };
            assert_eq!(logs.so_far(&task()).text, so_far);
            logs.forget(&task());
            assert!(logs.leases.is_empty());
        }
    }

    #[test]
    fn of_two_leases_the_log_that_came_further_is_that_of_the_failure() {
        for second in [&b"one\nerror"[..], b""] {
            let mut logs = TaskLogs::default();
            let (slow, fast) = (ExecutorName("slow".into()), ExecutorName("fast".into()));
            logs.leased(lease(1), &slow, &task());
            logs.append(lease(1), &task(), 0, b"one\n"[..].into());
            logs.leased_second(lease(2), &fast, &task());
            logs.append(lease(2), &task(), 0, second.into());
            let expected = if second.is_empty() { b"one\n" } else { second };
            assert_eq!(&*logs.failed(&task()), expected);
            // The rest of it is said, too.
            let rest = logs.told(&change(TaskState::Failed, &fast)).text;
            assert_eq!(rest, if second.is_empty() { &b""[..] } else { b"error" });
            assert_eq!(&*logs.tail(&task()), expected);
        }
    }

    #[test]
    fn the_end_of_a_long_log_is_kept() {
        let mut logs = TaskLogs::default();
        let executor = ExecutorName("x".into());
        logs.leased(lease(1), &executor, &task());
        logs.append(lease(1), &task(), 0, vec![b'a'; LOG_TAIL_BYTES_MAX + 5].into());
        logs.append(lease(1), &task(), 0, b"end"[..].into());
        logs.released(lease(1), &executor);
        let tail = logs.failed(&task());
        assert_eq!((tail.len(), tail.ends_with(b"aend")), (LOG_TAIL_BYTES_MAX, true));
        logs.forget(&task());
        assert!(logs.tail(&task()).is_empty());
    }
}
