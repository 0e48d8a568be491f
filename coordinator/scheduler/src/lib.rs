//! The pure core: `apply(state, event, now)` gives effects. No I/O, no clock, no randomness, no async; `no_std`.
#![no_std]
extern crate alloc;

mod admit;
mod apply;
mod arena;
mod bound;
mod cancel;
mod collect;
mod content;
mod drain;
pub mod effect;
mod estimate;
pub mod event;
mod executors;
mod invariants;
mod inventory;
mod lease;
mod level;
mod memory;
mod names;
mod need;
mod news;
mod outbox;
mod phase;
mod place;
mod plan;
mod prefetch;
mod promise;
mod pulls;
mod quarantine;
mod settle;
mod speculate;
mod state;

pub use apply::apply;
pub use effect::{
    AvailableRoot, Effect, Fact, Grant, GrantedInput, News, PlanCounts, PlanSummary, Settled, SettledOutput,
    Snapshot, TaskChange, TaskState, Waiting,
};
pub use event::{
    Binding, Event, Held, Holder, KnownContent, LeaseKey, Measurement, NewPlan, PlanPart, Resolution, Root,
    RunningLease, Settings, Timestamp,
};
pub use news::TASKS_TOLD_MAX;
pub use state::State;
