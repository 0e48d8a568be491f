//! Wire to domain validates (`TryFrom`); domain to wire cannot fail (`From`).

mod capability;
mod content;
mod outcome;

use thiserror::Error;

/// Why a message from the wire was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("field `{field}` of a message: {problem}")]
pub struct WireError {
    /// The field, as the .proto file names it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl WireError {
    /// An error about one field.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

pub use content::{SignedPathInfo, path_info, store_path};
pub use outcome::report_outcome;
