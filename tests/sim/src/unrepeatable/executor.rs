//! An executor of the simulation: what it has on disk, what it runs, what it has to say.
use crate::common::*;
use model::{Capability, ContentId, FailureClass, Outcome, Platform, TaskId};
use scheduler::{Event, Grant, Held, LeaseKey, RunningLease};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the coordinator sends.
#[derive(Debug, Clone)]
pub enum Message {
    Lease(Grant),
    Cancel(LeaseKey),
    Acknowledge(LeaseKey),
}

/// A lease at its executor.
#[derive(Debug, Clone)]
pub struct Job {
    pub task: TaskId,
    pub platform: Platform,
    /// Known before the builder starts: cancelled, or an input is missing.
    pub outcome: Option<Outcome>,
}

#[derive(Debug, Default)]
pub struct Executor {
    pub name: String,
    pub capability: Capability,
    pub boot: u8,
    pub disk: BTreeSet<ContentId>,
    pub running: BTreeMap<LeaseKey, Job>,
    /// On disk until acknowledged.
    pub finished: BTreeMap<LeaseKey, (Job, Outcome)>,
    pub is_linked: bool,
    pub is_draining: bool,
    pub may_leave: bool,
    /// From the coordinator.
    pub inbox: VecDeque<Message>,
    /// To the coordinator.
    pub outbox: VecDeque<Event>,
}

impl Executor {
    fn believed(&self) -> Vec<RunningLease> {
        let finished = self.finished.iter().map(|(key, (job, _))| (key, job));
        let all = self.running.iter().chain(finished);
        all.map(|(lease, job)| RunningLease {
            lease: *lease,
            task: job.task.clone(),
            platform: job.platform.clone(),
        })
        .collect()
    }

    /// Dials: hello, inventory in parts, results that nobody acknowledged.
    pub fn link(&mut self) {
        self.is_linked = true;
        self.may_leave = false;
        self.outbox.push_back(Event::ExecutorConnected {
            executor: name(&self.name),
            boot: model::BootId([self.boot; 16]),
            capability: self.capability.clone(),
            running: self.believed(),
        });
        let disk: Vec<ContentId> = self.disk.iter().cloned().collect();
        let mut parts: Vec<&[ContentId]> = disk.chunks(3).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for (position, part) in parts.iter().enumerate() {
            // The facts are the shell's: filled in on arrival.
            let contents = part.iter().map(|id| known(&short(&id.path), &[], &[])).collect();
            let is_last = position + 1 == parts.len();
            let held = Held { executor: name(&self.name), contents, is_last };
            self.outbox.push_back(Event::ExecutorHolds(held));
        }
        for key in self.finished.keys().copied().collect::<Vec<_>>() {
            self.say_result(key);
        }
        if self.is_draining {
            self.outbox.push_back(Event::ExecutorDraining(name(&self.name)));
        }
    }

    /// The connection is gone, with everything that was on its way.
    pub fn unlink(&mut self) {
        self.is_linked = false;
        self.inbox.clear();
        self.outbox.clear();
    }

    /// The process ends and begins again; what is on disk stays.
    pub fn crash(&mut self) {
        self.unlink();
        self.boot += 1;
        self.running.clear();
        self.is_draining = false;
    }

    pub fn say_result(&mut self, key: LeaseKey) {
        if let (Some((job, outcome)), true) = (self.finished.get(&key), self.is_linked) {
            self.outbox.push_back(Event::LeaseReported {
                executor: name(&self.name),
                lease: key,
                task: job.task.clone(),
                outcome: outcome.clone(),
            });
        }
    }

    pub fn beat(&mut self) {
        if self.is_linked {
            let running = self.believed().iter().map(|running| running.lease).collect();
            self.outbox.push_back(Event::Heartbeat { executor: name(&self.name), running, is_full: false });
        }
    }

    pub fn cancel(&mut self, key: LeaseKey) {
        if let Some(job) = self.running.get_mut(&key) {
            job.outcome = Some(failed(FailureClass::Cancelled, &[]));
        }
    }

    /// A running lease ends.
    pub fn finish(&mut self, key: LeaseKey, outcome: Outcome) {
        let Some(job) = self.running.remove(&key) else { return };
        if let Outcome::Built(outputs) = &outcome {
            let domain = &job.task.domain;
            let made =
                outputs.iter().map(|output| ContentId { domain: domain.clone(), path: output.path.clone() });
            self.disk.extend(made);
        }
        self.finished.insert(key, (job, outcome));
        self.say_result(key);
    }
}
