//! The sandbox: takes a Spec and becomes the jail. Knows nothing of Nix, builds or gRPC; the only home of `unsafe`.
pub mod binfmt;
mod bytes;
pub mod cgroup;
mod check;
mod failure;
mod init;
pub mod interpreter;
pub mod plan;
pub mod probe;
pub mod protocol;
pub mod run;
pub mod seccomp;
pub mod spec;
pub mod subordinate;
mod sys;
