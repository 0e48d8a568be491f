//! Identity of content: a store path inside a trust domain.
use nix_formats::store_path::StorePath;
use std::fmt;
use std::sync::Arc;

/// Who vouches for content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Domain {
    /// Everyone: it was verified.
    Shared,
    /// One board, for itself alone.
    Board(Arc<str>),
}

impl Domain {
    /// Reads `shared` or `board:NAME`. A name is 1 to 64 of `[A-Za-z0-9._-]` and begins with a letter or digit: it becomes
    /// the name of a directory.
    pub fn parse(text: &str) -> Option<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        match text.strip_prefix("board:") {
            None => (text == "shared").then_some(Self::Shared),
            Some(name) => {
                let is_name = name.len() <= 64
                    && name.bytes().all(is_allowed)
                    && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
                is_name.then(|| Self::Board(Arc::from(name)))
            }
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("shared"),
            Self::Board(name) => write!(f, "board:{name}"),
        }
    }
}

/// A store path inside a trust domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlobId {
    /// Who vouches for it.
    pub domain: Domain,
    /// The store path.
    pub path: StorePath,
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)
    }
}
