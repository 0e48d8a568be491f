//! `cargo xtask schedule`: recorded graphs in virtual time, the scheduler against simpler policies and a lower bound.
use std::ffi::OsString;

use anyhow::Result;

use crate::command::{command, run};

/// Goes to the program of that name; `--help` is its own.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Request {
    /// --scenario NAME --graph DIR --durations FILE [--no-history]; see --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Compiles the program as it is released, and runs it where it was called.
pub fn schedule(request: &Request) -> Result<()> {
    let manifest = crate::repository().join("Cargo.toml");
    let mut cargo =
        command("cargo", &["run", "--quiet", "--release", "--package", "schedule", "--manifest-path"]);
    run(cargo.arg(manifest).arg("--").args(&request.arguments))
}
