//! Hash parts replaced in a stream, and the hash of a stream modulo its references to itself.
use crate::hash::{Hash, HashAlgorithm, Hasher};
use crate::references::IS_DIGIT;
use crate::store_path::{HASH_PART_LENGTH, StorePath};
use std::collections::HashMap;

/// A hash part, or what replaces it.
type Part = [u8; HASH_PART_LENGTH];

fn part(path: &StorePath) -> Option<Part> {
    path.hash_part().as_bytes().try_into().ok()
}

/// Replaces hash parts by others of the same length, wherever chunks are cut.
#[derive(Debug, Default)]
pub struct Rewriter {
    rewrites: HashMap<Part, Part>,
    /// What came and was not given out: fewer bytes than a hash part, between calls.
    pending: Vec<u8>,
    /// Bytes given out.
    position: u64,
}

impl Rewriter {
    /// Replaces the hash part of each first path by that of the second.
    pub fn new<'a>(rewrites: impl IntoIterator<Item = (&'a StorePath, &'a StorePath)>) -> Self {
        let pair = |(from, to)| Some((part(from)?, part(to)?));
        Self { rewrites: rewrites.into_iter().filter_map(pair).collect(), ..Self::default() }
    }

    /// Replaces the hash part of a path by zero bytes.
    pub fn blanking(path: &StorePath) -> Self {
        let rewrites = part(path).map(|part| (part, [0; HASH_PART_LENGTH]));
        Self { rewrites: rewrites.into_iter().collect(), ..Self::default() }
    }

    /// Takes the next bytes; gives to `sink` what is sure, and to `found` the offset of each replacement.
    pub fn push(&mut self, chunk: &[u8], sink: &mut impl FnMut(&[u8]), found: &mut impl FnMut(u64)) {
        let mut bytes = std::mem::take(&mut self.pending);
        bytes.extend_from_slice(chunk);
        let mut start = 0;
        while start + HASH_PART_LENGTH <= bytes.len() {
            let window = &mut bytes[start..start + HASH_PART_LENGTH];
            // From the right: everything up to a byte that is no digit can be skipped at once.
            if let Some(position) = window.iter().rposition(|&byte| !IS_DIGIT[usize::from(byte)]) {
                start += position + 1;
                continue;
            }
            if let Some(replacement) = self.rewrites.get(&*window) {
                window.copy_from_slice(replacement);
                found(self.position + start as u64);
                start += HASH_PART_LENGTH;
            } else {
                start += 1;
            }
        }
        sink(&bytes[..start]);
        self.position += start as u64;
        bytes.drain(..start);
        self.pending = bytes;
    }

    /// Gives out the last bytes.
    pub fn finish(self, sink: &mut impl FnMut(&[u8])) {
        sink(&self.pending);
    }
}

/// Hashes a stream as if it did not say its own name: references to itself count as zeros.
///
/// Nix 2.8 hashed the places of these references as well; 2.26 and 2.34 do not, and refuse what was hashed so.
#[derive(Debug)]
pub struct SelfHasher {
    hasher: Hasher,
    rewriter: Rewriter,
    references: u64,
}

impl SelfHasher {
    /// For content that calls itself by the hash part of this path.
    pub fn new(algorithm: HashAlgorithm, own_path: &StorePath) -> Self {
        Self { hasher: Hasher::new(algorithm), rewriter: Rewriter::blanking(own_path), references: 0 }
    }

    /// Hashes the next bytes.
    pub fn push(&mut self, chunk: &[u8]) {
        let Self { hasher, rewriter, references } = self;
        rewriter.push(chunk, &mut |bytes| hasher.update(bytes), &mut |_| *references += 1);
    }

    /// The hash of all bytes so far, and how often they refer to themselves.
    pub fn finish(self) -> (Hash, u64) {
        let Self { mut hasher, rewriter, references } = self;
        rewriter.finish(&mut |bytes| hasher.update(bytes));
        (hasher.finish(), references)
    }
}
