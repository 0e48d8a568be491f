//! The test kit: hosts made of namespaces, boards, clusters, Jaeger, and real Nix as the oracle.
//!
//! Everything lives and dies with the test process, whatever ends it: no named namespace, no mount outside, no daemon.

mod board;
mod cache;
mod host;
mod lab;
mod nix_store;
mod process;
mod programs;

pub use board::{BOARD_USER, Board, BoardSpec, USER_ENVIRONMENT};
pub use cache::Cache;
pub use host::{Bind, Host, HostSpec, Traffic, User};
pub use lab::{Lab, run};
pub use nix_store::{Instantiated, NixStore, PathInfo};
pub use process::{Finished, Process, wait_until};
pub use programs::Programs;
