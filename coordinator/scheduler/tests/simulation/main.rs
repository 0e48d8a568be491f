//! The core among executors that crash, links that break, disks that lose things: whole worlds from a seed.
//!
//! `SEED=7` plays one world, `SEEDS=5000` so many.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "../common/mod.rs"]
mod common;
mod executor;
mod graph;
mod resolution;
mod unrepeatable;
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

#[test]
fn what_is_not_repeatable_and_lost_is_made_anew_with_all_that_referred_to_it() {
    let mut all = unrepeatable::Tally::default();
    for seed in seeds(600) {
        let shown = format!("SEED={seed}");
        let result = std::panic::catch_unwind(|| unrepeatable::World::new(seed).play());
        let tally = result.unwrap_or_else(|_| panic!("{shown}"));
        all.plans += tally.plans;
        all.builds += tally.builds;
        all.renewed += tally.renewed;
    }
    println!("{all:?}");
    // Otherwise the worlds are too kind to show anything.
    assert!(all.plans < 100 || all.renewed > 0, "{all:?}");
}
