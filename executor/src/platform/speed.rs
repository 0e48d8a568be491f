//! How fast this machine runs one build, in thousandths of a usual processor: a first guess, until its builds have shown it.
use std::time::{Duration, Instant};

/// Numbers that are sorted: comparisons that cannot be foreseen and memory beyond the nearest cache, like a compiler's work.
const NUMBERS: usize = 200_000;
/// What a Xeon at 2.8 GHz takes for that, in a released program (median of 5: 3.1 ms). Only ratios between executors matter.
const USUAL: Duration = Duration::from_micros(3_100);
/// The fastest counts: whatever else runs only slows it down.
const ATTEMPTS: usize = 24;
/// Before each: who has just slept is let run for a moment. On a busy machine an executor would else look ten times slower than it
/// is, and never get a task that shows otherwise.
const PAUSE: Duration = Duration::from_millis(5);

/// Sorts numbers; takes some tenths of a second.
pub fn measure() -> u32 {
    let fastest = (0..ATTEMPTS).map(|_| sort_once()).min().unwrap_or(USUAL);
    let thousandths = USUAL.as_nanos() * 1000 / fastest.as_nanos().max(1);
    u32::try_from(thousandths).unwrap_or(u32::MAX).max(1)
}

fn sort_once() -> Duration {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut numbers: Vec<u64> = (0..NUMBERS)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        })
        .collect();
    std::thread::sleep(PAUSE);
    let begin = Instant::now();
    numbers.sort_unstable();
    std::hint::black_box(&numbers);
    begin.elapsed()
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_machine_has_some_speed() {
        assert!((1..1_000_000).contains(&super::measure()));
    }
}
