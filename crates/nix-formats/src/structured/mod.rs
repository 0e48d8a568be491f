//! Structured attributes: JSON read exactly, and written as Nix writes it.

mod grisu;
mod json;
mod shell;

pub use json::{JsonError, Value};
pub use shell::attributes_script;
