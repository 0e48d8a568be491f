//! The time limits of one build: since its start, and since it was last heard of.
use super::run::Ended;
use crate::lease::Limits;
use std::time::Duration;
use tokio::time::Instant;

/// Started with the build.
#[derive(Clone, Debug)]
pub struct Clock {
    limits: Limits,
    started: Instant,
    heard: Instant,
}

impl Clock {
    /// Starts now.
    pub fn new(limits: Limits) -> Self {
        let now = Instant::now();
        Self { limits, started: now, heard: now }
    }

    /// The build shows that it lives.
    pub fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// When the next limit passes, if nothing is heard until then.
    pub fn next(&self) -> Option<Instant> {
        let after = |start: Instant, limit: Option<u64>| {
            limit.and_then(|limit| start.checked_add(Duration::from_secs(limit)))
        };
        let silence = after(self.heard, self.limits.max_silent_s);
        silence.into_iter().chain(after(self.started, self.limits.timeout_s)).min()
    }

    /// The limit that has passed.
    pub fn passed(&self) -> Option<Ended> {
        let passed =
            |start: Instant, limit: Option<u64>| limit.filter(|limit| start.elapsed().as_secs() >= *limit);
        if let Some(limit_s) = passed(self.heard, self.limits.max_silent_s) {
            return Some(Ended::SilentTooLong { limit_s });
        }
        passed(self.started, self.limits.timeout_s).map(|limit_s| Ended::TimedOut { limit_s })
    }
}
