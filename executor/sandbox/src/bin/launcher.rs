//! `elsewhere-launcher`: reads a request from its standard input and becomes the sandbox of one build.
use std::process::ExitCode;

use clap::Parser;

/// Becomes the sandbox of one build. Started by elsewhere-executor, not by hand.
///
/// Standard input: a request, then open as long as the build may run. Standard output: the build's log. Standard error:
/// one event a line, as JSON.
#[derive(Debug, Parser)]
#[command(name = "elsewhere-launcher", version)]
struct CommandLine {}

fn main() -> ExitCode {
    let started = std::time::Instant::now();
    let CommandLine {} = CommandLine::parse();
    sandbox::run::launch(started)
}
