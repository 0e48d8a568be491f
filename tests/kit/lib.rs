//! The test kit: hosts made of namespaces, boards, clusters, Jaeger, and real Nix as the oracle.
//!
//! Everything lives and dies with the test process, whatever ends it: no named namespace, no mount outside, no daemon.

mod board;
mod cache;
mod certificates;
mod client;
mod cluster;
mod emulation;
mod host;
mod jaeger;
mod lab;
mod nix_store;
mod oracle;
mod parallel;
mod process;
mod programs;
mod trouble;
mod wall_clock;

pub use board::{BOARD_USER, Board, BoardSpec, USER_ENVIRONMENT};
pub use cache::Cache;
pub use certificates::Certificates;
pub use client::{CONFIGURATION as CLIENT_CONFIGURATION, Client, Placed, placements, wait_for_words};
pub use cluster::{
    Cluster, ClusterSpec, ExecutorSpec, Node, SANDBOX_SHELL, SERVICE_USER, SPANS, STATE_DIRECTORY,
};
pub use emulation::{FOREIGN, Foreign, Interpreter};
pub use host::{Bind, Host, HostSpec, Traffic, User};
pub use jaeger::{Jaeger, Span};
pub use lab::{Lab, run};
pub use nix_store::{NixStore, PathInfo};
pub use oracle::{Oracle, OracleSpec, Release, Verdict};
pub use parallel::for_all;
pub use process::{Finished, Process, wait_until};
pub use programs::Programs;
pub use wall_clock::WallClock;
