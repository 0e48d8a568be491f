//! A lease and what ends it, in the executor's own words.
use model::{ContentId, Epoch, LeaseId, Outcome, PathFacts, Platform, StorePath};
use std::collections::HashMap;

/// Names one lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseKey {
    /// The lease.
    pub id: LeaseId,
    /// Its place among the leases of its task.
    pub epoch: Epoch,
}

impl std::fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.id.0, self.epoch.0)
    }
}

/// Permission to run one task once, with all that it takes.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its name.
    pub key: LeaseKey,
    /// The derivation's path, in the trust domain of everything the build makes.
    pub derivation: ContentId,
    /// The path of what is built: the derivation's own, or that of the derivation that it was resolved to.
    pub built: StorePath,
    /// What is built, as ATerm.
    pub derivation_text: Vec<u8>,
    /// The platform that it is to run on.
    pub platform: Platform,
    /// The whole closure of the inputs, dependencies first.
    pub inputs: Vec<Input>,
    /// W3C trace context: `traceparent`, `tracestate`.
    pub trace_context: HashMap<String, String>,
    /// Limits of the run.
    pub limits: Limits,
}

impl Lease {
    /// What it is for.
    pub fn subject(&self) -> Subject {
        Subject { derivation: self.derivation.clone(), platform: Some(self.platform.clone()) }
    }
}

/// What a task that comes next needs.
#[derive(Clone, Debug)]
pub struct Prefetch {
    /// Dependencies first.
    pub inputs: Vec<Input>,
    /// W3C trace context.
    pub trace_context: HashMap<String, String>,
}

/// One path of the input closure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// The path, in the domain that vouches for it.
    pub id: ContentId,
    /// What its bytes must be.
    pub facts: PathFacts,
    /// Where its bytes are, best first.
    pub sources: Vec<Source>,
}

/// Where the bytes of a path are.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// Another executor.
    Executor {
        /// `host:port` of its data listener.
        address: String,
        /// The name that its certificate must carry.
        name: String,
    },
    /// The coordinator's content store.
    ContentStore,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Executor { address, name } => write!(f, "executor {name} at {address}"),
            Self::ContentStore => f.write_str("the coordinator's content store"),
        }
    }
}

/// Limits of one build; `None` means none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Seconds from start to end.
    pub timeout_s: Option<u64>,
    /// Seconds without output.
    pub max_silent_s: Option<u64>,
    /// Bytes of log.
    pub log_bytes_max: Option<u64>,
}

impl Limits {
    /// The stricter of both, for each limit.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self {
            timeout_s: least(self.timeout_s, other.timeout_s),
            max_silent_s: least(self.max_silent_s, other.max_silent_s),
            log_bytes_max: least(self.log_bytes_max, other.log_bytes_max),
        }
    }
}

/// Milliseconds of each step of a build, and what it used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// Until all inputs were here.
    pub inputs_ms: u64,
    /// In the sandbox.
    pub build_ms: u64,
    /// Checking, hashing and keeping the outputs.
    pub outputs_ms: u64,
    /// Bytes of inputs that had to be fetched.
    pub input_bytes_fetched: u64,
    /// What the sandbox used, when there was one.
    pub usage: Option<Usage>,
}

/// What a build used in its sandbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Most memory at one time; of the largest process alone unless `is_of_all`.
    pub memory_bytes_peak: u64,
    /// Processor time in user mode.
    pub user_ms: u64,
    /// Processor time in the kernel.
    pub system_ms: u64,
    /// Bytes read from disks.
    pub read_bytes: u64,
    /// Bytes written to disks.
    pub written_bytes: u64,
    /// Of all processes, by cgroups; else of process 1 and those that were waited for.
    pub is_of_all: bool,
}

/// What a lease is for: a coordinator that restarted knows only what it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// The derivation.
    pub derivation: ContentId,
    /// How it runs; unknown of a lease that could not be read.
    pub platform: Option<Platform>,
}

/// How a lease ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Which.
    pub key: LeaseKey,
    /// Of what.
    pub subject: Subject,
    /// Outputs or failure.
    pub outcome: Outcome,
    /// How long it took.
    pub times: Times,
}
