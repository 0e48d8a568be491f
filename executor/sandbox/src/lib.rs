//! The sandbox: takes a Spec and becomes the jail. Knows nothing of Nix, builds or gRPC; the only home of `unsafe`.
pub mod binfmt;
mod bytes;
pub mod interpreter;
pub mod probe;
pub mod protocol;
pub mod spec;
pub mod subordinate;
