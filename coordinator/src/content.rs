//! What the content store can serve: known and held, path information signed with the cluster's Nix key.
use crate::knowledge::{Knowledge, KnowledgeError};
use crate::paths;
use crate::submit::{held, resolve};
use cas::{CasError, Chunks, ContentStore};
use model::{ContentId, PathFacts, StorePath};
use nix_formats::signature::SecretKey;
use nix_formats::store_path::{StoreDir, StorePathError};
use std::sync::Arc;
use thiserror::Error;

/// Why content cannot be served.
#[derive(Debug, Error)]
pub enum LookupError {
    /// The bytes are not here.
    #[error("'{}' is not in the content store", .0.path)]
    NotHeld(ContentId),
    /// What is known is not enough.
    #[error(transparent)]
    Facts(#[from] KnowledgeError),
    /// Not a store path after all.
    #[error(transparent)]
    Path(#[from] StorePathError),
}

/// Removes bytes that are not those that are known of, so that the right ones can be written: left by a coordinator that was
/// killed before it could remember them. Blocks.
///
/// # Errors
/// A disk that refuses.
pub fn remove_unknown(
    knowledge: &Knowledge,
    store: &dyn ContentStore,
    id: &ContentId,
) -> Result<(), CasError> {
    let Ok(blob) = paths::blob_id(id) else { return Ok(()) };
    let is_known = knowledge.content(id).is_some_and(|known| held(store, id, &known));
    if store.get(&blob).is_some() && !is_known {
        tracing::warn!(%blob, "bytes in the content store that nothing is known of are removed");
        store.remove(&blob)?;
    }
    Ok(())
}

/// Contents that can be served.
#[derive(Debug)]
pub struct Contents {
    knowledge: Arc<Knowledge>,
    store: Arc<dyn ContentStore>,
    key: SecretKey,
}

impl Contents {
    /// What `store` holds and `knowledge` knows, signed with `key`.
    pub fn new(knowledge: Arc<Knowledge>, store: Arc<dyn ContentStore>, key: SecretKey) -> Self {
        Self { knowledge, store, key }
    }

    /// Whether it can be served.
    pub fn is_held(&self, id: &ContentId) -> bool {
        self.knowledge.content(id).is_some_and(|known| held(&*self.store, id, &known))
    }

    /// What a board means by a path without a domain: shared, or else its own.
    pub fn find_for_board(&self, board: &str, path: &StorePath) -> Option<ContentId> {
        resolve(&self.knowledge, &*self.store, board, path).map(|(id, _)| id)
    }

    /// Facts, and a signature over them.
    ///
    /// # Errors
    /// Nothing is known.
    pub fn signed(&self, id: &ContentId) -> Result<(PathFacts, Vec<String>), LookupError> {
        let known = self.knowledge.content(id).ok_or_else(|| LookupError::NotHeld(id.clone()))?;
        let mut info = paths::signable(id, &known.facts)?;
        info.sign(&StoreDir::default(), &self.key);
        Ok((known.facts.clone(), info.signatures))
    }

    /// Everything that these refer to, references before referrers, when all of it is held.
    ///
    /// # Errors
    /// The first that is not.
    pub fn closure(&self, ids: Vec<ContentId>) -> Result<Vec<ContentId>, LookupError> {
        let closure = self.knowledge.closure(ids)?;
        match closure.iter().find(|(id, known)| !held(&*self.store, id, known)) {
            Some((id, _)) => Err(LookupError::NotHeld(id.clone())),
            None => Ok(closure.into_iter().map(|(id, _)| id).collect()),
        }
    }

    /// Its bytes, from an offset.
    ///
    /// # Errors
    /// A disk that refuses.
    pub async fn open(
        &self,
        id: &ContentId,
        offset: u64,
        chunk_bytes_max: usize,
    ) -> Result<Chunks, CasError> {
        let not_a_path = |source| CasError::Io {
            action: "name",
            path: id.path.as_str().into(),
            source: std::io::Error::other::<StorePathError>(source),
        };
        let blob = paths::blob_id(id).map_err(not_a_path)?;
        Chunks::open(self.store.clone(), blob, offset, chunk_bytes_max).await
    }
}
