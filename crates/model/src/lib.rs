//! The words that all parts share: plain data, `no_std`, no dependencies, no decisions.
#![no_std]
extern crate alloc;

pub mod capability;
pub mod content;
pub mod ids;
pub mod limits;
pub mod outcome;
pub mod task;

pub use capability::{Capability, Feature, Offer, Platform, Requirement, System, Withheld};
pub use content::{ContentId, PathFacts, StorePath, TrustDomain};
pub use ids::{BootId, Epoch, ExecutorName, LeaseId, PlanId, TaskId};
pub use outcome::{BuiltOutput, Failure, FailureClass, Outcome};
pub use task::{InputDerivation, Kind, Output, TaskSpec};
