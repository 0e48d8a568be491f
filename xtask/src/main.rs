//! `cargo xtask`: everything that is done to this repository, one command a need.
#![expect(clippy::print_stdout, reason = "xtask talks to the person or the CI that started it")]

mod cache;
mod certs;
mod command;
mod setup;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything that is done to this repository, one command a need")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make what the demo and the tests need, once, in $ELSEWHERE_CACHE (default /var/cache/elsewhere)
    Setup,
    /// Make development certificates and a Nix signing key in a directory; run again it adds what is missing
    Certs(certs::Request),
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Setup => setup::run(),
        Task::Certs(request) => certs::run(&request),
    }
}
