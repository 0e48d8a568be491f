//! Store paths and content ids between the model, Nix's formats and the content store.
use cas::{BlobId, Domain};
use model::{ContentId, StorePath, TrustDomain};
use nix_formats::narinfo::PathInfo;
use nix_formats::store_path::{self, StoreDir, StorePathError};

/// The full path of a store object.
pub fn full(path: &store_path::StorePath) -> StorePath {
    StorePath::from_validated(&StoreDir::default().display(path))
}

/// The store object of a full path.
///
/// # Errors
/// None for a path that came through the wire's door or from the journal.
pub fn base(path: &StorePath) -> Result<store_path::StorePath, StorePathError> {
    StoreDir::default().parse(path.as_str())
}

/// The content store's word for an id.
///
/// # Errors
/// See [`base`].
pub fn blob_id(id: &ContentId) -> Result<BlobId, StorePathError> {
    let domain = match &id.domain {
        TrustDomain::Shared => Domain::Shared,
        TrustDomain::Board(name) => Domain::Board(name.clone()),
    };
    Ok(BlobId { domain, path: base(&id.path)? })
}

/// What is signed for content with these facts.
///
/// # Errors
/// See [`base`].
pub fn signable(id: &ContentId, facts: &model::PathFacts) -> Result<PathInfo, StorePathError> {
    Ok(PathInfo {
        path: base(&id.path)?,
        nar_sha256: facts.nar_sha256,
        nar_size: facts.nar_size,
        references: facts.references.iter().map(base).collect::<Result<_, _>>()?,
        deriver: facts.deriver.as_ref().map(base).transpose()?,
        content_address: facts.content_address.clone(),
        signatures: Vec::new(),
    })
}
