//! The engine's time: it stands still while the engine does, so that nobody is lost for the engine's own absence.
use scheduler::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// Time since the engine's start, without what it slept through: frozen, with a full disk, in a suspended machine.
#[derive(Debug)]
pub(super) struct Clock {
    looked: Instant,
    passed: Duration,
    step_max: Duration,
}

impl Clock {
    /// Begins now. Between two looks at most `step_max` passes.
    pub(super) fn new(now: Instant, step_max: Duration) -> Self {
        Self { looked: now, passed: Duration::ZERO, step_max }
    }

    /// What has passed, as of the last look.
    pub(super) fn passed(&self) -> Duration {
        self.passed
    }

    /// Looks at the machine's monotonic clock.
    pub(super) fn look(&mut self, now: Instant) -> Timestamp {
        self.passed += now.saturating_duration_since(self.looked).min(self.step_max);
        self.looked = self.looked.max(now);
        Timestamp(u64::try_from(self.passed.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_absence_counts_as_a_short_one() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut clock = Clock::new(begin, Duration::from_secs(2));
        let cases =
            [(500, 500), (1_400, 1_400), (1_400, 1_400), (61_400, 3_400), (61_900, 3_900), (61_000, 3_900)];
        for (real_ms, engine_ms) in cases {
            assert_eq!(clock.look(at(real_ms)), Timestamp(engine_ms), "at {real_ms}");
        }
        assert_eq!(clock.passed(), Duration::from_millis(3_900));
    }
}
