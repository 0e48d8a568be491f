//! NAR archives: a push tokenizer that needs no memory, and the tokens for writing one.

mod encode;
mod tokenizer;

pub use encode::Encoder;
pub use tokenizer::{NarError, Tokenizer};

/// Deepest nesting, counting the root as 0: newer Nix refuses more.
pub const DEPTH_MAX: usize = 64;
/// Longest name of a directory entry, in bytes.
pub const ENTRY_NAME_BYTES_MAX: usize = 255;
/// Longest target of a symbolic link, in bytes.
pub const LINK_TARGET_BYTES_MAX: usize = 4095;

/// What an archive says, piece by piece. The root comes without an `Entry`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// The next object is in the current directory, under this name.
    Entry {
        /// The name.
        name: &'a [u8],
    },
    /// A regular file begins.
    File {
        /// Whether its owner may execute it.
        is_executable: bool,
        /// Size of its contents in bytes.
        size: u64,
    },
    /// The next bytes of the current file.
    Contents(&'a [u8]),
    /// The current file is complete.
    FileEnd,
    /// A symbolic link.
    Symlink {
        /// Its target.
        target: &'a [u8],
    },
    /// A directory begins.
    Directory,
    /// The current directory is complete.
    DirectoryEnd,
}
