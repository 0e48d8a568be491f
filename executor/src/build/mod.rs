//! One build: inputs, sandbox, outputs, in this order; each step's trouble becomes an outcome.

pub mod attempt;
pub mod clock;
pub mod directory;
pub mod disk;
pub mod failure;
pub mod floating;
pub mod inputs;
pub mod jail;
pub mod kept;
pub mod launcher;
pub mod log;
pub mod outputs;
pub mod prefetch;
mod prepare;
pub mod process;
pub mod run;
pub mod usage;
pub mod verdict;
mod worker;

pub use worker::{Settings, Worker};
