//! Path information: what is signed, and when it is to be believed.
use crate::base32;
use crate::content_address::ContentAddress;
use crate::signature::{PublicKey, SecretKey};
use crate::store_path::{StoreDir, StorePath};

/// What Nix knows about a store path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// SHA-256 of the NAR.
    pub nar_sha256: [u8; 32],
    /// Size of the NAR in bytes.
    pub nar_size: u64,
    /// Paths that the bytes mention, sorted; may include the path itself.
    pub references: Vec<StorePath>,
    /// The derivation that made it.
    pub deriver: Option<StorePath>,
    /// The content address, as Nix writes it.
    pub content_address: Option<String>,
    /// Signatures, `name:base64`.
    pub signatures: Vec<String>,
}

impl PathInfo {
    /// The text that signatures are over.
    pub fn fingerprint(&self, store: &StoreDir) -> String {
        let mut references: Vec<_> = self.references.iter().map(|path| store.display(path)).collect();
        references.sort();
        let (path, hash) = (store.display(&self.path), base32::encode(&self.nar_sha256));
        format!("1;{path};sha256:{hash};{};{}", self.nar_size, references.join(","))
    }

    /// Adds a signature by this key.
    pub fn sign(&mut self, store: &StoreDir, key: &SecretKey) {
        let signature = key.sign(&self.fingerprint(store));
        if !self.signatures.contains(&signature) {
            self.signatures.push(signature);
        }
    }

    /// Whether one signature is by one of these keys.
    pub fn is_signed_by(&self, store: &StoreDir, keys: &[PublicKey]) -> bool {
        let fingerprint = self.fingerprint(store);
        let by_any = |signature: &String| keys.iter().any(|key| key.verifies(&fingerprint, signature));
        self.signatures.iter().any(by_any)
    }

    /// Whether its content address implies its path. The content itself must be hashed by whoever receives it.
    pub fn content_address_implies_path(&self, store: &StoreDir) -> bool {
        let address = self.content_address.as_deref().and_then(|text| ContentAddress::parse(text).ok());
        let implied = address
            .and_then(|address| address.implied_path(store, self.path.name(), &self.references, &self.path));
        implied.as_ref() == Some(&self.path)
    }
}
