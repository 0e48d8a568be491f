//! How long to wait before trying again: exponential, bounded, with jitter, repeatable from a seed.

use std::time::Duration;

/// Grows from `first` to `longest`; what a caller waits is between half of that and all of it.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    current: Duration,
    state: u64,
}

impl Backoff {
    /// Begins at `first`, doubles with each wait, never beyond `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        let first = first.min(longest);
        Self { first, longest, current: first, state: seed }
    }

    /// For connections: a quarter second up to ten seconds, seeded at random so that peers do not come back together.
    #[must_use]
    pub fn for_connections() -> Self {
        let random = uuid::Uuid::new_v4().as_u64_pair().0;
        Self::new(Duration::from_millis(250), Duration::from_secs(10), random)
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let whole = self.current;
        self.current = whole.saturating_mul(2).min(self.longest);
        let half = whole / 2;
        let part = u32::try_from(self.random() >> 40).unwrap_or(0);
        // 24 random bits: between no and all of the other half.
        half + (whole - half).mul_f64(f64::from(part) / f64::from(1 << 24))
    }

    /// It worked: the next wait is short again.
    pub fn reset(&mut self) {
        self.current = self.first;
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);

    fn waits(seed: u64) -> Vec<Duration> {
        let mut backoff = Backoff::new(FIRST, LONGEST, seed);
        (0..40).map(|_| backoff.next_wait()).collect()
    }

    #[test]
    fn grows_to_its_bound_with_jitter() {
        for (attempt, wait) in waits(7).into_iter().enumerate() {
            let whole = FIRST.saturating_mul(1 << attempt.min(10)).min(LONGEST);
            assert!(wait >= whole / 2 && wait <= whole, "attempt {attempt}: {wait:?} of {whole:?}");
        }
    }

    #[test]
    fn repeats_from_its_seed_and_differs_between_seeds() {
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn begins_anew_after_success() {
        let mut backoff = Backoff::new(FIRST, LONGEST, 3);
        for _ in 0..10 {
            backoff.next_wait();
        }
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
