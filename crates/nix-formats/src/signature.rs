//! Ed25519 signatures as Nix writes them: `name:base64`.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};
use std::fmt;
use thiserror::Error;

/// Why a text is not a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum KeyError {
    /// There is no colon, or nothing before it.
    #[error("a key is written `name:base64`")]
    Form,
    /// What follows the colon is not base 64 of the right size, or no point of the curve.
    #[error("the bytes of the key are not valid")]
    Bytes,
}

fn split(text: &str) -> Result<(&str, Vec<u8>), KeyError> {
    let (name, encoded) = text.trim_end().split_once(':').ok_or(KeyError::Form)?;
    let is_name = !name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_name {
        return Err(KeyError::Form);
    }
    Ok((name, BASE64.decode(encoded).map_err(|_| KeyError::Bytes)?))
}

/// A secret key with its name.
#[derive(Clone)]
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.name)
    }
}

impl SecretKey {
    /// Reads `name:base64` of 64 bytes: seed and public key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = split(text)?;
        let pair = bytes.as_slice().try_into().map_err(|_| KeyError::Bytes)?;
        let key = SigningKey::from_keypair_bytes(pair).map_err(|_| KeyError::Bytes)?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// A key from 32 random bytes.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Self {
        Self { name: name.to_owned(), key: SigningKey::from_bytes(seed) }
    }

    /// The text that [`SecretKey::parse`] reads.
    pub fn to_text(&self) -> String {
        format!("{}:{}", self.name, BASE64.encode(self.key.to_keypair_bytes()))
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs a fingerprint.
    pub fn sign(&self, fingerprint: &str) -> String {
        format!("{}:{}", self.name, BASE64.encode(self.key.sign(fingerprint.as_bytes()).to_bytes()))
    }
}

/// A public key with its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// Reads `name:base64` of 32 bytes.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = split(text)?;
        let bytes = bytes.as_slice().try_into().map_err(|_| KeyError::Bytes)?;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Bytes)?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// Whether a signature is by this key, over this fingerprint.
    pub fn verifies(&self, fingerprint: &str, signature: &str) -> bool {
        let Ok((name, bytes)) = split(signature) else { return false };
        let signature = ed25519_dalek::Signature::from_slice(&bytes);
        name == self.name
            && signature.is_ok_and(|signature| self.key.verify(fingerprint.as_bytes(), &signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.key.as_bytes()))
    }
}
