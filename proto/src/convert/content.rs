//! Store paths, content identities and path information.
use super::WireError;
use crate::v1;
use model::{ContentId, PathFacts, StorePath, TrustDomain, limits};
use nix_formats::store_path::StoreDir;

/// A full store path from the wire.
pub fn store_path(field: &'static str, text: &str) -> Result<StorePath, WireError> {
    match StoreDir::default().parse(text) {
        Ok(_) => Ok(StorePath::from_validated(text)),
        Err(error) => Err(WireError::new(field, error.to_string())),
    }
}

impl TryFrom<v1::ContentId> for ContentId {
    type Error = WireError;

    fn try_from(wire: v1::ContentId) -> Result<Self, WireError> {
        let domain = if wire.trust_domain.is_empty() { "shared" } else { &wire.trust_domain };
        let domain = TrustDomain::parse(domain).ok_or_else(|| {
            WireError::new("trust_domain", format!("`{domain}` is not `shared` or `board:NAME`"))
        })?;
        Ok(Self { domain, path: store_path("path", &wire.path)? })
    }
}

impl From<&ContentId> for v1::ContentId {
    fn from(id: &ContentId) -> Self {
        Self { trust_domain: id.domain.to_string(), path: id.path.to_string() }
    }
}

/// Path information with its signatures, as the wire carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedPathInfo {
    /// Whose content.
    pub id: ContentId,
    /// What is known about its bytes.
    pub facts: PathFacts,
    /// `key-name:base64`, as Nix writes them.
    pub signatures: Vec<String>,
}

impl TryFrom<v1::PathInfo> for SignedPathInfo {
    type Error = WireError;

    fn try_from(wire: v1::PathInfo) -> Result<Self, WireError> {
        let id = wire.id.ok_or_else(|| WireError::missing("id"))?.try_into()?;
        let nar_sha256 = wire.nar_sha256.as_ref().try_into().map_err(|_| {
            WireError::new("nar_sha256", format!("has {} bytes, not 32", wire.nar_sha256.len()))
        })?;
        if wire.nar_size == 0 || wire.nar_size > limits::NAR_BYTES_MAX {
            let problem = format!("{} is not within 1 to {} bytes", wire.nar_size, limits::NAR_BYTES_MAX);
            return Err(WireError::new("nar_size", problem));
        }
        if wire.references.len() > limits::REFERENCES_MAX {
            return Err(WireError::new("references", format!("{} are too many", wire.references.len())));
        }
        if wire.signatures.len() > 64 || wire.signatures.iter().any(|signature| signature.len() > 512) {
            return Err(WireError::new("signatures", "are too many or too long"));
        }
        let mut references = Vec::with_capacity(wire.references.len());
        for reference in &wire.references {
            references.push(store_path("references", reference)?);
        }
        references.sort();
        references.dedup();
        let deriver = match wire.deriver.as_str() {
            "" => None,
            path => Some(store_path("deriver", path)?),
        };
        let content_address = (!wire.content_address.is_empty()).then_some(wire.content_address);
        let facts = PathFacts { nar_sha256, nar_size: wire.nar_size, references, deriver, content_address };
        Ok(Self { id, facts, signatures: wire.signatures })
    }
}

impl From<&SignedPathInfo> for v1::PathInfo {
    fn from(info: &SignedPathInfo) -> Self {
        let signatures = info.signatures.clone();
        Self { signatures, ..path_info(&info.id, &info.facts) }
    }
}

/// Path information without signatures, for the wire.
pub fn path_info(id: &ContentId, facts: &PathFacts) -> v1::PathInfo {
    v1::PathInfo {
        id: Some(id.into()),
        nar_sha256: bytes::Bytes::copy_from_slice(&facts.nar_sha256),
        nar_size: facts.nar_size,
        references: facts.references.iter().map(ToString::to_string).collect(),
        deriver: facts.deriver.as_ref().map(ToString::to_string).unwrap_or_default(),
        content_address: facts.content_address.clone().unwrap_or_default(),
        signatures: Vec::new(),
    }
}
