//! Whole worlds from a seed: the pure scheduler core in virtual time, among executors that crash, freeze and lie, links that break,
//! disks that lose things, clients that leave, and a coordinator that is killed between any two of its steps.
//!
//! After every event it is checked what must hold: everything in thorough worlds, which tests play, by turns where there are thousands.
//! What does not hold is a panic.
#![expect(clippy::unwrap_used, reason = "a world that fails panics")]
mod belief;
mod bits;
mod collect;
#[path = "../../../coordinator/scheduler/tests/common/mod.rs"]
mod common;
mod coverage;
mod engine;
mod executor;
mod fault;
mod graph;
mod journal;
mod lie;
mod random;
mod show;
mod truth;
mod unrepeatable;
mod world;

pub use coverage::{EVENTS, Tally};
pub use fault::Fault;
pub use graph::Scale;
pub use world::{EVENTS_MIN, Options};

/// Plays a world to its end.
///
/// # Panics
/// Something that must hold does not.
pub fn play(seed: u64, options: Options) -> Tally {
    world::World::new(seed, options).play()
}

/// Plays a world in which builds give other bits each time; says how many plans, builds, and outputs that turned out to be
/// something else there were.
///
/// # Panics
/// Something that must hold does not.
pub fn play_unrepeatable(seed: u64) -> [usize; 3] {
    let tally = unrepeatable::World::new(seed).play();
    [tally.plans, tally.builds, tally.renewed]
}
