//! The contract of a content store: nothing is visible before it was verified, and what is visible stays as it is.
use crate::id::BlobId;
use nix_formats::content_address::ContentAddress;
use nix_formats::hash::hex;
use nix_formats::nar::NarError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Largest NAR that is taken, in bytes.
pub const NAR_BYTES_MAX: u64 = 64 << 30;

/// What a writer says its content will be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announced {
    /// SHA-256 of the NAR.
    pub nar_sha256: [u8; 32],
    /// Size of the NAR in bytes.
    pub nar_size: u64,
    /// How else the content must hash, when its path was made from that.
    pub content_address: Option<ContentAddress>,
    /// Whether its references name its own path: then SHA-256 of the NAR as content address leaves its hash part out.
    pub refers_to_itself: bool,
}

/// What is held for a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// SHA-256 of the NAR.
    pub nar_sha256: [u8; 32],
    /// Size of the NAR in bytes.
    pub nar_size: u64,
}

/// Why content was not taken, or cannot be read.
#[derive(Debug, Error)]
pub enum CasError {
    /// More than is ever taken.
    #[error("'{id}' is announced with {nar_size} bytes: at most {NAR_BYTES_MAX} are taken")]
    TooLarge {
        /// Whose content.
        id: BlobId,
        /// What was announced.
        nar_size: u64,
    },
    /// The stream went on behind its announced end.
    #[error("the NAR of '{id}' is longer than the announced {nar_size} bytes")]
    Oversized {
        /// Whose content.
        id: BlobId,
        /// What was announced.
        nar_size: u64,
    },
    /// The stream ended before its announced end.
    #[error("the NAR of '{id}' ends after {came} of the announced {nar_size} bytes")]
    Truncated {
        /// Whose content.
        id: BlobId,
        /// What was announced.
        nar_size: u64,
        /// What came.
        came: u64,
    },
    /// The bytes are no archive.
    #[error("what came for '{id}' is not a NAR")]
    Malformed {
        /// Whose content.
        id: BlobId,
        /// Why not.
        source: NarError,
    },
    /// The bytes are others than announced.
    #[error("the NAR of '{id}' has SHA-256 {}, announced was {}", hex(.came), hex(.announced))]
    WrongHash {
        /// Whose content.
        id: BlobId,
        /// What was announced.
        announced: [u8; 32],
        /// What came.
        came: [u8; 32],
    },
    /// The content does not hash to its path.
    #[error("'{id}' has content address {came}, announced was {announced}")]
    WrongAddress {
        /// Whose content.
        id: BlobId,
        /// What was announced.
        announced: ContentAddress,
        /// What came, or what it is instead.
        came: String,
    },
    /// Other bytes are held for this path already, and stay.
    #[error("'{id}' is held with SHA-256 {}; what came has {}", hex(.held), hex(.came))]
    Conflict {
        /// Whose content.
        id: BlobId,
        /// What is held.
        held: [u8; 32],
        /// What came.
        came: [u8; 32],
    },
    /// Nothing is held for this path.
    #[error("'{id}' is not in the content store")]
    NotHeld {
        /// Which.
        id: BlobId,
    },
    /// A file was cut off behind our back.
    #[error("the content store's copy of '{id}' ends at byte {offset}: it is damaged")]
    Shortened {
        /// Whose content.
        id: BlobId,
        /// Where, in bytes.
        offset: u64,
    },
    /// Another process uses the same directory.
    #[error("the content store {} is used by another process", .0.display())]
    InUse(PathBuf),
    /// The file system refused.
    #[error("{action} {}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The session failed before, or was interrupted.
    #[error("writing '{id}' was given up before")]
    Over {
        /// Which.
        id: BlobId,
    },
}

impl CasError {
    /// For `map_err`: which operation on which file failed.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the content was wrong, as opposed to trouble of this machine.
    pub fn is_wrong_content(&self) -> bool {
        let is_ours = matches!(
            self,
            Self::NotHeld { .. }
                | Self::Shortened { .. }
                | Self::InUse(_)
                | Self::Io { .. }
                | Self::Over { .. }
        );
        !is_ours
    }
}

/// NARs by (trust domain, store path). All calls may block on a disk, except `get`.
pub trait ContentStore: Send + Sync + std::fmt::Debug {
    /// What is held for a path. Never blocks.
    fn get(&self, id: &BlobId) -> Option<Stored>;

    /// All that is held.
    fn ids(&self) -> Vec<BlobId>;

    /// Begins to write; dropping the writer leaves nothing.
    ///
    /// # Errors
    /// Announced as too large, or a file system that refuses.
    fn begin(&self, id: &BlobId, announced: Announced) -> Result<Box<dyn Writer>, CasError>;

    /// Opens a NAR for reading. What is open can be read to its end.
    ///
    /// # Errors
    /// Not held, or a file system that refuses.
    fn open(&self, id: &BlobId) -> Result<Box<dyn Reader>, CasError>;

    /// Makes content of one domain visible in another too, without a copy of its bytes.
    ///
    /// # Errors
    /// Not held, other bytes are held there, or a file system that refuses.
    fn share(&self, from: &BlobId, to: &BlobId) -> Result<Stored, CasError>;

    /// Drops content; whether there was any.
    ///
    /// # Errors
    /// A file system that refuses.
    fn remove(&self, id: &BlobId) -> Result<bool, CasError>;
}

/// One NAR on its way in.
pub trait Writer: Send {
    /// The next bytes. After an error the session is over.
    ///
    /// # Errors
    /// More than announced, no archive, or a file system that refuses.
    fn write(&mut self, chunk: &[u8]) -> Result<(), CasError>;

    /// Verifies what came, and makes it visible and durable. Content that is held already is left as it is.
    ///
    /// # Errors
    /// What came is not what was announced; other bytes are held; or a file system that refuses.
    fn commit(self: Box<Self>) -> Result<Stored, CasError>;
}

/// One NAR that is held.
pub trait Reader: Send {
    /// What it is.
    fn stored(&self) -> Stored;

    /// Reads at an offset; returns 0 only at the end (or for an empty buffer).
    ///
    /// # Errors
    /// A file system that refuses.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, CasError>;
}
