//! The directory of one build: its root and its scratch space, made before and removed after, whatever happens between.
use super::disk::Present;
use super::failure::failure;
use super::log::Piece;
use super::run::{self, LogSink};
use crate::blocking::blocking;
use crate::lease::{LeaseKey, Limits};
use crate::slots::{Slot, Taken};
use crate::tree;
use model::{Failure, FailureClass};
use node::exit::chain;
use sandbox::spec::{Ids, Reclaim, Request};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where one build happens.
#[derive(Debug)]
pub struct Directory {
    /// Whose build.
    pub slot: Slot,
    /// Its place among those that use the disk.
    pub present: Present,
    path: PathBuf,
    /// Becomes `/`.
    pub root: PathBuf,
    /// Becomes `/build`.
    pub scratch: PathBuf,
}

impl Directory {
    /// Makes the directory of a lease. Its name tells the ids that its files may belong to.
    ///
    /// # Errors
    /// This executor's own trouble.
    pub async fn make(
        builds_directory: &Path,
        slot: Slot,
        key: LeaseKey,
        present: Present,
    ) -> Result<Self, Failure> {
        let name = format!("{}-{}-{key}", slot.ids.user, slot.ids.group);
        let path = builds_directory.join(name);
        let (root, scratch) = (path.join("root"), path.join("scratch"));
        let directory = Self { slot, present, root, scratch, path };
        let (path, root, scratch) =
            (directory.path.clone(), directory.root.clone(), directory.scratch.clone());
        let made = blocking(move || {
            tree::remove(&path).map_err(io::Error::other)?;
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(&path)?;
            builder.create(&root)?;
            builder.create(&scratch)
        })
        .await;
        match made {
            Ok(()) => Ok(directory),
            Err(error) => {
                let class = match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureClass::OutOfDisk,
                    _ => FailureClass::Infrastructure,
                };
                let message = format!("cannot make build directory '{}': {error}", directory.path.display());
                Err(failure(class, message))
            }
        }
    }

    /// Removes the directory in the background; the slot is free afterwards, and the disk as it was.
    pub fn clean_up(self, launcher: PathBuf, taken: Taken) {
        node::task::spawn("clean-up", async move {
            remove(&launcher, &self.path, self.slot.ids).await;
            drop((self.present, taken));
        });
    }
}

/// Removes the directories that an earlier process left.
pub async fn remove_leftovers(launcher: &Path, builds_directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(builds_directory)?;
    for entry in std::fs::read_dir(builds_directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let mut ids = name.to_str().unwrap_or_default().split('-').map(str::parse);
        let (Some(Ok(user)), Some(Ok(group))) = (ids.next(), ids.next()) else {
            tracing::warn!(path = %entry.path().display(), "not a build's directory: left alone");
            continue;
        };
        remove(launcher, &entry.path(), Ids { user, group }).await;
    }
    Ok(())
}

/// Removes a build's directory; when files still belong to the build's ids, the launcher hands them back first.
async fn remove(launcher: &Path, path: &Path, ids: Ids) {
    let attempt = |path: PathBuf| blocking(move || tree::remove(&path));
    if attempt(path.to_owned()).await.is_ok() {
        return;
    }
    let request = Request::Reclaim(Reclaim { host_ids: ids, paths: vec![path.into()] });
    let reclaimed =
        run::run(launcher, &request, Limits::default(), std::future::pending(), &mut Nothing).await;
    if let Err(error) = reclaimed {
        tracing::warn!(path = %path.display(), error = chain(&error), "files of a build cannot be taken back");
    }
    if let Err(error) = attempt(path.to_owned()).await {
        tracing::warn!(path = %path.display(), error = chain(&error), "a build's directory stays until the next start");
    }
}

/// A launcher that only hands files back has no log.
struct Nothing;

impl LogSink for Nothing {
    async fn piece(&mut self, _piece: Piece) {}
}
