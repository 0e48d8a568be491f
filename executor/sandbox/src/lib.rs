//! The sandbox: takes a Spec and becomes the jail. Knows nothing of Nix, builds or gRPC; the only home of `unsafe`.
pub mod binfmt;
mod bytes;
mod check;
pub mod interpreter;
pub mod plan;
pub mod probe;
pub mod protocol;
pub mod spec;
pub mod subordinate;
