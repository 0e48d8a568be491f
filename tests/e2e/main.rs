//! Whole clusters: a board, a coordinator and executors on hosts of their own; one module for each promise.
#![expect(clippy::print_stdout, reason = "figures that docs/promises.md cites")]

mod failing;
mod faults;
mod floating;
mod graph;
mod interruption;
mod link;
mod losses;
mod memory;
mod nix_stdio;
mod refusals;
mod scene;
mod sharing;
mod trace;
