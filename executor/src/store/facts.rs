//! One file for the facts about one path: JSON, written beside its place and renamed into it.
use model::{PathFacts, StorePath};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// Largest file of facts that is read, in bytes.
const FACTS_BYTES_MAX: u64 = 8 << 20;

/// The facts as they are on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFacts {
    nar_sha256: [u8; 32],
    nar_size: u64,
    references: Vec<String>,
    deriver: Option<String>,
    content_address: Option<String>,
}

impl StoredFacts {
    /// Reads facts; `None` when the file is missing or damaged.
    pub fn read(path: &Path) -> Option<PathFacts> {
        if fs::metadata(path).ok()?.len() > FACTS_BYTES_MAX {
            return None;
        }
        let stored: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        Some(PathFacts {
            nar_sha256: stored.nar_sha256,
            nar_size: stored.nar_size,
            references: stored.references.iter().map(|path| StorePath::from_validated(path)).collect(),
            deriver: stored.deriver.as_deref().map(StorePath::from_validated),
            content_address: stored.content_address,
        })
    }

    /// Writes facts so that they are there whole or not at all.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn write(facts: &PathFacts, path: &Path) -> io::Result<()> {
        let stored = Self {
            nar_sha256: facts.nar_sha256,
            nar_size: facts.nar_size,
            references: facts.references.iter().map(ToString::to_string).collect(),
            deriver: facts.deriver.as_ref().map(ToString::to_string),
            content_address: facts.content_address.clone(),
        };
        write_whole(path, &serde_json::to_vec(&stored)?)
    }
}

/// Replaces a small file: written beside it, then renamed over it.
///
/// # Errors
/// What the file system refuses.
pub fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, contents)?;
    fs::rename(&beside, path)
}
