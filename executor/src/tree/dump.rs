//! A file tree as a NAR stream: entries in bytewise order, no file held whole, the limits of Nix 2.34.
use super::{CHUNK_BYTES, DEPTH_MAX, NAME_BYTES_MAX, TARGET_BYTES_MAX, TreeError};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, readlinkat, statat};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Writes the NAR of `path` to `sink`, in pieces of at most 256 KiB; returns its size in bytes.
///
/// # Errors
/// What cannot be read, what a NAR cannot carry, or the sink's own error.
pub fn dump(path: &Path, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<u64, TreeError> {
    let mut dumper = Dumper { sink, buffer: Vec::with_capacity(CHUNK_BYTES), written: 0, root: path };
    dumper.token(b"nix-archive-1")?;
    dumper.node(rustix::fs::CWD, path, path, 0)?;
    dumper.flush()?;
    Ok(dumper.written)
}

struct Dumper<'a> {
    sink: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    buffer: Vec<u8>,
    written: u64,
    root: &'a Path,
}

impl Dumper<'_> {
    fn flush(&mut self) -> Result<(), TreeError> {
        if !self.buffer.is_empty() {
            (self.sink)(&self.buffer)
                .map_err(|source| TreeError::Sink { path: self.root.to_owned(), source })?;
            self.written += u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
            self.buffer.clear();
        }
        Ok(())
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), TreeError> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == CHUNK_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn length(&mut self, length: u64) -> Result<(), TreeError> {
        self.bytes(&length.to_le_bytes())
    }

    fn padding(&mut self, length: u64) -> Result<(), TreeError> {
        let used = usize::try_from(length % 8).unwrap_or(0);
        self.bytes(&[0; 8][..(8 - used) % 8])
    }

    fn token(&mut self, token: &[u8]) -> Result<(), TreeError> {
        let length = u64::try_from(token.len()).unwrap_or(u64::MAX);
        self.length(length)?;
        self.bytes(token)?;
        self.padding(length)
    }

    fn tokens(&mut self, tokens: &[&str]) -> Result<(), TreeError> {
        tokens.iter().try_for_each(|token| self.token(token.as_bytes()))
    }

    fn node(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &Path,
        path: &Path,
        depth: usize,
    ) -> Result<(), TreeError> {
        let status =
            statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(TreeError::io("examine", path))?;
        self.tokens(&["(", "type"])?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => {
                self.token(b"regular")?;
                if status.st_mode & 0o100 != 0 {
                    self.tokens(&["executable", ""])?;
                }
                self.token(b"contents")?;
                self.contents(parent, name, path)?;
            }
            FileType::Symlink => {
                let target =
                    readlinkat(parent, name, Vec::new()).map_err(TreeError::io("read symlink", path))?;
                if target.as_bytes().is_empty() || target.as_bytes().len() > TARGET_BYTES_MAX {
                    return Err(TreeError::BadTarget(path.to_owned()));
                }
                self.tokens(&["symlink", "target"])?;
                self.token(target.as_bytes())?;
            }
            FileType::Directory => {
                self.token(b"directory")?;
                self.directory(parent, name, path, depth)?;
            }
            _ => return Err(TreeError::UnsupportedType(path.to_owned())),
        }
        self.token(b")")
    }

    fn contents(&mut self, parent: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<(), TreeError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut file =
            File::from(openat(parent, name, flags, Mode::empty()).map_err(TreeError::io("open", path))?);
        let read_error = |source| TreeError::Io { action: "read", path: path.to_owned(), source };
        let size = file.metadata().map_err(read_error)?.len();
        self.length(size)?;
        let mut left = size;
        while left > 0 {
            // Read straight into the free part of the buffer: no second copy of the contents.
            let start = self.buffer.len();
            let room = u64::try_from(CHUNK_BYTES - start).unwrap_or(0).min(left);
            self.buffer.resize(start + usize::try_from(room).unwrap_or(0), 0);
            let count = file.read(&mut self.buffer[start..]).map_err(read_error)?;
            self.buffer.truncate(start + count);
            if count == 0 {
                return Err(TreeError::Changed(path.to_owned()));
            }
            left -= u64::try_from(count).unwrap_or(left);
            if self.buffer.len() == CHUNK_BYTES {
                self.flush()?;
            }
        }
        self.padding(size)
    }

    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &Path,
        path: &Path,
        depth: usize,
    ) -> Result<(), TreeError> {
        // A directory of the last level may exist, but not hold anything.
        let directory = open_directory(parent, name, path)?;
        let names = entry_names(&directory, path)?;
        if !names.is_empty() && depth + 1 >= DEPTH_MAX {
            return Err(TreeError::TooDeep(path.join(OsStr::from_bytes(&names[0]))));
        }
        for entry in names {
            let entry_path = path.join(OsStr::from_bytes(&entry));
            if entry.len() > NAME_BYTES_MAX {
                return Err(TreeError::NameTooLong(entry_path));
            }
            self.tokens(&["entry", "(", "name"])?;
            self.token(&entry)?;
            self.token(b"node")?;
            self.node(directory.as_fd(), Path::new(OsStr::from_bytes(&entry)), &entry_path, depth + 1)?;
            self.token(b")")?;
        }
        Ok(())
    }
}

/// Opens a directory, never through a symlink.
pub(super) fn open_directory(parent: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<OwnedFd, TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map_err(TreeError::io("open directory", path))
}

/// The names in a directory, in bytewise order.
///
/// # Errors
/// A directory that cannot be opened or read.
pub fn names(path: &Path) -> Result<Vec<Vec<u8>>, TreeError> {
    entry_names(&open_directory(rustix::fs::CWD, path, path)?, path)
}

/// The names in an open directory, in bytewise order.
pub(super) fn entry_names(directory: &OwnedFd, path: &Path) -> Result<Vec<Vec<u8>>, TreeError> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory).map_err(TreeError::io("list", path))? {
        let entry = entry.map_err(TreeError::io("list", path))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}
