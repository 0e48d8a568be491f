//! A step that failed: what was attempted, on which path, and why.
use std::borrow::Cow;
use std::io;

use thiserror::Error;

use crate::protocol::Event;

/// Longest path that an event repeats, in bytes.
const PATH_BYTES_MAX: usize = 4096;

/// A step that failed.
#[derive(Debug, Error)]
#[error("{step} {path}")]
pub struct StepError {
    /// What was attempted.
    pub step: Cow<'static, str>,
    /// On which path or value; may be empty.
    pub path: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl StepError {
    /// As the event that ends a launcher.
    pub fn to_event(&self) -> Event {
        Event::Failed {
            step: self.step.clone().into_owned(),
            path: self.path.clone(),
            message: self.source.to_string(),
        }
    }
}

/// For `map_err`: the step and its path around any system error.
pub fn failed<E: Into<io::Error>>(step: &'static str, path: impl AsRef<[u8]>) -> impl FnOnce(E) -> StepError {
    move |source| {
        let path = path.as_ref();
        let shown = &path[..path.len().min(PATH_BYTES_MAX)];
        StepError {
            step: step.into(),
            path: String::from_utf8_lossy(shown).into_owned(),
            source: source.into(),
        }
    }
}
