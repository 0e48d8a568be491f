//! A content store on disk: `DIRECTORY/<trust domain>/<store path's name>/{nar,info}`, written in `DIRECTORY/partial/`.
//!
//! A path appears by one rename of its finished and synced directory: a crash at any moment leaves it whole or absent.
use crate::id::{BlobId, Domain};
use crate::store::{Announced, CasError, ContentStore, Reader, Stored, Writer};
use crate::verify::Verifier;
use nix_formats::base32;
use nix_formats::hash::Hash;
use nix_formats::store_path::StorePath;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tempfile::TempDir;

const PARTIAL: &str = "partial";
const NAR: &str = "nar";
const INFO: &str = "info";
/// Longest `info` file, in bytes.
const INFO_BYTES_MAX: u64 = 1024;

/// See the module.
#[derive(Debug)]
pub struct DiskStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    index: RwLock<HashMap<BlobId, Stored>>,
    /// Held while a path is made visible.
    commit: Mutex<()>,
    /// Locked while the process lives.
    _lock: File,
}

impl DiskStore {
    /// Opens or creates the store in `directory`, and removes what a process that was killed left half-written.
    ///
    /// # Errors
    /// Another process uses it, or a file system that refuses.
    pub fn open(directory: &Path) -> Result<Self, CasError> {
        let partial = directory.join(PARTIAL);
        fs::create_dir_all(directory).map_err(CasError::io("create", directory))?;
        let lock_path = directory.join("lock");
        let lock = File::create(&lock_path).map_err(CasError::io("create", &lock_path))?;
        lock.try_lock().map_err(|_| CasError::InUse(directory.to_owned()))?;
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(CasError::io("remove", &partial)(error));
            }
            _ => {}
        }
        fs::create_dir(&partial).map_err(CasError::io("create", &partial))?;
        let index = RwLock::new(scan(directory)?);
        let shared = Shared { directory: directory.to_owned(), index, commit: Mutex::new(()), _lock: lock };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// All complete entries.
fn scan(directory: &Path) -> Result<HashMap<BlobId, Stored>, CasError> {
    let mut index = HashMap::new();
    for name in list(directory)? {
        let Some(domain) = Domain::parse(&name) else { continue };
        let domain_directory = directory.join(&name);
        for name in list(&domain_directory)? {
            let entry = domain_directory.join(&name);
            let stored =
                StorePath::parse_base_name(&name).ok().and_then(|path| Some((path, stored(&entry)?)));
            match stored {
                Some((path, stored)) => drop(index.insert(BlobId { domain: domain.clone(), path }, stored)),
                None => {
                    tracing::warn!(entry = %entry.display(), "not a whole entry of the content store: ignored")
                }
            }
        }
    }
    Ok(index)
}

fn list(directory: &Path) -> Result<Vec<String>, CasError> {
    let failed = |source| CasError::Io { action: "list", path: directory.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn info_text(stored: &Stored) -> String {
    format!("NarHash: sha256:{}\nNarSize: {}\n", base32::encode(&stored.nar_sha256), stored.nar_size)
}

/// What an entry says it is, when its NAR has that size.
fn stored(entry: &Path) -> Option<Stored> {
    let mut text = String::new();
    File::open(entry.join(INFO)).ok()?.take(INFO_BYTES_MAX).read_to_string(&mut text).ok()?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let nar_sha256 = Hash::parse(field("NarHash: ")?).ok()?.digest().try_into().ok()?;
    let nar_size = field("NarSize: ")?.parse().ok()?;
    let found = fs::metadata(entry.join(NAR)).ok()?;
    (found.is_file() && found.len() == nar_size).then_some(Stored { nar_sha256, nar_size })
}

impl Shared {
    fn get(&self, id: &BlobId) -> Option<Stored> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    fn entry(&self, id: &BlobId) -> PathBuf {
        self.directory.join(id.domain.to_string()).join(id.path.base_name())
    }

    /// A directory that vanishes when it is dropped.
    fn partial(&self) -> Result<TempDir, CasError> {
        let partial = self.directory.join(PARTIAL);
        TempDir::new_in(&partial).map_err(CasError::io("create a directory in", partial))
    }

    /// Makes the directory with `nar` in it the entry of a path, unless there is one.
    fn publish(&self, id: &BlobId, stored: Stored, made: TempDir) -> Result<Stored, CasError> {
        let info = made.path().join(INFO);
        let written = File::create(&info).and_then(|mut file| {
            file.write_all(info_text(&stored).as_bytes())?;
            file.sync_all()
        });
        written.map_err(CasError::io("write", &info))?;
        sync_directory(made.path())?;

        let _turn = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = self.get(id) {
            if held == stored {
                return Ok(held);
            }
            let (held, came) = (held.nar_sha256, stored.nar_sha256);
            return Err(CasError::Conflict { id: id.clone(), held, came });
        }
        let entry = self.entry(id);
        let domain_directory = self.directory.join(id.domain.to_string());
        if !domain_directory.is_dir() {
            fs::create_dir(&domain_directory).map_err(CasError::io("create", &domain_directory))?;
            sync_directory(&self.directory)?;
        }
        if entry.exists() {
            // Damaged, and therefore not in the index.
            fs::remove_dir_all(&entry).map_err(CasError::io("remove the damaged", &entry))?;
        }
        fs::rename(made.path(), &entry).map_err(CasError::io("rename to", &entry))?;
        // It has another name now.
        let _former_path = made.keep();
        sync_directory(&domain_directory)?;
        self.index.write().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), stored);
        Ok(stored)
    }
}

fn sync_directory(directory: &Path) -> Result<(), CasError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(CasError::io("sync", directory))
}

impl ContentStore for DiskStore {
    fn get(&self, id: &BlobId) -> Option<Stored> {
        self.shared.get(id)
    }

    fn ids(&self) -> Vec<BlobId> {
        self.shared.index.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn begin(&self, id: &BlobId, announced: Announced) -> Result<Box<dyn Writer>, CasError> {
        let verifier = Verifier::new(id, announced)?;
        let made = self.shared.partial()?;
        let path = made.path().join(NAR);
        let nar = File::create(&path).map_err(CasError::io("create", &path))?;
        Ok(Box::new(DiskWriter { shared: self.shared.clone(), verifier, made, nar }))
    }

    fn open(&self, id: &BlobId) -> Result<Box<dyn Reader>, CasError> {
        let stored = self.shared.get(id).ok_or_else(|| CasError::NotHeld { id: id.clone() })?;
        let path = self.shared.entry(id).join(NAR);
        let file = File::open(&path).map_err(CasError::io("open", &path))?;
        Ok(Box::new(DiskReader { stored, file, path }))
    }

    fn share(&self, from: &BlobId, to: &BlobId) -> Result<Stored, CasError> {
        let stored = self.shared.get(from).ok_or_else(|| CasError::NotHeld { id: from.clone() })?;
        let made = self.shared.partial()?;
        let path = made.path().join(NAR);
        fs::hard_link(self.shared.entry(from).join(NAR), &path).map_err(CasError::io("link", &path))?;
        self.shared.publish(to, stored, made)
    }

    fn remove(&self, id: &BlobId) -> Result<bool, CasError> {
        let away = self.shared.partial()?;
        {
            let _turn = self.shared.commit.lock().unwrap_or_else(PoisonError::into_inner);
            if self.shared.index.write().unwrap_or_else(PoisonError::into_inner).remove(id).is_none() {
                return Ok(false);
            }
            // Whole or gone for a process that is killed here, too.
            let entry = self.shared.entry(id);
            fs::rename(&entry, away.path().join("removed")).map_err(CasError::io("rename", entry))?;
        }
        let path = away.path().to_owned();
        away.close().map_err(CasError::io("remove", path))?;
        Ok(true)
    }
}

struct DiskWriter {
    shared: Arc<Shared>,
    verifier: Verifier,
    made: TempDir,
    nar: File,
}

impl Writer for DiskWriter {
    fn write(&mut self, chunk: &[u8]) -> Result<(), CasError> {
        self.verifier.push(chunk)?;
        self.nar.write_all(chunk).map_err(|source| CasError::Io {
            action: "write",
            path: self.made.path().join(NAR),
            source,
        })
    }

    fn commit(self: Box<Self>) -> Result<Stored, CasError> {
        let Self { shared, verifier, made, nar } = *self;
        let id = verifier.id().clone();
        let stored = verifier.finish()?;
        nar.sync_all().map_err(CasError::io("sync", made.path().join(NAR)))?;
        shared.publish(&id, stored, made)
    }
}

struct DiskReader {
    stored: Stored,
    file: File,
    path: PathBuf,
}

impl Reader for DiskReader {
    fn stored(&self) -> Stored {
        self.stored
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, CasError> {
        self.file.read_at(buffer, offset).map_err(|source| CasError::Io {
            action: "read",
            path: self.path.clone(),
            source,
        })
    }
}
