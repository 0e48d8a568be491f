//! NARs to serve: small ones from memory, large ones made up on the way, and those that are not what they seem.
use sha2::{Digest, Sha256};
use std::ops::Range;

/// The bytes behind a path.
#[derive(Clone)]
pub enum Blob {
    /// From memory.
    Bytes(Vec<u8>),
    /// One file of so many bytes (a multiple of 8) that never were in memory.
    Large(u64),
    /// Announced truly as the first, sent as the second.
    Lying(Vec<u8>, Vec<u8>),
}

/// Bytes that do not shrink.
fn noise(at: u64) -> u8 {
    let mixed = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 56) as u8
}

fn words(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in words {
        bytes.extend_from_slice(&(word.len() as u64).to_le_bytes());
        bytes.extend_from_slice(word);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

fn large_head(size: u64) -> Vec<u8> {
    let mut head = words(&[b"nix-archive-1", b"(", b"type", b"regular", b"contents"]);
    head.extend_from_slice(&size.to_le_bytes());
    head
}

impl Blob {
    /// One file.
    pub fn file(contents: &[u8]) -> Self {
        Self::Bytes(words(&[b"nix-archive-1", b"(", b"type", b"regular", b"contents", contents, b")"]))
    }

    /// What is announced.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) | Self::Lying(bytes, _) => bytes.len() as u64,
            Self::Large(size) => large_head(*size).len() as u64 + size + 16,
        }
    }

    /// What comes.
    pub fn sent_size(&self) -> u64 {
        match self {
            Self::Lying(_, sent) => sent.len() as u64,
            _ => self.size(),
        }
    }

    /// Some of what comes.
    pub fn sent(&self, range: Range<u64>) -> Vec<u8> {
        let slice = |bytes: &[u8]| bytes[range.start as usize..range.end as usize].to_vec();
        match self {
            Self::Bytes(bytes) | Self::Lying(_, bytes) => slice(bytes),
            Self::Large(size) => {
                let (head, tail) = (large_head(*size), words(&[b")"]));
                let contents = head.len() as u64..head.len() as u64 + size;
                let byte = |at: u64| match at {
                    at if at < contents.start => head[at as usize],
                    at if at < contents.end => noise(at),
                    at => tail[(at - contents.end) as usize],
                };
                range.map(byte).collect()
            }
        }
    }

    /// The hash that is announced.
    pub fn sha256(&self) -> [u8; 32] {
        if let Self::Lying(bytes, _) = self {
            return Sha256::digest(bytes).into();
        }
        let mut hasher = Sha256::new();
        for start in (0..self.size()).step_by(1 << 16) {
            hasher.update(self.sent(start..self.size().min(start + (1 << 16))));
        }
        hasher.finalize().into()
    }
}
