//! The core's own tests, in one program: what changes the core is compiled and linked once.
mod common;

mod collect;
mod estimates;
mod executors;
mod heartbeats;
mod hostile;
mod memory;
mod parts;
mod placement;
mod plans;
mod prefetch;
mod resolution;
mod speculation;
