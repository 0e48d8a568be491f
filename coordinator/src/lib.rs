//! The coordinator: the shell around the scheduler's pure core. It admits, leases, remembers, serves; it never builds.

pub mod command;
pub mod config;
pub mod content;
pub mod engine;
pub mod journal;
pub mod knowledge;
pub mod paths;
pub mod plans;
pub mod pull;
pub mod resolution;
pub mod rpc;
pub mod run;
pub mod session;
pub mod submit;
