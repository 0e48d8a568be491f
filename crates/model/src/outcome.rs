//! How an attempt at a task ended: a closed list, because retries are decided by cause.
use crate::{PathFacts, StorePath};
use alloc::{string::String, vec::Vec};

/// One output that a build produced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuiltOutput {
    /// Output name.
    pub name: String,
    /// Its store path.
    pub path: StorePath,
    /// What is known about its bytes.
    pub facts: PathFacts,
}

/// Why an attempt failed; decides whether it is retried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FailureClass {
    /// The builder failed (exit status or signal): never retried.
    BuildFailed,
    /// The outputs were refused (hash mismatch, references, modes, missing): never retried.
    OutputRejected,
    /// The derivation cannot be built here at all (malformed, unsupported): never retried.
    InputRejected,
    /// Silence or time limit exceeded.
    TimedOut,
    /// Log limit exceeded.
    LogLimitExceeded,
    /// The executor's own trouble: retried elsewhere, counted.
    Infrastructure,
    /// An input could not be fetched from any source: re-materialised, then retried.
    InputMissing,
    /// No room on the executor: retried elsewhere.
    OutOfDisk,
    /// Killed for memory: retried in a bigger memory class.
    OutOfMemory,
    /// Cancelled because nobody wants it.
    Cancelled,
}

impl FailureClass {
    /// Whether another attempt may succeed.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Infrastructure | Self::InputMissing | Self::OutOfDisk | Self::OutOfMemory)
    }
}

/// An attempt that did not give outputs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The class.
    pub class: FailureClass,
    /// What happened, in Nix's words where Nix has words for it.
    pub message: String,
    /// Exit status of the builder, when it exited.
    pub exit_status: Option<i32>,
    /// Inputs that could not be fetched (class `InputMissing`).
    pub missing_inputs: Vec<StorePath>,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All outputs exist at the executor.
    Built(Vec<BuiltOutput>),
    /// They do not.
    Failed(Failure),
}
