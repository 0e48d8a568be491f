//! Reference scan: which hash parts of candidates occur in a stream of bytes.
use crate::base32;
use crate::store_path::{HASH_PART_LENGTH, StorePath};
use std::collections::{BTreeSet, HashMap};

/// Which bytes are base-32 digits.
pub(crate) const IS_DIGIT: [bool; 256] = {
    let mut table = [false; 256];
    let mut index = 0;
    while index < base32::ALPHABET.len() {
        table[base32::ALPHABET[index] as usize] = true;
        index += 1;
    }
    table
};

/// Finds candidates in a stream, wherever chunks are cut.
#[derive(Debug)]
pub struct Scanner {
    candidates: HashMap<[u8; HASH_PART_LENGTH], StorePath>,
    found: BTreeSet<StorePath>,
    /// The last bytes of the stream, fewer than a hash part, where a match may begin.
    tail: Vec<u8>,
}

impl Scanner {
    /// A scanner for these paths. Detection is by hash part alone.
    pub fn new(candidates: impl IntoIterator<Item = StorePath>) -> Self {
        let key = |path: &StorePath| <[u8; HASH_PART_LENGTH]>::try_from(path.hash_part().as_bytes());
        let candidates = candidates.into_iter().filter_map(|path| Some((key(&path).ok()?, path))).collect();
        Self { candidates, found: BTreeSet::new(), tail: Vec::with_capacity(2 * HASH_PART_LENGTH) }
    }

    /// Scans the next bytes.
    pub fn push(&mut self, chunk: &[u8]) {
        // What straddles the border: the tail, and at most as much of the chunk as a match may still need.
        let head = &chunk[..chunk.len().min(HASH_PART_LENGTH - 1)];
        if !self.tail.is_empty() {
            let mut border = std::mem::take(&mut self.tail);
            let kept = border.len();
            border.extend_from_slice(head);
            self.scan(&border);
            border.truncate(kept);
            self.tail = border;
        }
        self.scan(chunk);
        if chunk.len() >= HASH_PART_LENGTH - 1 {
            self.tail.clear();
            self.tail.extend_from_slice(&chunk[chunk.len() - (HASH_PART_LENGTH - 1)..]);
        } else {
            self.tail.extend_from_slice(chunk);
            let excess = self.tail.len().saturating_sub(HASH_PART_LENGTH - 1);
            self.tail.drain(..excess);
        }
    }

    fn scan(&mut self, bytes: &[u8]) {
        let mut start = 0;
        while start + HASH_PART_LENGTH <= bytes.len() {
            let window = &bytes[start..start + HASH_PART_LENGTH];
            // From the right: everything up to a byte that is no digit can be skipped at once.
            if let Some(position) = window.iter().rposition(|&byte| !IS_DIGIT[usize::from(byte)]) {
                start += position + 1;
                continue;
            }
            if let Some(path) = self.candidates.get(window) {
                self.found.insert(path.clone());
            }
            start += 1;
        }
    }

    /// The candidates that occurred, sorted.
    pub fn finish(self) -> BTreeSet<StorePath> {
        self.found
    }
}
