//! File trees of store paths on disk: dumped as NARs, unpacked from NARs, made canonical, removed.

mod canonical;
mod dump;
mod remove;
mod unpack;

#[cfg(test)]
mod tests;

pub use canonical::{canonicalise, check_top_level};
pub use dump::{dump, names};
pub use remove::remove;
pub use unpack::{Unpacked, place, unpack};

use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Directory levels of a NAR, counting the root as the first (Nix 2.34).
pub const DEPTH_MAX: usize = 64;
/// Bytes of a name in a directory.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a symlink's target.
pub const TARGET_BYTES_MAX: usize = 4095;
/// Bytes read or written at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Why a file tree could not be read, written or accepted.
#[derive(Debug, Error)]
pub enum TreeError {
    /// A system call failed.
    #[error("cannot {action} '{path}'", path = path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A device, socket or FIFO.
    #[error("file \"{path}\" has an unsupported type", path = .0.display())]
    UnsupportedType(PathBuf),
    /// More levels than a NAR may have.
    #[error("path '{path}' exceeds maximum NAR directory depth of {DEPTH_MAX}", path = .0.display())]
    TooDeep(PathBuf),
    /// A name that a NAR may not carry.
    #[error("file name '{name}' is longer than {NAME_BYTES_MAX} bytes", name = .0.display())]
    NameTooLong(PathBuf),
    /// A symlink that a NAR may not carry.
    #[error("target of symlink '{path}' is empty or longer than {TARGET_BYTES_MAX} bytes", path = .0.display())]
    BadTarget(PathBuf),
    /// Something in an output does not belong to the build.
    #[error("invalid ownership on file '{path}'", path = .0.display())]
    InvalidOwnership(PathBuf),
    /// The top of an output may be changed by others.
    #[error("suspicious ownership or permission on \"{path}\" for output '{output}'; rejecting this build output", path = .path.display())]
    SuspiciousTopLevel {
        /// The output's path.
        path: PathBuf,
        /// Its name.
        output: String,
    },
    /// The file system changed below the walk.
    #[error("file '{path}' changed while it was read", path = .0.display())]
    Changed(PathBuf),
    /// A malformed archive.
    #[error("archive of '{path}' is malformed", path = path.display())]
    Malformed {
        /// Where it was unpacked.
        path: PathBuf,
        /// What is wrong with it.
        source: nix_archive::nar::Error,
    },
    /// The receiver of a dump stopped.
    #[error("the receiver of the archive of '{path}' failed", path = path.display())]
    Sink {
        /// What was dumped.
        path: PathBuf,
        /// How the receiver failed.
        source: io::Error,
    },
}

impl TreeError {
    /// Wraps the failure of one system call.
    fn io(action: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Io { action, path: path.to_owned(), source: errno.into() }
    }

    /// Whether the file system had no room.
    pub fn is_out_of_disk(&self) -> bool {
        let full = |source: &io::Error| {
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        match self {
            Self::Io { source, .. } => full(source),
            Self::Malformed { source: nix_archive::nar::Error::Io(source), .. } => full(source),
            _ => false,
        }
    }

    /// Whether the tree itself is at fault, rather than this machine.
    pub fn is_rejection(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Changed(_) | Self::Sink { .. } | Self::Malformed { .. })
    }
}
