//! `cargo xtask bench`: what is promised of speed, as ratios to a peer in the same run. Never part of a test.

mod emulation;
mod programs;

use anyhow::{Result, bail};

use crate::cache::Cache;
use crate::setup;

/// What a benchmark found.
pub struct Measured {
    /// What was timed, against what.
    pub name: String,
    /// Ours, median, in seconds.
    pub ours_s: f64,
    /// The peer's, median, in seconds.
    pub peer_s: f64,
    /// The largest ratio that is promised.
    pub ratio_max: f64,
}

impl Measured {
    fn ratio(&self) -> f64 {
        self.ours_s / self.peer_s
    }
}

/// Runs all benchmarks, prints the ratios, and fails if one is above what is promised.
pub fn run() -> Result<()> {
    setup::run()?;
    let cache = Cache::open()?;
    let mut all = vec![emulation::measure(&cache)?];
    all.extend(programs::measure()?);
    println!("\n{:<74} {:>8} {:>8} {:>7} {:>9}", "benchmark", "ours s", "peer s", "ratio", "promised");
    for measured in &all {
        let Measured { name, ours_s, peer_s, ratio_max } = measured;
        println!("{name:<74} {ours_s:>8.4} {peer_s:>8.4} {:>7.2} {ratio_max:>9.2}", measured.ratio());
    }
    let above: Vec<&str> = all
        .iter()
        .filter(|measured| measured.ratio() > measured.ratio_max)
        .map(|measured| measured.name.as_str())
        .collect();
    if !above.is_empty() {
        bail!("slower than promised: {}", above.join(", "));
    }
    Ok(())
}

/// The middle of an odd number of times.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    #[test]
    fn median_is_the_middle() {
        assert!((super::median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(super::median(Vec::new()).is_nan());
    }
}
