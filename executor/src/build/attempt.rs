//! How a builder ended and what it took, for the log, the span and the report.
use super::run::{Ended, Run};
use super::usage;
use crate::lease::Usage;
use model::Platform;
use sandbox::cgroup::{self, Used};

/// How the builder ended, and what it took.
#[derive(Debug)]
pub struct Attempt {
    /// Why it is over.
    pub ended: Ended,
    /// An object in an output that the build's user does not own: the output's host path and the path in it.
    pub foreign: Option<(String, String)>,
    /// What it used, as far as that is known.
    pub usage: Option<Usage>,
    /// The limit of processes, if more were wanted.
    pub processes_refused_at: Option<u64>,
}

impl Default for Attempt {
    fn default() -> Self {
        Self { ended: Ended::Exited(0), foreign: None, usage: None, processes_refused_at: None }
    }
}

impl Attempt {
    /// Of a run, with what its cgroup counted.
    pub fn of(run: Run, used: Option<&Used>, limits: cgroup::Limits) -> Self {
        Self {
            ended: usage::judge(run.ended, used, limits),
            foreign: run.foreign,
            usage: usage::usage(run.finished.as_ref(), used),
            processes_refused_at: usage::processes_refused_at(used, limits),
        }
    }

    /// Into the log, and into the span of the sandbox.
    pub fn record(&self, derivation: &model::StorePath) {
        let usage = self.usage.unwrap_or_default();
        let span = tracing::Span::current();
        span.record("memory_bytes_peak", usage.memory_bytes_peak);
        span.record("cpu_ms", usage.user_ms.saturating_add(usage.system_ms));
        span.record("read_bytes", usage.read_bytes);
        span.record("written_bytes", usage.written_bytes);
        tracing::info!(
            %derivation,
            ended = ?self.ended,
            memory_bytes_peak = usage.memory_bytes_peak,
            user_ms = usage.user_ms,
            system_ms = usage.system_ms,
            read_bytes = usage.read_bytes,
            written_bytes = usage.written_bytes,
            is_of_all = usage.is_of_all,
            "the builder ended"
        );
    }
}

/// What the build used is recorded when it is known.
pub fn sandbox_span(slot: usize, platform: &Platform) -> tracing::Span {
    use tracing::field::Empty;
    tracing::info_span!(
        "sandbox",
        slot,
        %platform,
        memory_bytes_peak = Empty,
        cpu_ms = Empty,
        read_bytes = Empty,
        written_bytes = Empty
    )
}
