//! Some hundred worlds of each kind: large ones full of faults, small ones of many shapes with and without them, and some whose builds
//! give other bits each time.
//!
//! `SEED=7` plays one world, `SEEDS=5000` so many; `cargo xtask sim` plays large ones by the thousand.
use sim::{Options, Scale, Tally};
use std::panic::catch_unwind;

fn seeds(number: u64) -> std::ops::Range<u64> {
    let read = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match read("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..read("SEEDS").unwrap_or(number),
    }
}

fn play(number: u64, scale: Scale, has_trouble: bool) -> Tally {
    let options = Options { scale, has_trouble, is_timed: false, is_thorough: true, trace: None };
    let mut all = Tally::default();
    for seed in seeds(number) {
        let played = catch_unwind(|| sim::play(seed, options));
        all.add(&played.unwrap_or_else(|_| panic!("SEED={seed}")));
    }
    all
}

#[test]
fn without_trouble_everything_is_built_once() {
    let all = play(300, Scale::Small, false);
    assert!(all.leases > 0 && all.faults_total() == 0 && all.dropped > 0, "{all:?}");
}

#[test]
fn whatever_happens_every_plan_ends_and_ends_right() {
    let all = play(600, Scale::Small, true);
    assert!(all.faults_total() > 0 && all.dropped > 0 && all.hints > 0, "{all:?}");
}

#[test]
fn a_hundred_tasks_among_many_faults() {
    let all = play(120, Scale::Large, true);
    let worlds = seeds(120).count() as u64;
    let (events, faults) = (all.events_total(), all.faults_total());
    assert!(all.tasks >= 100 * worlds && events >= 1_000 * worlds && faults >= 5 * worlds, "{all:?}");
}

/// A seed that failed can be looked at again.
#[test]
fn the_same_seed_is_the_same_world() {
    let options =
        Options { scale: Scale::Large, has_trouble: true, is_timed: false, is_thorough: true, trace: None };
    let [first, second] = [(); 2].map(|()| sim::play(7, options));
    assert_eq!((first.events, first.strikes, first.leases), (second.events, second.strikes, second.leases));
}

#[test]
fn what_is_not_repeatable_and_lost_is_made_anew_with_all_that_referred_to_it() {
    let [mut plans, mut builds, mut renewed] = [0; 3];
    for seed in seeds(600) {
        let played = catch_unwind(|| sim::play_unrepeatable(seed));
        let [its_plans, its_builds, its_renewed] = played.unwrap_or_else(|_| panic!("SEED={seed}"));
        plans += its_plans;
        builds += its_builds;
        renewed += its_renewed;
    }
    println!("{plans} plans, {builds} builds, {renewed} outputs that turned out to be something else");
    // Otherwise the worlds are too kind to show anything.
    assert!(plans < 100 || renewed > 0, "{plans} plans");
}
