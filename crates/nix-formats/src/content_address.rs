//! Content addresses, as path information carries them (`fixed:r:sha256:...`).
use crate::hash::{Hash, HashAlgorithm};
use crate::store_path::{StoreDir, StorePath, StorePathError};
use std::fmt;
use thiserror::Error;

/// How the bytes of a content-addressed path are hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ContentAddress {
    /// SHA-256 of a text file that may have references.
    Text([u8; 32]),
    /// Hash of one regular file's contents.
    Flat(Hash),
    /// Hash of the NAR.
    Recursive(Hash),
}

/// Why a text is not a content address.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{text}` is not a content address that is understood")]
pub struct ContentAddressError {
    text: String,
}

impl ContentAddress {
    /// Reads `text:sha256:...`, `fixed:ALGORITHM:...` or `fixed:r:ALGORITHM:...`.
    pub fn parse(text: &str) -> Result<Self, ContentAddressError> {
        let parse = || {
            if let Some(hash) = text.strip_prefix("text:") {
                let hash = Hash::parse(hash).ok()?;
                let is_sha256 = hash.algorithm == HashAlgorithm::Sha256;
                return if is_sha256 { Some(Self::Text(hash.digest().try_into().ok()?)) } else { None };
            }
            let fixed = text.strip_prefix("fixed:")?;
            match fixed.strip_prefix("r:") {
                Some(hash) => Some(Self::Recursive(Hash::parse(hash).ok()?)),
                None => Some(Self::Flat(Hash::parse(fixed).ok()?)),
            }
        };
        parse().ok_or_else(|| ContentAddressError { text: text.chars().take(200).collect() })
    }

    /// The path that this content address gives to a name and references; `None` when such references are not allowed.
    pub fn implied_path(
        &self,
        store: &StoreDir,
        name: &str,
        references: &[StorePath],
        own_path: &StorePath,
    ) -> Option<StorePath> {
        let others = references.iter().filter(|&reference| reference != own_path);
        let refers_to_itself = references.contains(own_path);
        let path: Result<StorePath, StorePathError> = match self {
            Self::Text(digest) if !refers_to_itself => store.text_path(name, digest, others),
            Self::Recursive(hash) if hash.algorithm == HashAlgorithm::Sha256 => {
                let digest = hash.digest().try_into().ok()?;
                store.source_path(name, digest, others, refers_to_itself)
            }
            Self::Flat(hash) if references.is_empty() => store.fixed_output_path(name, hash, false),
            Self::Recursive(hash) if references.is_empty() => store.fixed_output_path(name, hash, true),
            _ => return None,
        };
        path.ok()
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(digest) => write!(f, "text:sha256:{}", crate::base32::encode(digest)),
            Self::Flat(hash) => write!(f, "fixed:{}:{}", hash.algorithm, hash.base32()),
            Self::Recursive(hash) => write!(f, "fixed:r:{}:{}", hash.algorithm, hash.base32()),
        }
    }
}
