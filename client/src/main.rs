//! The program `elsewhere`.
use std::process::ExitCode;

fn main() -> ExitCode {
    client::command::main()
}
