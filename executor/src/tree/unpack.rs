//! Unpacks a NAR stream into a canonical file tree while hashing it.
use super::canonical::{canonical_times, set_time};
use super::{CHUNK_BYTES, NAME_BYTES_MAX, TARGET_BYTES_MAX, TreeError};
use nix_archive::nar::{Error as NarError, Event, ReadEvent, decode_events_reader};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, chmodat, fchmod, futimens, mkdirat, openat, statat, symlinkat,
};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What went through while unpacking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unpacked {
    /// SHA-256 of the whole stream.
    pub nar_sha256: [u8; 32],
    /// Its bytes.
    pub nar_size: u64,
}

/// Unpacks exactly one NAR into `destination`, which must not exist; everything but the top directory's mode is
/// canonical afterwards (see [`place`]).
///
/// # Errors
/// A malformed archive, a stream longer than `size_max`, or what the file system refuses. What was written so far stays.
pub fn unpack(stream: &mut dyn Read, size_max: u64, destination: &Path) -> Result<Unpacked, TreeError> {
    let hashing = Hashing { stream, hash: Sha256::new(), size: 0, size_max };
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, hashing);
    let malformed = |source| TreeError::Malformed { path: destination.to_owned(), source };
    let mut writer = Writer { top: destination, directories: Vec::new(), buffer: vec![0; CHUNK_BYTES] };
    decode_events_reader(&mut reader, |event| writer.event(event)).map_err(malformed)?;
    let hashing = reader.into_inner();
    Ok(Unpacked { nar_sha256: hashing.hash.finalize().into(), nar_size: hashing.size })
}

/// Moves a tree into its place on the same file system, then gives its top the canonical mode and time.
///
/// An unprivileged owner cannot move a directory that it may not write.
///
/// # Errors
/// What the file system refuses.
pub fn place(from: &Path, to: &Path) -> Result<(), TreeError> {
    let here = rustix::fs::CWD;
    let status = statat(here, from, AtFlags::SYMLINK_NOFOLLOW).map_err(TreeError::io("examine", from))?;
    let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    if is_directory {
        chmodat(here, from, Mode::RWXU, AtFlags::empty()).map_err(TreeError::io("change mode of", from))?;
    }
    rustix::fs::rename(from, to).map_err(TreeError::io("move", from))?;
    if is_directory {
        chmodat(here, to, Mode::from_raw_mode(0o555), AtFlags::empty())
            .map_err(TreeError::io("change mode of", to))?;
        set_time(here, to).map_err(TreeError::io("set time of", to))?;
    }
    Ok(())
}

struct Hashing<'a> {
    stream: &'a mut dyn Read,
    hash: Sha256,
    size: u64,
    size_max: u64,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.size += u64::try_from(count).unwrap_or(u64::MAX);
        if self.size > self.size_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the archive is longer than its {} bytes", self.size_max),
            ));
        }
        Ok(count)
    }
}

struct Writer<'a> {
    top: &'a Path,
    directories: Vec<OwnedFd>,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    fn event<R: Read>(&mut self, event: ReadEvent<'_, R>) -> Result<(), NarError> {
        match event {
            Event::DirectoryStart { name } => {
                let (parent, name) = self.place_of(name)?;
                mkdirat(parent, name, Mode::RWXU).map_err(io::Error::from)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = openat(parent, name, flags, Mode::empty()).map_err(io::Error::from)?;
                self.directories.push(directory);
            }
            Event::DirectoryEnd { name } => {
                self.directories.pop();
                let (parent, name) = self.place_of(name)?;
                chmodat(parent, name, Mode::from_raw_mode(0o555), AtFlags::empty())
                    .map_err(io::Error::from)?;
                set_time(parent, name).map_err(io::Error::from)?;
            }
            Event::Symlink { name, target } => {
                if target.is_empty() || target.len() > TARGET_BYTES_MAX {
                    return Err(NarError::Io(io::Error::other("a symlink target is empty or too long")));
                }
                let (parent, name) = self.place_of(name)?;
                symlinkat(OsStr::from_bytes(target), parent, name).map_err(io::Error::from)?;
                set_time(parent, name).map_err(io::Error::from)?;
            }
            Event::Regular { name, executable, mut contents } => {
                let (parent, name) = self.place_of(name)?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?;
                let mut file = File::from(file);
                copy(&mut contents, &mut file, &mut self.buffer)?;
                let mode = Mode::from_raw_mode(if executable { 0o555 } else { 0o444 });
                fchmod(&file, mode).map_err(io::Error::from)?;
                futimens(&file, &canonical_times()).map_err(io::Error::from)?;
            }
        }
        Ok(())
    }

    /// Where a node belongs: the open directory and the name in it. The root has no name in the archive.
    fn place_of<'a>(&'a self, name: Option<&'a [u8]>) -> Result<(BorrowedFd<'a>, &'a Path), NarError> {
        match (name, self.directories.last()) {
            (Some(name), Some(directory)) if name.len() <= NAME_BYTES_MAX => {
                Ok((directory.as_fd(), Path::new(OsStr::from_bytes(name))))
            }
            (Some(_), Some(_)) => Err(NarError::Io(io::Error::other("a file name is too long"))),
            _ => Ok((rustix::fs::CWD, self.top)),
        }
    }
}

fn copy(contents: &mut impl Read, file: &mut File, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        let count = contents.read(buffer)?;
        if count == 0 {
            return Ok(());
        }
        io::Write::write_all(file, &buffer[..count])?;
    }
}
