//! Hashes: the algorithms that Nix knows, their textual forms, and incremental hashing.
use crate::base32;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::Digest as _;
use std::fmt;
use thiserror::Error;

/// A hash algorithm of a derivation's fixed output.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HashAlgorithm {
    /// 16 bytes.
    Md5,
    /// 20 bytes.
    Sha1,
    /// 32 bytes.
    Sha256,
    /// 64 bytes.
    Sha512,
}

impl HashAlgorithm {
    /// Reads the name as Nix writes it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "md5" => Some(Self::Md5),
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Digest size in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is not a hash.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{text}` is not a hash that Nix writes")]
pub struct ParseHashError {
    text: String,
}

/// A digest with its algorithm.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Hash {
    /// The algorithm.
    pub algorithm: HashAlgorithm,
    digest: Vec<u8>,
}

impl Hash {
    /// A digest of the size that its algorithm has.
    pub fn new(algorithm: HashAlgorithm, digest: &[u8]) -> Option<Self> {
        (digest.len() == algorithm.size()).then(|| Self { algorithm, digest: digest.to_vec() })
    }

    /// Reads `algorithm:digits` (base 16, 32 or 64, told apart by length) or `algorithm-base64`.
    pub fn parse(text: &str) -> Result<Self, ParseHashError> {
        let parsed = match text.split_once(':') {
            Some((algorithm, digits)) => {
                HashAlgorithm::parse(algorithm).and_then(|algorithm| Self::parse_digits(algorithm, digits))
            }
            None => text.split_once('-').and_then(|(algorithm, digits)| {
                Self::new(HashAlgorithm::parse(algorithm)?, &BASE64.decode(digits).ok()?)
            }),
        };
        parsed.ok_or_else(|| ParseHashError { text: text.chars().take(200).collect() })
    }

    /// Reads the digits alone, in any base.
    pub fn parse_digits(algorithm: HashAlgorithm, digits: &str) -> Option<Self> {
        let mut digest = vec![0; algorithm.size()];
        if digits.len() == algorithm.size() * 2 {
            return Some(Self { algorithm, digest: parse_hex(digits)? });
        }
        if digits.len() == base32::encoded_length(algorithm.size()) {
            return base32::decode_into(digits.as_bytes(), &mut digest).then_some(Self { algorithm, digest });
        }
        Self::new(algorithm, &BASE64.decode(digits).ok()?)
    }

    /// The digest.
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// Lower-case base 16, without the algorithm.
    pub fn hex(&self) -> String {
        hex(&self.digest)
    }

    /// Base 32, without the algorithm.
    pub fn base32(&self) -> String {
        base32::encode(&self.digest)
    }

    /// `algorithm-base64`, as messages have it.
    pub fn sri(&self) -> String {
        format!("{}-{}", self.algorithm, BASE64.encode(&self.digest))
    }
}

/// Lower-case base 16.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads lower- or upper-case base 16.
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks_exact(2).map(pair).collect()
}

/// SHA-256 of one text.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

/// Incremental hashing with any of the algorithms.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// MD5.
    Md5(md5::Md5),
    /// SHA-1.
    Sha1(sha1::Sha1),
    /// SHA-256.
    Sha256(sha2::Sha256),
    /// SHA-512.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// An empty hash.
    pub fn new(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Md5 => Self::Md5(md5::Md5::new()),
            HashAlgorithm::Sha1 => Self::Sha1(sha1::Sha1::new()),
            HashAlgorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            HashAlgorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The hash of all bytes so far.
    pub fn finish(self) -> Hash {
        match self {
            Self::Md5(hasher) => Hash { algorithm: HashAlgorithm::Md5, digest: hasher.finalize().to_vec() },
            Self::Sha1(hasher) => Hash { algorithm: HashAlgorithm::Sha1, digest: hasher.finalize().to_vec() },
            Self::Sha256(hasher) => {
                Hash { algorithm: HashAlgorithm::Sha256, digest: hasher.finalize().to_vec() }
            }
            Self::Sha512(hasher) => {
                Hash { algorithm: HashAlgorithm::Sha512, digest: hasher.finalize().to_vec() }
            }
        }
    }
}
