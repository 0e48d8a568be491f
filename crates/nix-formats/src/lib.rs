//! Nix's formats, pure: no I/O, no async, no clock. What the package manager writes and means, byte for byte.

pub mod base32;
pub mod checks;
pub mod content_address;
pub mod derivation;
pub mod effort;
pub mod hash;
pub mod modulo;
pub mod nar;
pub mod narinfo;
pub mod options;
pub mod process;
pub mod references;
pub mod resolve;
pub mod rewrite;
pub mod signature;
pub mod store_path;
pub mod structured;
pub mod target;
