//! Identity of content: a store path inside a trust domain, and the facts known about its bytes.
use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::fmt;

/// A full store path (`/nix/store/<hash>-<name>`), opaque here: `nix_formats` validates it at the door. Inside the coordinator
/// also what stands for one, [`StorePath::promised`]: that never leaves it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Arc<str>);

impl StorePath {
    /// Wraps a path that the caller has validated.
    pub fn from_validated(path: &str) -> Self {
        Self(Arc::from(path))
    }

    /// The full path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands for an output until its path is known: the path of the `.drv`, `!`, the output's name. No store path has
    /// a `!`.
    pub fn promised(derivation: &Self, output: &str) -> Self {
        Self(Arc::from(format!("{derivation}!{output}")))
    }

    /// The derivation and the name of the output that this stands for, if it is no path.
    pub fn as_promise(&self) -> Option<(&str, &str)> {
        self.0.split_once('!')
    }

    /// Whether this stands for an output whose path is not known.
    pub fn is_promise(&self) -> bool {
        self.as_promise().is_some()
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who vouches for content: everyone (`shared`, verified), or one board for itself alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum TrustDomain {
    /// Verified by hash modulo, content address or a trusted signature.
    #[default]
    Shared,
    /// Vouched for by the named board only, and inherited by everything that depends on it.
    Board(Arc<str>),
}

impl TrustDomain {
    /// Reads `shared` or `board:NAME` (NAME as in [`is_host_name`]).
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("board:") {
            Some(name) if is_host_name(name) => Some(Self::Board(Arc::from(name))),
            Some(_) => None,
            None => (text == "shared").then_some(Self::Shared),
        }
    }

    /// Whether the board of this name may see content of this domain.
    pub fn is_visible_to_board(&self, board: &str) -> bool {
        match self {
            Self::Shared => true,
            Self::Board(name) => &**name == board,
        }
    }

    /// The domain of something made from both.
    ///
    /// Two boards' own domains never meet in one plan; should they, `None`.
    pub fn join(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Shared, domain) | (domain, Self::Shared) => Some(domain.clone()),
            (a, b) if a == b => Some(a.clone()),
            _ => None,
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("shared"),
            Self::Board(name) => write!(f, "board:{name}"),
        }
    }
}

/// Whether a text can name a host of the cluster: 1 to 64 of `[A-Za-z0-9._-]`, beginning with a letter or digit.
pub fn is_host_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && name.as_bytes()[0].is_ascii_alphanumeric()
}

/// Identity of content everywhere: in the protocol, the journal, deduplication and the content store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ContentId {
    /// Who vouches for it.
    pub domain: TrustDomain,
    /// The store path.
    pub path: StorePath,
}

/// What is known about the bytes of a store path (Nix's path info without registration).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathFacts {
    /// SHA-256 of the NAR.
    pub nar_sha256: [u8; 32],
    /// Size of the NAR in bytes.
    pub nar_size: u64,
    /// Store paths that the bytes mention, sorted; may include the path itself.
    pub references: Vec<StorePath>,
    /// The derivation that made it.
    pub deriver: Option<StorePath>,
    /// Content address as Nix writes it (`fixed:r:sha256:...`, `text:sha256:...`).
    pub content_address: Option<String>,
}
