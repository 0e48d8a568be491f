//! Why an operation of the daemon failed.
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why an operation of the daemon failed.
#[derive(Debug, Error)]
pub enum Error {
    /// Nobody listens there, or it may not be opened.
    #[error("connect to nix-daemon at {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The stream ended or failed: the connection is lost.
    #[error("{doing}: the connection to nix-daemon failed")]
    Stream {
        /// What was attempted.
        doing: String,
        /// Why.
        source: io::Error,
    },
    /// The daemon sent what the protocol does not allow: the connection is lost.
    #[error("{doing}: nix-daemon sent what its protocol does not allow: {problem}")]
    Protocol {
        /// What was attempted.
        doing: String,
        /// What was wrong with the reply.
        problem: String,
    },
    /// The daemon refused, in its own words. The connection stays usable.
    #[error("{doing}: {message}")]
    Refused {
        /// What was attempted.
        doing: String,
        /// Nix's message, without colours.
        message: String,
    },
    /// An earlier operation was dropped halfway: the connection cannot be used any more.
    #[error("{doing}: an earlier operation on this connection to nix-daemon was left unfinished")]
    Unfinished {
        /// What was attempted.
        doing: String,
    },
}

impl Error {
    /// Nix's own message, when it was Nix that refused.
    pub fn nix_message(&self) -> Option<&str> {
        match self {
            Self::Refused { message, .. } => Some(message),
            _ => None,
        }
    }

    /// Whether the daemon refused a path because no trusted key has signed it.
    pub fn is_lack_of_signature(&self) -> bool {
        self.nix_message().is_some_and(|message| {
            message.contains("lacks a valid signature")
                || message.contains("lacks a signature by a trusted key")
        })
    }
}
