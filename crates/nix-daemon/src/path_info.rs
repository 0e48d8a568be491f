//! What the daemon knows about a store path.
use crate::wire::{Cursor, Fault, Put, malformed};
use bytes::BytesMut;

/// What the daemon knows about a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// Full store path.
    pub path: String,
    /// The derivation that made it.
    pub deriver: Option<String>,
    /// SHA-256 of the NAR.
    pub nar_sha256: [u8; 32],
    /// Size of the NAR in bytes.
    pub nar_size: u64,
    /// Full store paths.
    pub references: Vec<String>,
    /// `key-name:base64`, as Nix writes them.
    pub signatures: Vec<String>,
    /// Content address as Nix writes it.
    pub content_address: Option<String>,
}

impl PathInfo {
    /// The fields of a QueryPathInfo reply, after the bool.
    pub(crate) fn decode(path: &str, cursor: &mut Cursor<'_>) -> Result<Self, Fault> {
        let deriver = cursor.optional_word("deriver")?;
        let nar_sha256 = sha256(&cursor.word("hash of the NAR")?)?;
        let references = cursor.store_paths("references")?;
        let _registration_time = cursor.number()?;
        let nar_size = cursor.number()?;
        let _ultimate = cursor.boolean()?;
        let signatures = cursor.list("signatures", |cursor| cursor.word("signature"))?;
        let content_address = cursor.optional_word("content address")?;
        Ok(Self {
            path: path.to_owned(),
            deriver,
            nar_sha256,
            nar_size,
            references,
            signatures,
            content_address,
        })
    }

    /// The same fields; neither a time nor `ultimate` is claimed.
    pub(crate) fn encode(&self, request: &mut BytesMut) {
        request.put_word(self.deriver.as_deref().unwrap_or_default());
        request.put_word(&hexadecimal(&self.nar_sha256));
        let mut references = self.references.clone();
        references.sort();
        references.dedup();
        request.put_words(&references);
        request.put_number(0);
        request.put_number(self.nar_size);
        request.put_boolean(false);
        request.put_words(&self.signatures);
        request.put_word(self.content_address.as_deref().unwrap_or_default());
    }
}

/// That an output has a path, in the JSON of Nix up to 2.34. Names of outputs and paths need no escapes.
pub(crate) fn realisation(id: &str, base_name: &str) -> String {
    format!(
        "{{\"dependentRealisations\":{{}},\"id\":\"{id}\",\"outPath\":\"{base_name}\",\"signatures\":[]}}"
    )
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(text: &str) -> Result<[u8; 32], Fault> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let mut hash = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return malformed(format!("`{}` is not a SHA-256 in hexadecimal", text.escape_debug()));
    }
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| Fault::Malformed("hash".into()))?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| Fault::Malformed("hash".into()))?;
    }
    Ok(hash)
}
