//! The executor's own store view: file trees by trust domain and base name, with a crash-safe index of what is known about them.
//!
//! `store/<domain>/<base name>` is a tree; `store/<domain>/.facts/<base name>.json` says that it is whole. The facts
//! are written after the tree is in place, by rename: a path is held if and only if its facts are there. They were modified
//! when the path was last used, to within ten minutes: that much of the order of uses a crash may cost.

pub mod collector;
mod facts;
mod index;
mod pins;
mod single_flight;

#[cfg(test)]
mod tests;

pub use facts::write_whole;
pub use pins::{Pins, Unacknowledged};
pub use single_flight::SingleFlight;

use crate::tree::{self, TreeError};
use facts::StoredFacts;
use index::Index;
use model::{ContentId, PathFacts, StorePath, TrustDomain};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use thiserror::Error;

/// Directory of all store paths, as everyone names them.
pub const STORE_DIRECTORY: &str = "/nix/store";
/// Holds the facts, in each domain's directory; no store path begins with a dot and a letter of its own hash.
const FACTS_DIRECTORY: &str = ".facts";
/// Holds trees that are not whole yet, in each domain's directory.
const PARTIAL_DIRECTORY: &str = ".partial";

/// Why the store could not be read or changed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file of the store's own.
    #[error("cannot {action} '{path}'", path = path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process works in the same directory.
    #[error("another executor uses '{path}'", path = .0.display())]
    InUse(PathBuf),
    /// A tree.
    #[error("cannot put '{path}' into the executor's store")]
    Tree {
        /// The store path.
        path: StorePath,
        /// Why not.
        source: TreeError,
    },
}

impl StoreError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// What this executor holds.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    index: Mutex<Index>,
    /// Held while files of a path appear in their place or leave it.
    changes: Mutex<()>,
    /// Held while the process lives.
    _lock: File,
}

impl Store {
    /// Opens or creates the store below `directory`, removing what a crash left half-done.
    ///
    /// `verify` re-reads every tree and drops those whose hash differs: for the start after the machine itself went
    /// down, when the kernel may have lost what it had not written back.
    ///
    /// # Errors
    /// A second executor in the same directory, or a file system that refuses.
    pub fn open(directory: &Path, verify: bool) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(StoreError::io("create", directory))?;
        let lock_path = directory.join("lock");
        let lock = File::create(&lock_path).map_err(StoreError::io("create", &lock_path))?;
        lock.try_lock().map_err(|_| StoreError::InUse(directory.to_owned()))?;
        let store = Self {
            directory: directory.to_owned(),
            index: Mutex::default(),
            changes: Mutex::default(),
            _lock: lock,
        };
        store.recover(verify)?;
        Ok(store)
    }

    fn recover(&self, verify: bool) -> Result<(), StoreError> {
        let mut found = Vec::new();
        for entry in list(&self.directory)? {
            let Some(domain) = entry.to_str().and_then(TrustDomain::parse) else { continue };
            let directory = self.directory.join(&entry);
            let _ = tree::remove(&directory.join(PARTIAL_DIRECTORY));
            let mut held = HashSet::new();
            for name in list(&directory.join(FACTS_DIRECTORY))? {
                let Some(base_name) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
                    continue;
                };
                let path = StorePath::from_validated(&format!("{STORE_DIRECTORY}/{base_name}"));
                let id = ContentId { domain: domain.clone(), path };
                let facts_path = self.facts_path(&id);
                match StoredFacts::read(&facts_path) {
                    Some(facts) if self.is_intact(&id, &facts, verify) => {
                        let used = fs::metadata(&facts_path).and_then(|status| status.modified());
                        found.push((used.unwrap_or(SystemTime::UNIX_EPOCH), id.clone(), facts));
                        held.insert(id);
                    }
                    _ => self.forget_files(&id)?,
                }
            }
            for name in list(&directory)? {
                let is_held = |name: &str| {
                    let path = StorePath::from_validated(&format!("{STORE_DIRECTORY}/{name}"));
                    held.contains(&ContentId { domain: domain.clone(), path })
                };
                if name != FACTS_DIRECTORY && !name.to_str().is_some_and(is_held) {
                    let path = directory.join(&name);
                    tree::remove(&path).map_err(|source| StoreError::Io {
                        action: "remove a half-written tree",
                        path,
                        source: io::Error::other(source),
                    })?;
                }
            }
        }
        found.sort_by_key(|(used, _, _)| *used);
        let mut index = self.index();
        found.into_iter().for_each(|(_, id, facts)| index.insert(id, Arc::new(facts)));
        Ok(())
    }

    /// Whether the tree is there and, if asked for, has the hash that its facts say.
    fn is_intact(&self, id: &ContentId, facts: &PathFacts, verify: bool) -> bool {
        let tree = self.tree(id);
        if fs::symlink_metadata(&tree).is_err() {
            return false;
        }
        if !verify {
            return true;
        }
        let mut hash = Sha256::new();
        let dumped = tree::dump(&tree, &mut |chunk| {
            hash.update(chunk);
            Ok(())
        });
        let intact = dumped.is_ok_and(|size| size == facts.nar_size)
            && <[u8; 32]>::from(hash.finalize()) == facts.nar_sha256;
        if !intact {
            tracing::warn!(path = %id.path, domain = %id.domain, "damaged while the machine was down: dropped");
        }
        intact
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // It is whole after every statement that changes it.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn domain_directory(&self, domain: &TrustDomain) -> PathBuf {
        self.directory.join(domain.to_string())
    }

    fn facts_path(&self, id: &ContentId) -> PathBuf {
        self.domain_directory(&id.domain).join(FACTS_DIRECTORY).join(format!("{}.json", base_name(&id.path)))
    }

    /// Where the tree of a held path is on this machine.
    pub fn tree(&self, id: &ContentId) -> PathBuf {
        self.domain_directory(&id.domain).join(base_name(&id.path))
    }

    /// Where a tree of this domain may be made before [`Store::adopt`] moves it in.
    ///
    /// # Errors
    /// A file system that refuses.
    pub fn partial(&self, id: &ContentId) -> Result<PathBuf, StoreError> {
        let directory = self.domain_directory(&id.domain).join(PARTIAL_DIRECTORY);
        fs::create_dir_all(&directory).map_err(StoreError::io("create", &directory))?;
        Ok(directory.join(format!("{}-{}", uuid::Uuid::new_v4(), base_name(&id.path))))
    }

    /// What is known about a path, when it is held.
    pub fn get(&self, id: &ContentId) -> Option<Arc<PathFacts>> {
        self.index().get(id).cloned()
    }

    /// All that is held.
    pub fn held(&self) -> Vec<(ContentId, Arc<PathFacts>)> {
        self.index().held().map(|(id, facts)| (id.clone(), facts.clone())).collect()
    }

    /// A path came from elsewhere.
    pub fn fetched(&self, id: &ContentId) {
        self.index().fetched(id);
    }

    /// What came from elsewhere since it was last told, so many paths at most.
    pub fn take_untold(&self, paths_max: usize) -> Vec<(ContentId, Arc<PathFacts>)> {
        self.index().take_untold(paths_max)
    }

    /// Bytes of the archives of all that is held: what their trees take on the disk is more where files are small.
    pub fn bytes(&self) -> u64 {
        self.index().bytes()
    }

    /// Moves a canonical tree in, whose facts the caller has verified. A path that is held already stays as it is.
    ///
    /// # Errors
    /// A file system that refuses; the path is then not held.
    pub fn adopt(&self, id: &ContentId, facts: PathFacts, tree: &Path) -> Result<Arc<PathFacts>, StoreError> {
        if let Some(held) = self.get(id) {
            let _ = tree::remove(tree);
            return Ok(held);
        }
        let failed = |source| StoreError::Tree { path: id.path.clone(), source };
        let _change = self.change();
        let facts_path = self.facts_path(id);
        let facts_directory = facts_path.parent().unwrap_or(&self.directory);
        fs::create_dir_all(facts_directory).map_err(StoreError::io("create", facts_directory))?;
        let target = self.tree(id);
        tree::remove(&target).map_err(failed)?;
        tree::place(tree, &target).map_err(failed)?;
        StoredFacts::write(&facts, &facts_path).map_err(StoreError::io("write", &facts_path))?;
        let facts = Arc::new(facts);
        self.index().insert(id.clone(), facts.clone());
        Ok(facts)
    }

    /// Drops a path: first its facts, then its tree.
    ///
    /// # Errors
    /// A file system that refuses.
    pub fn forget(&self, id: &ContentId) -> Result<(), StoreError> {
        let _change = self.change();
        self.index().remove(id);
        self.forget_files(id)
    }

    /// Removes the files of a path that the index has let go of, unless it was brought in again.
    fn remove_if_gone(&self, id: &ContentId) -> Result<(), StoreError> {
        let aside = self.partial(id)?;
        let failed = |source| StoreError::Tree { path: id.path.clone(), source };
        {
            let _change = self.change();
            if self.get(id).is_some() {
                return Ok(());
            }
            self.forget_facts(id)?;
            let tree = self.tree(id);
            if fs::symlink_metadata(&tree).is_err() {
                return Ok(());
            }
            tree::place(&tree, &aside).map_err(failed)?;
        }
        // However long that takes, the path can be brought in again.
        tree::remove(&aside).map_err(failed)
    }

    fn forget_files(&self, id: &ContentId) -> Result<(), StoreError> {
        self.forget_facts(id)?;
        tree::remove(&self.tree(id)).map_err(|source| StoreError::Tree { path: id.path.clone(), source })
    }

    fn forget_facts(&self, id: &ContentId) -> Result<(), StoreError> {
        let facts_path = self.facts_path(id);
        match fs::remove_file(&facts_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { action: "remove", path: facts_path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Writes down what was used since the last time, in order: the next start knows it.
    pub fn record_uses(&self) {
        let used = self.index().take_unrecorded();
        for id in used {
            let facts = File::open(self.facts_path(&id));
            // One that was dropped meanwhile need not be known.
            if let Err(error) = facts.and_then(|facts| facts.set_modified(SystemTime::now())) {
                tracing::debug!(path = %id.path, %error, "the time of its last use is not recorded");
            }
        }
    }

    /// Bytes that unprivileged users may still write to the store's file system.
    pub fn free_disk_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.directory)
            .map_or(0, |status| status.f_bavail.saturating_mul(status.f_frsize))
    }

    /// Writes everything back to the disk, before a graceful end.
    pub fn flush(&self) {
        if let Ok(directory) = File::open(&self.directory) {
            let _ = rustix::fs::syncfs(directory);
        }
    }
}

/// The part of a store path after the store directory.
pub fn base_name(path: &StorePath) -> &str {
    path.as_str().rsplit('/').next().unwrap_or_default()
}

/// Names in a directory; none when it does not exist.
fn list(directory: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(StoreError::io("list", directory))?,
    };
    entries
        .map(|entry| entry.map(|entry| entry.file_name()).map_err(StoreError::io("list", directory)))
        .collect()
}
