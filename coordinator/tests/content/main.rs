//! Content and submissions over real mutual TLS: what is verified, refused, kept apart, signed, served, pulled.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod cluster;
mod derivations;
mod domains;
mod graph;
mod hostile_uploads;
mod pulls;
mod scripted;
mod serving;
mod sources;
mod submissions;
