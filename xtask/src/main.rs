//! `cargo xtask`: everything that is done to this repository, one command a need.
#![expect(clippy::print_stdout, reason = "xtask talks to the person or the CI that started it")]

mod bench;
mod cache;
mod certs;
mod ci;
mod command;
mod conformance;
mod demo;
mod dist;
mod fuzz;
mod schedule;
mod setup;
mod sim;
mod soak;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Everything that is done to this repository, one command a need")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show it: a cluster and a board on this machine, a real graph of C software, the result valid in the board's store
    Demo(demo::Request),
    /// Make what the demo and the tests need, once, in $ELSEWHERE_CACHE (default /var/cache/elsewhere)
    Setup {
        /// What only the tier long needs, too: other versions of Nix, the virtual machine
        #[arg(long)]
        long: bool,
    },
    /// Make development certificates and a Nix signing key in a directory; run again it adds what is missing
    Certs(certs::Request),
    /// Check the rules of this house that no compiler checks
    Tidy,
    /// Prove every promise (docs/promises.md): unit, conformance and end-to-end tests, at most 25 minutes
    Test(test::Request),
    /// Compare what the cluster builds with what real Nix builds: the own table of derivations, or any Nix file
    Conformance(conformance::Request),
    /// Repeat the tests of whole clusters for an hour, or as long as you say
    Soak(soak::Request),
    /// Feed the parsers what a fuzzer invents, one after the other, a minute each or as long as you say
    Fuzz(fuzz::Request),
    /// Replay a recorded graph of derivations in virtual time: makespan of each policy over the lower bound
    Schedule(schedule::Request),
    /// Play the scheduler through worlds full of faults, from seeds; a seed that fails prints itself
    Sim(sim::Request),
    /// Whole clusters on a simulated network that fails, from seeds
    Network(sim::Request),
    /// All that must be green before a change lands: formatting, lints, tidy, licences, tests
    Ci,
    /// Measure what is promised of speed, as ratios to a peer in the same run
    Bench,
    /// Build the released programs and pack them below target/dist
    Dist,
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    match task {
        Task::Demo(request) => demo::run(&request),
        Task::Setup { long } => set_up(long),
        Task::Certs(request) => certs::run(&request),
        Task::Tidy => tidy::run(),
        Task::Test(request) => test::run(&request),
        Task::Conformance(request) => conformance::run(&request),
        Task::Soak(request) => soak::run(&request),
        Task::Fuzz(request) => fuzz::fuzz(&request),
        Task::Schedule(request) => schedule::schedule(&request),
        Task::Sim(request) => sim::sim(&request),
        Task::Network(request) => sim::network(&request),
        Task::Ci => ci::check(),
        Task::Bench => bench::run(),
        Task::Dist => dist::make(),
    }
}

fn set_up(long: bool) -> Result<()> {
    setup::run()?;
    if long {
        setup::old_nix(&setup::NixVersion::ALL)?;
        setup::machine()?;
    }
    Ok(())
}

/// The repository that this xtask belongs to.
fn repository() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}

/// Where cargo puts what it builds for this repository.
fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}
