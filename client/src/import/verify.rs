//! Whether a NAR is the announced one, while it passes: size and hash. Pure.
use bytes::Bytes;
use model::PathFacts;
use nix_formats::hash::{HashAlgorithm, Hasher};
use thiserror::Error;

/// How bytes differ from those that were announced.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// The stream ended early.
    #[error("the NAR ended after {received} of {announced} bytes")]
    Truncated {
        /// What came.
        received: u64,
        /// What should have come.
        announced: u64,
    },
    /// The stream went on.
    #[error("the NAR goes on after the {announced} bytes that were announced")]
    Oversized {
        /// What should have come.
        announced: u64,
    },
    /// The size is right and the bytes are not.
    #[error("the NAR has the SHA-256 {received}, announced was {announced}")]
    Corrupt {
        /// Of what came, in hexadecimal.
        received: String,
        /// Of what should have come.
        announced: String,
    },
}

/// Lets bytes pass and keeps the last ones back until all are known to be right.
///
/// A daemon that got everything registers the path; one that lacks the last bytes cannot.
pub struct Verifier {
    hasher: Hasher,
    announced: PathFacts,
    received: u64,
    held_back: Bytes,
}

impl Verifier {
    /// For one path.
    pub fn new(announced: &PathFacts) -> Self {
        Self {
            hasher: Hasher::new(HashAlgorithm::Sha256),
            announced: announced.clone(),
            received: 0,
            held_back: Bytes::new(),
        }
    }

    /// Bytes that came; those before them may now pass.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, Mismatch> {
        self.received += chunk.len() as u64;
        if self.received > self.announced.nar_size {
            return Err(Mismatch::Oversized { announced: self.announced.nar_size });
        }
        self.hasher.update(&chunk);
        Ok(std::mem::replace(&mut self.held_back, chunk))
    }

    /// Bytes that have come: where a broken download goes on.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// At the end of the stream: the last bytes, when all were right.
    pub fn finish(self) -> Result<Bytes, Mismatch> {
        let Self { hasher, announced, received, held_back } = self;
        if received < announced.nar_size {
            return Err(Mismatch::Truncated { received, announced: announced.nar_size });
        }
        let hash = hasher.finish();
        if hash.digest() != announced.nar_sha256 {
            let announced = announced.nar_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(Mismatch::Corrupt { received: hash.hex(), announced });
        }
        Ok(held_back)
    }
}
