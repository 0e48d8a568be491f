//! The coordinator: the shell around the scheduler's pure core. It admits, leases, remembers, serves; it never builds.

pub mod journal;
