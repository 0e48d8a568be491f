//! The directory of one build: its root and its scratch space, made before and removed after, whatever happens between.
use super::disk::Present;
use super::failure::failure;
use super::kept::Shape;
use super::log::Piece;
use super::run::{self, LogSink};
use crate::blocking::blocking;
use crate::lease::{LeaseKey, Limits};
use crate::slots::{Slot, Taken};
use crate::tree::{self, TreeError};
use model::{Failure, FailureClass};
use node::exit::chain;
use sandbox::spec::{Ids, Reclaim, Request, Spec};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

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
    /// Where it waits for the slot's next build.
    kept: PathBuf,
    /// What belongs to the root; set when it can be kept.
    shape: OnceLock<Arc<Shape>>,
}

impl Directory {
    /// Makes the directory of a lease, or takes what the slot's last build in a sandbox left for the next in one. Its
    /// name tells the ids that its files may belong to.
    ///
    /// # Errors
    /// This executor's own trouble.
    pub async fn make(
        builds_directory: &Path,
        slot: Slot,
        key: LeaseKey,
        present: Present,
        has_sandbox: bool,
    ) -> Result<Self, Failure> {
        let ids = format!("{}-{}", slot.ids.user, slot.ids.group);
        let path = builds_directory.join(format!("{ids}-{key}"));
        let kept = builds_directory.join(format!("{ids}-kept"));
        let (root, scratch) = (path.join("root"), path.join("scratch"));
        let directory = Self { slot, present, root, scratch, path, kept, shape: OnceLock::new() };
        let (path, kept) = (directory.path.clone(), directory.kept.clone());
        let made = blocking(move || {
            tree::remove(&path).map_err(io::Error::other)?;
            if !has_sandbox {
                return make_new(&path);
            }
            match std::fs::rename(&kept, &path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => make_new(&path),
                taken => taken,
            }
        })
        .await;
        made.map_err(|error| directory.not_made(&error))?;
        Ok(directory)
    }

    /// Removes from the root what does not belong to this Spec. What it lacks, the launcher makes.
    ///
    /// # Errors
    /// This executor's own trouble.
    pub async fn fit(&self, spec: &Spec) -> Result<Arc<Shape>, Failure> {
        let shape = Arc::new(Shape::of(spec));
        let (path, root, fitting) = (self.path.clone(), self.root.clone(), shape.clone());
        let fitted = blocking(move || {
            let Err(error) = fitting.fit(&root) else { return Ok(()) };
            tracing::warn!(root = %root.display(), error = chain(&error), "the kept root is made anew");
            tree::remove(&path).map_err(io::Error::other)?;
            make_new(&path)
        })
        .await;
        fitted.map_err(|error| self.not_made(&error))?;
        Ok(shape)
    }

    /// Lets the slot's next build have this root: all processes of this one are dead.
    pub fn keep(&self, shape: Arc<Shape>) {
        // A directory sees one build.
        let _is_set = self.shape.set(shape);
    }

    fn not_made(&self, error: &io::Error) -> Failure {
        let class = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureClass::OutOfDisk,
            _ => FailureClass::Infrastructure,
        };
        failure(class, format!("cannot make build directory '{}': {error}", self.path.display()))
    }

    /// Empties the directory for the slot's next build, or removes it, in the background; the slot is free afterwards,
    /// and the disk as it was.
    pub fn clean_up(self, launcher: PathBuf, taken: Taken) {
        node::task::spawn("clean-up", async move {
            self.empty(&launcher).await;
            drop((self.present, taken));
        });
    }

    /// Leaves nothing of the build.
    pub async fn empty(&self, launcher: &Path) {
        if let Some(shape) = self.shape.get().cloned() {
            let (path, kept) = (self.path.clone(), self.kept.clone());
            match blocking(move || put_aside(&path, &kept, &shape)).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(error = chain(&error), "a build's directory cannot be kept"),
            }
        }
        remove(launcher, &self.path, self.slot.ids).await;
    }
}

fn make_new(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path)?;
    builder.create(path.join("root"))?;
    builder.create(path.join("scratch"))
}

/// Empties a build's directory of all but its root's shape, and puts it aside.
fn put_aside(path: &Path, kept: &Path, shape: &Shape) -> Result<(), TreeError> {
    shape.fit(&path.join("root"))?;
    let scratch = path.join("scratch");
    for name in tree::names(&scratch)? {
        tree::remove(&scratch.join(OsStr::from_bytes(&name)))?;
    }
    for name in tree::names(path)? {
        if name != b"root" && name != b"scratch" {
            tree::remove(&path.join(OsStr::from_bytes(&name)))?;
        }
    }
    std::fs::rename(path, kept).map_err(|source| TreeError::Io {
        action: "put aside",
        path: path.to_owned(),
        source,
    })
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
        run::run(launcher, None, &request, Limits::default(), std::future::pending(), &mut Nothing).await;
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
