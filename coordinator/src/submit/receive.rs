//! Sources on their way up: only what a submission asked for; its trust domain is decided here, by what its bytes prove.
use super::plan::resolve;
use crate::content::remove_unknown;
use crate::journal::{Entry, Journal, JournalError};
use crate::knowledge::{ContentFacts, Knowledge};
use crate::paths;
use bytes::Bytes;
use cas::{Announced, CasError, ContentStore, Stored, Upload};
use model::{ContentId, PathFacts, StorePath, TrustDomain};
use nix_formats::content_address::{ContentAddress, ContentAddressError};
use nix_formats::store_path::{StoreDir, StorePathError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// Why a source was not taken.
#[derive(Debug, Error)]
pub enum UploadError {
    /// No submission of this board waits for it.
    #[error("no submission of board '{board}' has asked for '{path}'")]
    Unwanted {
        /// Whose.
        board: Arc<str>,
        /// What.
        path: StorePath,
    },
    /// It claims a content address that is not understood.
    #[error("'{path}' cannot be verified")]
    Address {
        /// What.
        path: StorePath,
        /// Why not.
        source: ContentAddressError,
    },
    /// Its content address gives another path.
    #[error("'{path}' does not have the path of its content address {address}: that gives {should_be}")]
    WrongPath {
        /// What.
        path: StorePath,
        /// What it claims.
        address: ContentAddress,
        /// The path by that, or that there is none.
        should_be: String,
    },
    /// The bytes are wrong, or cannot be kept.
    #[error(transparent)]
    Store(#[from] CasError),
    /// It cannot be remembered.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Not a store path after all.
    #[error(transparent)]
    Path(#[from] StorePathError),
}

#[derive(Debug, Default)]
struct BoardUploads {
    /// Paths, with the number of submissions that wait for them.
    wanted: HashMap<StorePath, usize>,
    under_way: usize,
}

/// What boards may upload, and the way in.
#[derive(Debug)]
pub struct Uploads {
    knowledge: Arc<Knowledge>,
    store: Arc<dyn ContentStore>,
    journal: Journal,
    boards: Mutex<HashMap<Arc<str>, BoardUploads>>,
}

impl Uploads {
    /// Into this store, remembered in this journal.
    pub fn new(knowledge: Arc<Knowledge>, store: Arc<dyn ContentStore>, journal: Journal) -> Arc<Self> {
        Arc::new(Self { knowledge, store, journal, boards: Mutex::default() })
    }

    fn boards(&self) -> MutexGuard<'_, HashMap<Arc<str>, BoardUploads>> {
        // Counters are whole after every statement that changes them.
        self.boards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an upload of this board is under way.
    pub(super) fn is_busy(&self, board: &str) -> bool {
        self.boards().get(board).is_some_and(|uploads| uploads.under_way > 0)
    }

    fn change(&self, board: &Arc<str>, change: impl FnOnce(&mut BoardUploads)) {
        let mut boards = self.boards();
        let uploads = boards.entry(board.clone()).or_default();
        change(uploads);
        if uploads.wanted.is_empty() && uploads.under_way == 0 {
            boards.remove(board);
        }
    }

    /// Begins to take a source that a submission of this board waits for.
    ///
    /// # Errors
    /// Nobody waits for it, or its path is not what its content address gives.
    pub async fn begin(
        self: &Arc<Self>,
        board: &str,
        path: StorePath,
        facts: PathFacts,
    ) -> Result<Receiving, UploadError> {
        let is_wanted = self.boards().get(board).is_some_and(|uploads| uploads.wanted.contains_key(&path));
        if is_wanted {
            return self.receive(board, path, facts).await;
        }
        Err(UploadError::Unwanted { board: Arc::from(board), path })
    }

    /// Begins to take a source of this board.
    pub(super) async fn receive(
        self: &Arc<Self>,
        board: &str,
        path: StorePath,
        mut facts: PathFacts,
    ) -> Result<Receiving, UploadError> {
        let board: Arc<str> = Arc::from(board);
        let address = claimed_address(&path, &facts)?;
        facts.content_address = address.as_ref().map(ToString::to_string);
        let announced = Announced {
            nar_sha256: facts.nar_sha256,
            nar_size: facts.nar_size,
            refers_to_itself: facts.references.contains(&path),
            content_address: address,
        };
        let (id, known) = self.identify(&board, path, facts);
        let blob = paths::blob_id(&id)?;
        let under_way = UnderWay::begin(self.clone(), board);
        let upload = self.begin_to_write(&id, blob, announced).await?;
        Ok(Receiving { id, known, upload, under_way })
    }

    async fn begin_to_write(
        &self,
        id: &ContentId,
        blob: cas::BlobId,
        announced: Announced,
    ) -> Result<Upload, CasError> {
        if self.store.get(&blob).is_some_and(|stored| stored.nar_sha256 != announced.nar_sha256) {
            let (knowledge, store, id) = (self.knowledge.clone(), self.store.clone(), id.clone());
            let removed =
                node::task::spawn_blocking("remove", move || remove_unknown(&knowledge, &*store, &id));
            removed.await.unwrap_or(Ok(()))?;
        }
        Upload::begin(self.store.clone(), blob, announced).await
    }

    /// Whose content it will be, if the bytes are as announced.
    fn identify(&self, board: &Arc<str>, path: StorePath, facts: PathFacts) -> (ContentId, ContentFacts) {
        let shared = ContentId { domain: TrustDomain::Shared, path };
        // What the cluster has built, or had before, and lost: the same bytes again.
        if let Some(known) = self.knowledge.content(&shared)
            && known.facts.nar_sha256 == facts.nar_sha256
            && known.facts.nar_size == facts.nar_size
        {
            return (shared, (*known).clone());
        }
        let own = TrustDomain::Board(board.clone());
        let mut is_shared = facts.content_address.is_some();
        let mut references = Vec::with_capacity(facts.references.len());
        for reference in facts.references.iter().filter(|&reference| *reference != shared.path) {
            let found = resolve(&self.knowledge, &*self.store, board, reference);
            let id = found.map_or_else(
                // Not there yet: the submission that asked looks again at its end.
                || ContentId { domain: own.clone(), path: reference.clone() },
                |(id, _)| id,
            );
            is_shared &= id.domain == TrustDomain::Shared;
            references.push(id);
        }
        let domain = if is_shared { TrustDomain::Shared } else { own };
        (ContentId { domain, path: shared.path }, ContentFacts { facts, references })
    }

    /// Remembers content that the store has.
    pub(super) async fn remember(
        &self,
        contents: Vec<(ContentId, ContentFacts)>,
    ) -> Result<(), JournalError> {
        let entry = |(id, known): &(ContentId, ContentFacts)| Entry::Content {
            id: id.clone(),
            facts: known.facts.clone(),
            references: known.references.clone(),
        };
        self.journal.append_if_room(contents.iter().map(entry).collect()).await?;
        for (id, known) in contents {
            self.knowledge.insert_content(id, known);
        }
        Ok(())
    }
}

/// The content address that a source claims, when it gives the source's path.
fn claimed_address(path: &StorePath, facts: &PathFacts) -> Result<Option<ContentAddress>, UploadError> {
    let Some(text) = &facts.content_address else { return Ok(None) };
    let address =
        ContentAddress::parse(text).map_err(|source| UploadError::Address { path: path.clone(), source })?;
    let own = paths::base(path)?;
    let references = facts.references.iter().map(paths::base).collect::<Result<Vec<_>, _>>()?;
    let store = StoreDir::default();
    let implied = address.implied_path(&store, own.name(), &references, &own);
    if implied.as_ref() == Some(&own) {
        return Ok(Some(address));
    }
    let should_be = implied.map_or("none with these references".into(), |path| store.display(&path));
    Err(UploadError::WrongPath { path: path.clone(), address, should_be })
}

/// Counts as an upload of its board while it lives.
#[derive(Debug)]
struct UnderWay {
    uploads: Arc<Uploads>,
    board: Arc<str>,
}

impl UnderWay {
    fn begin(uploads: Arc<Uploads>, board: Arc<str>) -> Self {
        uploads.change(&board, |uploads| uploads.under_way += 1);
        Self { uploads, board }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.uploads.change(&self.board, |uploads| uploads.under_way -= 1);
    }
}

/// One source on its way up. Dropping it leaves nothing.
pub struct Receiving {
    id: ContentId,
    known: ContentFacts,
    upload: Upload,
    under_way: UnderWay,
}

impl Receiving {
    /// The next bytes.
    ///
    /// # Errors
    /// They are wrong already.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), UploadError> {
        Ok(self.upload.write(chunk).await?)
    }

    /// Verifies and remembers it; says whose content it is now.
    ///
    /// # Errors
    /// The bytes are not what was announced, or it cannot be kept.
    pub async fn finish(self) -> Result<(ContentId, PathFacts), UploadError> {
        let Self { id, known, upload, under_way } = self;
        let _stored: Stored = upload.commit().await?;
        let facts = known.facts.clone();
        under_way.uploads.remember(vec![(id.clone(), known)]).await?;
        Ok((id, facts))
    }
}

/// Paths that a submission waits for, while it lives.
#[derive(Debug)]
pub(super) struct Wants {
    uploads: Arc<Uploads>,
    board: Arc<str>,
    paths: Vec<StorePath>,
}

impl Wants {
    pub fn none(uploads: Arc<Uploads>, board: &str) -> Self {
        Self { uploads, board: Arc::from(board), paths: Vec::new() }
    }

    pub fn add(&mut self, path: &StorePath) {
        self.uploads.change(&self.board, |uploads| {
            *uploads.wanted.entry(path.clone()).or_default() += 1;
        });
        self.paths.push(path.clone());
    }
}

impl Drop for Wants {
    fn drop(&mut self) {
        let paths = std::mem::take(&mut self.paths);
        self.uploads.change(&self.board, |uploads| {
            for path in paths {
                if let Some(count) = uploads.wanted.get_mut(&path) {
                    *count -= 1;
                    if *count == 0 {
                        uploads.wanted.remove(&path);
                    }
                }
            }
        });
    }
}
