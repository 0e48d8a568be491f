//! The core among executors that crash, links that break, disks that lose things: whole worlds from a seed.
//!
//! `SEED=7` plays one world, `SEEDS=5000` so many.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "../common/mod.rs"]
mod common;
mod executor;
mod graph;
mod resolution;
mod world;

use world::World;

fn seeds(number: u64) -> std::ops::Range<u64> {
    let read = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match read("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..read("SEEDS").unwrap_or(number),
    }
}

#[test]
fn without_trouble_everything_is_built_once() {
    for seed in seeds(300) {
        let shown = format!("SEED={seed}");
        let result = std::panic::catch_unwind(|| World::new(seed, false).play());
        assert!(result.is_ok(), "{shown}");
    }
}

#[test]
fn whatever_happens_every_plan_ends_and_ends_right() {
    for seed in seeds(600) {
        let shown = format!("SEED={seed}");
        let result = std::panic::catch_unwind(|| World::new(seed, true).play());
        assert!(result.is_ok(), "{shown}");
    }
}
