//! An executor: what it has on disk, what it runs, what it has to say, and what is wrong with it.
use crate::bits::Bits;
use crate::common::failed;
use crate::graph::Graph;
use model::{BootId, Capability, ContentId, ExecutorName, FailureClass, Outcome, Platform, TaskId};
use scheduler::{Event, Grant, GrantedInput, Held, LeaseKey, RunningLease};
use std::collections::VecDeque;

/// What the coordinator sends.
#[derive(Debug, Clone)]
pub enum Message {
    Lease(Grant),
    Cancel(LeaseKey),
    Acknowledge(LeaseKey),
    Prefetch(Vec<GrantedInput>),
    MayLeave,
    MayDrop(u64, Vec<ContentId>),
}

/// A lease at its executor.
#[derive(Debug, Clone)]
pub struct Job {
    pub task: TaskId,
    pub platform: Platform,
    /// Known before the builder starts: cancelled, or an input is missing.
    pub outcome: Option<Outcome>,
}

#[derive(Debug)]
pub struct Executor {
    pub name: ExecutorName,
    pub capability: Capability,
    pub boot: u8,
    pub disk: Bits,
    pub running: Vec<(LeaseKey, Job)>,
    /// On disk until acknowledged.
    pub finished: Vec<(LeaseKey, Job, Outcome)>,
    /// The process is there.
    pub is_up: bool,
    /// The process is there and does nothing.
    pub is_frozen: bool,
    /// It has a session.
    pub is_linked: bool,
    /// Nothing passes, and nobody is told.
    pub is_cut: bool,
    /// Nothing passes until then.
    pub late_until_ms: u64,
    /// Its builds end later than those of others until then.
    pub slow_until_ms: u64,
    /// Its disk has no room for builds until then.
    pub full_until_ms: u64,
    /// Contents that it would like to have at most.
    pub disk_max: usize,
    /// The last question what it may drop, and whether it waits for the answer.
    pub question: u64,
    pub is_asking: bool,
    pub is_draining: bool,
    pub may_leave: bool,
    /// It has claimed other bytes than it had built.
    pub has_lied: bool,
    /// From the coordinator.
    pub inbox: VecDeque<Message>,
    /// To the coordinator.
    pub outbox: VecDeque<Event>,
}

impl Executor {
    pub fn new(name: ExecutorName, capability: Capability) -> Self {
        Self {
            name,
            capability,
            boot: 1,
            disk: Bits::default(),
            running: vec![],
            finished: vec![],
            is_up: true,
            is_frozen: false,
            is_linked: false,
            is_cut: false,
            late_until_ms: 0,
            slow_until_ms: 0,
            full_until_ms: 0,
            disk_max: usize::MAX,
            question: 0,
            is_asking: false,
            is_draining: false,
            may_leave: false,
            has_lied: false,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Whether messages pass.
    pub fn is_reachable(&self, now_ms: u64) -> bool {
        self.is_linked && !self.is_cut && self.late_until_ms <= now_ms
    }

    /// Whether another host can fetch from it.
    pub fn gives(&self, content: usize) -> bool {
        self.is_up && !self.is_frozen && !self.is_cut && self.disk.has(content)
    }

    fn believed(&self) -> Vec<RunningLease> {
        let lease = |lease: LeaseKey, job: &Job| RunningLease {
            lease,
            task: job.task.clone(),
            platform: job.platform.clone(),
        };
        let running = self.running.iter().map(|(key, job)| lease(*key, job));
        running.chain(self.finished.iter().map(|(key, job, _)| lease(*key, job))).collect()
    }

    /// Dials: hello, inventory in parts, results that nobody acknowledged. May claim what it does not have.
    pub fn link(&mut self, graph: &Graph, part_len: usize, claimed: &Bits) {
        self.is_linked = true;
        self.may_leave = false;
        self.outbox.push_back(Event::ExecutorConnected {
            executor: self.name.clone(),
            boot: BootId([self.boot; 16]),
            capability: self.capability.clone(),
            running: self.believed(),
        });
        let mut named = self.disk;
        named.add_all(claimed);
        let named: Vec<usize> = named.iter().collect();
        let mut parts: Vec<&[usize]> = named.chunks(part_len).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for (position, part) in parts.iter().enumerate() {
            let contents = part.iter().map(|content| graph.contents[*content].known(vec![])).collect();
            let is_last = position + 1 == parts.len();
            let held = Held { executor: self.name.clone(), contents, is_last };
            self.outbox.push_back(Event::ExecutorHolds(held));
        }
        for (key, _, _) in self.finished.clone() {
            self.say_result(key);
        }
        if self.is_draining {
            self.outbox.push_back(Event::ExecutorDraining(self.name.clone()));
        }
    }

    /// What it has now besides: others may fetch it here.
    pub fn say_fetched(&mut self, new: &Bits, graph: &Graph) {
        let contents: Vec<_> = new.iter().map(|content| graph.contents[content].known(vec![])).collect();
        if !contents.is_empty() {
            let held = Held { executor: self.name.clone(), contents, is_last: false };
            self.outbox.push_back(Event::ExecutorHolds(held));
        }
    }

    /// The connection is gone, with everything that was on its way.
    pub fn unlink(&mut self) {
        self.is_linked = false;
        self.is_asking = false;
        self.inbox.clear();
        self.outbox.clear();
    }

    /// The process ends; what is on disk stays.
    pub fn die(&mut self) {
        self.unlink();
        self.is_up = false;
        self.is_frozen = false;
        self.boot += 1;
        self.running.clear();
        self.is_draining = false;
    }

    pub fn say_result(&mut self, key: LeaseKey) {
        let finished = self.finished.iter().find(|(other, _, _)| *other == key);
        if let (Some((_, job, outcome)), true) = (finished, self.is_linked) {
            // Anything from nothing to more than some executors have.
            let memory_bytes = key.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 31;
            let executor = self.name.clone();
            let (fetched_bytes, fetch_ms) = (memory_bytes / 7, memory_bytes % 1_000);
            let used = Event::AttemptUsed { executor, lease: key, memory_bytes, fetched_bytes, fetch_ms };
            self.outbox.push_back(used);
            self.outbox.push_back(Event::LeaseReported {
                executor: self.name.clone(),
                lease: key,
                task: job.task.clone(),
                outcome: outcome.clone(),
            });
        }
    }

    pub fn beat(&mut self, now_ms: u64) {
        if self.is_linked && !self.is_frozen {
            let finished = self.finished.iter().map(|(key, _, _)| *key);
            let running = self.running.iter().map(|(key, _)| *key).chain(finished).collect();
            let is_full = self.full_until_ms > now_ms;
            self.outbox.push_back(Event::Heartbeat { executor: self.name.clone(), running, is_full });
        }
    }

    /// A lease arrives with what it comes to before the builder starts, if that is known.
    pub fn lease(&mut self, grant: &Grant, missing: Option<Outcome>, now_ms: u64) {
        if self.running.iter().any(|(key, _)| *key == grant.lease) {
            return;
        }
        if self.finished.iter().any(|(key, _, _)| *key == grant.lease) {
            return self.say_result(grant.lease);
        }
        let refused = self.is_draining.then(|| failed(FailureClass::Infrastructure, &[]));
        let full = (self.full_until_ms > now_ms).then(|| failed(FailureClass::OutOfDisk, &[]));
        let (task, platform) = (grant.task.clone(), grant.platform.clone());
        self.running.push((grant.lease, Job { task, platform, outcome: refused.or(full).or(missing) }));
    }

    pub fn cancel(&mut self, key: LeaseKey) {
        if let Some((_, job)) = self.running.iter_mut().find(|(other, _)| *other == key) {
            job.outcome = Some(failed(FailureClass::Cancelled, &[]));
        }
    }

    pub fn acknowledge(&mut self, key: LeaseKey) {
        self.finished.retain(|(other, _, _)| *other != key);
    }

    /// A running lease ends.
    pub fn finish(&mut self, key: LeaseKey, outcome: Outcome, made: &[usize]) {
        let Some(position) = self.running.iter().position(|(other, _)| *other == key) else { return };
        let (_, job) = self.running.swap_remove(position);
        made.iter().for_each(|content| _ = self.disk.add(*content));
        self.finished.push((key, job, outcome));
        self.say_result(key);
    }
}
