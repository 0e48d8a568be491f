//! A whole coordinator on loopback, with boards and executors that speak the real wire: who may call, sessions, plans, restarts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod board;
mod claims;
mod executor;
#[path = "../content/graph.rs"]
#[allow(dead_code, reason = "shared with the tests of content, which need more of it")]
mod graph;
mod plans;
mod restart;
mod running;
mod sessions;
