//! What a build left: each output checked, made canonical, hashed and scanned in one pass over its NAR.
use crate::tree::{self, TreeError};
use model::{FailureClass, StorePath};
use nix_formats::content_address::ContentAddress;
use nix_formats::hash::{Hash, HashAlgorithm, Hasher};
use nix_formats::references::Scanner;
use nix_formats::rewrite::Rewriter;
use nix_formats::store_path::{StoreDir, StorePath as BaseName};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why outputs were not taken.
#[derive(Debug, Error)]
pub enum OutputsError {
    /// The build did not make it.
    #[error("builder for '{derivation}' failed to produce output path for output '{output}' at \"{path}\"")]
    Missing {
        /// The derivation.
        derivation: StorePath,
        /// The output's name.
        output: String,
        /// Where it should be.
        path: StorePath,
    },
    /// Its tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A flat fixed output that is no plain file.
    #[error(
        "output path \"{0}\" should be a non-executable regular file since recursive hashing is not enabled \
         (one of outputHashMode={{flat,text}} is true)"
    )]
    NotFlat(StorePath),
    /// The executor's own disk.
    #[error("cannot read output '{path}'")]
    Read {
        /// The output.
        path: StorePath,
        /// Why not.
        source: io::Error,
    },
    /// A rule about the outputs is broken; the text is Nix's.
    #[error("{0}")]
    Rejected(String),
    /// An output does not fit into the executor's store.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

impl OutputsError {
    /// How the failure is classed.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Missing { .. } | Self::NotFlat(_) | Self::Rejected(_) => FailureClass::OutputRejected,
            Self::Tree(error) if error.is_rejection() => FailureClass::OutputRejected,
            Self::Tree(error) | Self::Store(crate::store::StoreError::Tree { source: error, .. })
                if error.is_out_of_disk() =>
            {
                FailureClass::OutOfDisk
            }
            _ => FailureClass::Infrastructure,
        }
    }
}

/// An output that a derivation promises.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Its name.
    pub name: String,
    /// Its store path; a temporary one if the last one follows from the content.
    pub path: StorePath,
    /// The hash that it must have, if it is fixed.
    pub fixed: Option<Fixed>,
    /// What its path follows from, if that is its content.
    pub floating: Option<Floating>,
    /// Whether its references are not looked for (`unsafeDiscardReferences`).
    pub discard_references: bool,
}

/// The promise of a fixed output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fixed {
    /// Of the NAR, rather than of the file's bytes.
    pub is_recursive: bool,
    /// What the derivation says.
    pub hash: Hash,
}

/// How the path of a floating output follows from its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Floating {
    /// By the NAR, rather than by the file's bytes.
    pub is_recursive: bool,
    /// By which hash.
    pub algorithm: HashAlgorithm,
}

/// An output as it is on disk, canonical.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What was promised.
    pub expected: Expected,
    /// Its store path: the promised one, until content has given it another.
    pub path: StorePath,
    /// Where it is.
    pub tree: PathBuf,
    /// SHA-256 of its NAR.
    pub nar_sha256: [u8; 32],
    /// Size of its NAR in bytes.
    pub nar_size: u64,
    /// Candidates found in it, sorted.
    pub references: Vec<StorePath>,
    /// Its hash by the promised method and algorithm, if it is fixed.
    pub fixed_hash: Option<Hash>,
    /// Its content address, if its path followed from its content.
    pub content_address: Option<ContentAddress>,
}

/// Checks, canonicalises, hashes and scans all outputs, which lie below `store_directory`.
///
/// `candidates` are the paths that can become references: the input closure and the outputs themselves.
///
/// # Errors
/// The first output that is missing or refused.
pub fn examine(
    derivation: &StorePath,
    outputs: &[Expected],
    candidates: &[BaseName],
    store_directory: &Path,
    owner: u32,
) -> Result<Vec<Examined>, OutputsError> {
    let mut examined = Vec::with_capacity(outputs.len());
    for expected in outputs {
        let tree = store_directory.join(crate::store::base_name(&expected.path));
        if std::fs::symlink_metadata(&tree).is_err() {
            return Err(OutputsError::Missing {
                derivation: derivation.clone(),
                output: expected.name.clone(),
                path: expected.path.clone(),
            });
        }
        tree::check_top_level(&tree, &expected.name, owner)?;
        // Before its mode is made canonical: what may execute stays visible either way.
        tree::canonicalise(&tree, owner)?;
        examined.push(examine_one(expected, tree, candidates)?);
    }
    Ok(examined)
}

fn examine_one(
    expected: &Expected,
    tree: PathBuf,
    candidates: &[BaseName],
) -> Result<Examined, OutputsError> {
    let recursive_algorithm = match &expected.fixed {
        Some(fixed) if fixed.is_recursive => Some(fixed.hash.algorithm),
        _ => None,
    };
    let own = BaseName::parse_base_name(crate::store::base_name(&expected.path)).ok();
    let mut sha256 = Sha256::new();
    // The NAR's own SHA-256 serves for a recursive one.
    let mut other = recursive_algorithm.filter(|kind| *kind != HashAlgorithm::Sha256).map(Hasher::new);
    // Even where references do not count: a fixed output that says its own name is hashed in another way.
    let wanted = if expected.discard_references { own.as_slice() } else { candidates };
    let is_scanned = !expected.discard_references || expected.fixed.is_some();
    let mut scanner = is_scanned.then(|| Scanner::new(wanted.iter().cloned()));
    let nar_size = tree::dump(&tree, &mut |chunk| {
        sha256.update(chunk);
        if let Some(other) = &mut other {
            other.update(chunk);
        }
        if let Some(scanner) = &mut scanner {
            scanner.push(chunk);
        }
        Ok(())
    })?;
    let nar_sha256: [u8; 32] = sha256.finalize().into();
    let mut found = scanner.map(Scanner::finish).unwrap_or_default();
    let own = own.filter(|own| found.contains(own));
    let fixed_hash = match (&expected.fixed, own, recursive_algorithm) {
        (None, ..) => None,
        (Some(fixed), Some(own), _) => Some(hash_without_itself(&tree, expected, fixed, &own)?),
        (Some(_), None, Some(HashAlgorithm::Sha256)) => Hash::new(HashAlgorithm::Sha256, &nar_sha256),
        (Some(_), None, Some(_)) => other.map(Hasher::finish),
        (Some(fixed), None, None) => Some(flat_hash(&tree, &expected.path, fixed.hash.algorithm)?),
    };
    if expected.discard_references {
        found.clear();
    }
    let full_path = |path: &BaseName| StorePath::from_validated(&StoreDir::default().display(path));
    let references = found.iter().map(full_path).collect();
    Ok(Examined {
        expected: expected.clone(),
        path: expected.path.clone(),
        tree,
        nar_sha256,
        nar_size,
        references,
        fixed_hash,
        content_address: None,
    })
}

/// The hash of a fixed output that says its own name, which follows from its hash: zeros stand for it then. (Older Nix, 2.8
/// for one, hashes the places of these zeros too; 2.34 does not.)
fn hash_without_itself(
    tree: &Path,
    expected: &Expected,
    fixed: &Fixed,
    own: &BaseName,
) -> Result<Hash, OutputsError> {
    let mut hasher = Hasher::new(fixed.hash.algorithm);
    let mut blanking = Rewriter::blanking(own);
    let mut push = |chunk: &[u8]| blanking.push(chunk, &mut |bytes| hasher.update(bytes), &mut |_| {});
    if fixed.is_recursive {
        tree::dump(tree, &mut |chunk| {
            push(chunk);
            Ok(())
        })?;
    } else {
        read_flat(tree, &expected.path, &mut push)?;
    }
    blanking.finish(&mut |bytes| hasher.update(bytes));
    Ok(hasher.finish())
}

fn flat_hash(tree: &Path, path: &StorePath, algorithm: HashAlgorithm) -> Result<Hash, OutputsError> {
    let mut hasher = Hasher::new(algorithm);
    read_flat(tree, path, &mut |bytes| hasher.update(bytes))?;
    Ok(hasher.finish())
}

/// Reads the bytes of an output that must be a plain file.
///
/// # Errors
/// It is none, or cannot be read.
pub fn read_flat(tree: &Path, path: &StorePath, sink: &mut dyn FnMut(&[u8])) -> Result<(), OutputsError> {
    let read_error = |source| OutputsError::Read { path: path.clone(), source };
    let status = std::fs::symlink_metadata(tree).map_err(read_error)?;
    if !status.is_file() || status.permissions().mode() & 0o100 != 0 {
        return Err(OutputsError::NotFlat(path.clone()));
    }
    let mut file = File::open(tree).map_err(read_error)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).map_err(read_error)? {
            0 => return Ok(()),
            count => sink(&buffer[..count]),
        }
    }
}
