//! The executor: dials the coordinator, advertises what it can do, builds, keeps and serves outputs.

pub(crate) mod blocking;
pub mod build;
pub mod builtin;
pub mod command;
pub mod config;
pub mod lease;
pub mod platform;
pub mod rpc;
pub mod run;
pub mod session;
pub mod slots;
pub mod store;
pub mod tree;
