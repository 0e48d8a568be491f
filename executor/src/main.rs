//! The program `elsewhere-executor`.
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    node::exit::code("elsewhere-executor", executor::command::main())
}
