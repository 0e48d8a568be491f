//! `cargo xtask sim` and `cargo xtask network`: worlds full of faults, the scheduler's by the thousand, whole clusters' by the hundred.
use std::ffi::OsString;

use anyhow::Result;

use crate::command::{command, run};

/// Goes to the program of that name; `--help` is its own.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Request {
    /// --seeds N, or --seed S for one that says all that happens; see --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Compiles the program as it is distributed: ten million events are many.
pub fn sim(request: &Request) -> Result<()> {
    let manifest = crate::repository().join("Cargo.toml");
    let profile = ["run", "--quiet", "--profile", "dist", "--package", "sim", "--manifest-path"];
    run(command("cargo", &profile).arg(manifest).arg("--").args(&request.arguments))
}

/// The test program of that name, as `cargo xtask test` compiles it.
pub fn network(request: &Request) -> Result<()> {
    let manifest = crate::repository().join("Cargo.toml");
    let program = ["test", "--quiet", "--workspace", "--test", "network-worlds", "--manifest-path"];
    run(command("cargo", &program).arg(manifest).arg("--").args(&request.arguments))
}
