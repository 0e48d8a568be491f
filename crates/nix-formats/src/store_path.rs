//! Store paths: how they are written, and how they are computed.
use crate::base32;
use crate::hash::{Hash, HashAlgorithm, hex, sha256};
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Digits of a store path's hash part.
pub const HASH_PART_LENGTH: usize = 32;
/// Longest name of a store path.
pub const NAME_LENGTH_MAX: usize = 211;

/// Why a text is not a store path.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{text}` is not a store path: {problem}")]
pub struct StorePathError {
    text: String,
    problem: &'static str,
}

fn refuse(text: &str, problem: &'static str) -> StorePathError {
    StorePathError { text: text.chars().take(300).collect(), problem }
}

/// What is wrong with the name of a store object, if anything is.
pub fn name_problem(name: &str) -> Option<&'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
    if name.is_empty() {
        Some("the name is empty")
    } else if name.len() > NAME_LENGTH_MAX {
        Some("the name is longer than 211 characters")
    } else if !name.bytes().all(is_allowed) {
        Some("the name has a character that is not allowed")
    } else if name == "." || name == ".." || name.starts_with(".-") || name.starts_with("..-") {
        Some("the name begins with a dot component")
    } else {
        None
    }
}

/// The base name of a store object: `<32 base-32 digits>-<name>`. Ordered bytewise, as Nix orders paths.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Arc<str>);

impl StorePath {
    /// Reads a base name.
    pub fn parse_base_name(text: &str) -> Result<Self, StorePathError> {
        let bytes = text.as_bytes();
        if bytes.len() < HASH_PART_LENGTH + 2 || bytes[HASH_PART_LENGTH] != b'-' {
            return Err(refuse(text, "it is not 32 digits, a hyphen and a name"));
        }
        if !bytes[..HASH_PART_LENGTH].iter().all(|&digit| base32::digit_value(digit).is_some()) {
            return Err(refuse(text, "its hash part has a character that is not a base-32 digit"));
        }
        match name_problem(&text[HASH_PART_LENGTH + 1..]) {
            Some(problem) => Err(refuse(text, problem)),
            None => Ok(Self(Arc::from(text))),
        }
    }

    fn from_digest(digest: &[u8; 20], name: &str) -> Result<Self, StorePathError> {
        match name_problem(name) {
            Some(problem) => Err(refuse(name, problem)),
            None => Ok(Self(Arc::from(format!("{}-{name}", base32::encode(digest))))),
        }
    }

    /// The base name.
    pub fn base_name(&self) -> &str {
        &self.0
    }

    /// The 32 digits.
    pub fn hash_part(&self) -> &str {
        &self.0[..HASH_PART_LENGTH]
    }

    /// What follows the first hyphen.
    pub fn name(&self) -> &str {
        &self.0[HASH_PART_LENGTH + 1..]
    }

    /// Whether this names a derivation file.
    pub fn is_derivation(&self) -> bool {
        self.0.ends_with(".drv")
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

/// Why a text names no store path, in Nix's words.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NotFound {
    /// It is in another directory.
    #[error("path '{0}' is not in the Nix store")]
    Elsewhere(String),
    /// It is the store itself, for Nix.
    #[error("path \"{0}\" is not in the Nix store")]
    Store(String),
    /// It does not look like one.
    #[error("'{0}' is too short to be a valid store path")]
    TooShort(String),
}

/// The store's directory. It enters every hash.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StoreDir(Arc<str>);

impl Default for StoreDir {
    fn default() -> Self {
        Self(Arc::from("/nix/store"))
    }
}

impl StoreDir {
    /// Another directory: absolute, without a slash at its end.
    pub fn new(directory: &str) -> Option<Self> {
        let is_canonical =
            directory.starts_with('/') && !directory.ends_with('/') && !directory.contains("//");
        is_canonical.then(|| Self(Arc::from(directory)))
    }

    /// The directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a full path of this store.
    pub fn parse(&self, path: &str) -> Result<StorePath, StorePathError> {
        match path.strip_prefix(&*self.0).and_then(|rest| rest.strip_prefix('/')) {
            Some(base_name) => StorePath::parse_base_name(base_name),
            None => Err(refuse(path, "it is not in the store directory")),
        }
    }

    /// The store object that a path is or lies in.
    pub fn parse_prefix(&self, path: &str) -> Result<StorePath, StorePathError> {
        let rest = path.strip_prefix(&*self.0).and_then(|rest| rest.strip_prefix('/'));
        let base_name = rest.and_then(|rest| rest.split('/').next());
        base_name
            .map_or_else(|| Err(refuse(path, "it is not in the store directory")), StorePath::parse_base_name)
    }

    /// The same for a path from a derivation's attributes, which Nix refuses in these words.
    ///
    /// # Errors
    /// It lies in no store path.
    pub fn find(&self, path: &str) -> Result<StorePath, NotFound> {
        self.parse_prefix(path).map_err(|_| {
            let rest = path.strip_prefix(&*self.0).and_then(|rest| rest.strip_prefix('/'));
            match rest.map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
                Some(("", below)) if !below.is_empty() => NotFound::Store(self.0.to_string()),
                None | Some(("" | "." | "..", _)) => NotFound::Elsewhere(path.to_owned()),
                Some((name, _)) if name.len() <= HASH_PART_LENGTH => NotFound::TooShort(name.to_owned()),
                Some(_) => NotFound::Elsewhere(path.to_owned()),
            }
        })
    }

    /// The full path.
    pub fn display(&self, path: &StorePath) -> String {
        format!("{}/{}", self.0, path.base_name())
    }

    /// `path(type, inner, name)` of Nix: the digest of the fingerprint, folded to 20 bytes.
    pub fn make_store_path(
        &self,
        kind: &str,
        inner_hex: &str,
        name: &str,
    ) -> Result<StorePath, StorePathError> {
        let fingerprint = format!("{kind}:sha256:{inner_hex}:{}:{name}", self.0);
        StorePath::from_digest(&fold20(&sha256(fingerprint.as_bytes())), name)
    }

    fn with_references<'a>(&self, kind: &str, references: impl IntoIterator<Item = &'a StorePath>) -> String {
        let mut sorted: Vec<_> = references.into_iter().collect();
        sorted.sort();
        sorted.dedup();
        sorted.iter().fold(kind.to_owned(), |text, path| format!("{text}:{}", self.display(path)))
    }

    /// Path of a text file (every derivation is one) with these contents and references.
    pub fn text_path<'a>(
        &self,
        name: &str,
        contents_sha256: &[u8; 32],
        references: impl IntoIterator<Item = &'a StorePath>,
    ) -> Result<StorePath, StorePathError> {
        self.make_store_path(&self.with_references("text", references), &hex(contents_sha256), name)
    }

    /// Path of content addressed by the SHA-256 of its NAR.
    pub fn source_path<'a>(
        &self,
        name: &str,
        nar_sha256: &[u8; 32],
        references: impl IntoIterator<Item = &'a StorePath>,
        is_self_referencing: bool,
    ) -> Result<StorePath, StorePathError> {
        let mut kind = self.with_references("source", references);
        if is_self_referencing {
            kind.push_str(":self");
        }
        self.make_store_path(&kind, &hex(nar_sha256), name)
    }

    /// Path of a fixed output: flat, or recursive (hash of the NAR).
    pub fn fixed_output_path(
        &self,
        name: &str,
        hash: &Hash,
        is_recursive: bool,
    ) -> Result<StorePath, StorePathError> {
        if let (true, HashAlgorithm::Sha256, Ok(digest)) =
            (is_recursive, hash.algorithm, hash.digest().try_into())
        {
            return self.source_path(name, digest, [], false);
        }
        let method = if is_recursive { "r:" } else { "" };
        let inner = format!("fixed:out:{method}{}:{}:", hash.algorithm, hash.hex());
        self.make_store_path("output:out", &hex(&sha256(inner.as_bytes())), name)
    }
}

/// Folds a digest to the 20 bytes of a hash part.
pub fn fold20(digest: &[u8; 32]) -> [u8; 20] {
    let mut folded = [0; 20];
    for (index, byte) in digest.iter().enumerate() {
        folded[index % 20] ^= byte;
    }
    folded
}

/// Name of an output's store path.
pub fn output_path_name(derivation_name: &str, output: &str) -> String {
    if output == "out" { derivation_name.to_owned() } else { format!("{derivation_name}-{output}") }
}
