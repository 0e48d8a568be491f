//! Why a call to the coordinator failed, and whether trying again can help.
use proto::convert::WireError;
use thiserror::Error;
use tonic::{Code, Status};

/// What the other side, or the way to it, said.
#[derive(Debug, Clone, Error)]
pub enum Cause {
    /// The call ended with a status.
    #[error("{message} ({code:?})")]
    Status {
        /// The class of the status.
        code: Code,
        /// Its text, with what lies below it.
        message: String,
    },
    /// The coordinator sent what cannot be right.
    #[error("the coordinator sent what cannot be right: {0}")]
    Wire(String),
    /// The stream ended before it should have.
    #[error("the coordinator ended the stream too early")]
    Ended,
}

/// A call that failed.
#[derive(Debug, Clone, Error)]
#[error("{doing}")]
pub struct CallError {
    /// What was attempted.
    pub doing: String,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

impl CallError {
    pub(super) fn status(doing: impl Into<String>, status: &Status) -> Self {
        let mut message = status.message().to_owned();
        let mut below = std::error::Error::source(status);
        while let Some(error) = below {
            let text = error.to_string();
            if !message.contains(&text) {
                message = if message.is_empty() { text } else { format!("{message}: {text}") };
            }
            below = error.source();
        }
        Self { doing: doing.into(), cause: Cause::Status { code: status.code(), message } }
    }

    pub(super) fn wire(doing: impl Into<String>, error: &WireError) -> Self {
        Self { doing: doing.into(), cause: Cause::Wire(error.to_string()) }
    }

    pub(crate) fn ended(doing: impl Into<String>) -> Self {
        Self { doing: doing.into(), cause: Cause::Ended }
    }

    /// Whether it was the link, or a coordinator on its way down: the same call may succeed later.
    pub fn is_link_lost(&self) -> bool {
        match &self.cause {
            Cause::Ended => true,
            Cause::Wire(_) => false,
            Cause::Status { code, .. } => matches!(
                code,
                Code::Unavailable
                    | Code::Unknown
                    | Code::Internal
                    | Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::ResourceExhausted
            ),
        }
    }

    /// Whether the coordinator does not know what was asked for.
    pub fn is_not_found(&self) -> bool {
        matches!(self.cause, Cause::Status { code: Code::NotFound, .. })
    }
}
