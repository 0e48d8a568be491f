//! The client: hands a plan to the cluster, follows it, and imports the results through the board's nix-daemon.

mod board;
pub mod command;
pub mod config;
mod event;
mod exit;
mod import;
mod instantiate;
mod interrupt;
mod links;
mod log_positions;
mod progress;
mod remember;
mod rpc;
mod stdio;
mod submit;
mod ui;
mod upload;
mod wanted;
mod watch;
