//! The program `elsewhere-coordinator`.
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    node::exit::code("elsewhere-coordinator", coordinator::command::main())
}
