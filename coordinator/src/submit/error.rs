//! Why a submission was refused.
use crate::journal::JournalError;
use crate::knowledge::KnowledgeError;
use model::{StorePath, limits};
use nix_formats::derivation::DerivationError;
use nix_formats::modulo::VerifyError;
use nix_formats::store_path::StorePathError;
use thiserror::Error;

/// What ends a submission.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// A version that this coordinator does not speak.
    #[error(
        "protocol version {came} is not spoken here, only {} to {}: update the older side",
        limits::PROTOCOL_VERSION_MIN,
        limits::PROTOCOL_VERSION
    )]
    ProtocolVersion {
        /// What the board speaks.
        came: u32,
    },
    /// The board broke the protocol.
    #[error("the submission is malformed: {0}")]
    Malformed(String),
    /// More than is taken.
    #[error("the plan is too large: {what} at most {max}")]
    TooLarge {
        /// Of what, with its unit.
        what: &'static str,
        /// How much is taken.
        max: usize,
    },
    /// An answer that nobody asked for.
    #[error("'{0}' came without having been asked for")]
    Unsolicited(StorePath),
    /// The board lacks something.
    #[error("'{path}' is needed, and the board does not have it: {reason}")]
    Unavailable {
        /// What.
        path: StorePath,
        /// What the board said.
        reason: String,
    },
    /// Not a derivation that is built here.
    #[error("derivation '{path}' is refused: {source}")]
    Derivation {
        /// The `.drv` file.
        path: StorePath,
        /// Why.
        source: DerivationError,
    },
    /// It is not what its path says.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A derivation depends on itself.
    #[error("derivation '{0}' depends on itself")]
    Cycle(StorePath),
    /// An output that a derivation does not have.
    #[error("derivation '{derivation}' has no output '{output}', which {wanted_by} wants")]
    NoSuchOutput {
        /// Whose.
        derivation: StorePath,
        /// Its name.
        output: String,
        /// Who wants it.
        wanted_by: String,
    },
    /// The board said so, and it is not there.
    #[error("source '{0}' was said to be uploaded, and is not there")]
    NotUploaded(StorePath),
    /// The board's store is not consistent.
    #[error("the sources of the plan cannot be used")]
    Sources(#[source] KnowledgeError),
    /// Not a store path after all.
    #[error(transparent)]
    Path(#[from] StorePathError),
    /// The board said nothing for too long.
    #[error("nothing came for {seconds} s while answers were awaited")]
    Idle {
        /// How long.
        seconds: u64,
    },
    /// The connection ended.
    #[error("the board ended the submission")]
    Gone,
    /// The call itself failed.
    #[error("the call broke off: {0}")]
    Call(String),
    /// Too many at once.
    #[error("too many submissions at once; try again later")]
    Busy,
    /// The coordinator's own trouble.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The coordinator's own trouble.
    #[error(transparent)]
    Store(#[from] cas::CasError),
}

impl SubmitError {
    /// Whether the board may come back and go on: nothing that it sent was wrong.
    pub(super) fn is_link_lost(&self) -> bool {
        matches!(self, Self::Idle { .. } | Self::Gone | Self::Call(_))
    }
}
