//! Makes what the root of a sandbox consists of, or finds it there: an executor keeps the root of a slot's last build.
//!
//! Making and removing a mount point for each of two thousand inputs costs several times what mounting them costs. Only
//! what the executor made and no build could change is found, so what is found is right when kind and contents are;
//! whatever else has a wanted name is made anew.
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use crate::bytes::ByteString;

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
/// All of a build's times are of that build.
pub const TIMES: Timestamps = Timestamps { last_access: NOW, last_modification: NOW };

/// A directory; one that is there may hold things.
pub fn directory(path: &ByteString, mode: Mode) -> Result<(), Errno> {
    mount_point(path, mode)?;
    rustix::fs::utimensat(CWD, path.as_bytes(), &TIMES, AtFlags::SYMLINK_NOFOLLOW)
}

/// A directory to mount something on: nobody will see its times.
pub fn mount_point(path: &ByteString, mode: Mode) -> Result<(), Errno> {
    match rustix::fs::mkdirat(CWD, path.as_bytes(), mode) {
        Err(Errno::EXIST) if kind(path)? == FileType::Directory => Ok(()),
        Err(Errno::EXIST) => {
            discard(path)?;
            rustix::fs::mkdirat(CWD, path.as_bytes(), mode)
        }
        made => made,
    }
}

/// A file to mount another on.
pub fn mount_point_of_file(path: &ByteString) -> Result<(), Errno> {
    match create(path, Mode::from_raw_mode(0o644)) {
        Err(Errno::EXIST) if kind(path)? == FileType::RegularFile => Ok(()),
        Err(Errno::EXIST) => {
            discard(path)?;
            create(path, Mode::from_raw_mode(0o644)).map(drop)
        }
        made => made.map(drop),
    }
}

/// A file, and whether it has its contents already.
pub fn file(path: &ByteString, contents: &[u8]) -> io::Result<(OwnedFd, bool)> {
    let mode = Mode::RUSR | Mode::WUSR;
    match create(path, mode) {
        Err(Errno::EXIST) => {}
        made => return Ok((made?, false)),
    }
    if kind(path)? == FileType::RegularFile {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(CWD, path.as_bytes(), flags, Mode::empty())?;
        // Under two names it is not only ours.
        if rustix::fs::fstat(&found)?.st_nlink == 1 && has_contents(&found, contents)? {
            rustix::fs::futimens(&found, &TIMES)?;
            return Ok((found, true));
        }
    }
    discard(path)?;
    Ok((create(path, mode)?, false))
}

/// A symbolic link.
pub fn symlink(path: &ByteString, target: &ByteString) -> Result<(), Errno> {
    match rustix::fs::symlinkat(target.as_bytes(), CWD, path.as_bytes()) {
        Err(Errno::EXIST) => {}
        made => return made,
    }
    if kind(path)? == FileType::Symlink {
        let found = rustix::fs::readlinkat(CWD, path.as_bytes(), Vec::new())?;
        if found.as_bytes() == target.as_bytes() {
            return rustix::fs::utimensat(CWD, path.as_bytes(), &TIMES, AtFlags::SYMLINK_NOFOLLOW);
        }
    }
    discard(path)?;
    rustix::fs::symlinkat(target.as_bytes(), CWD, path.as_bytes())
}

/// Nothing.
pub fn nothing(path: &ByteString) -> Result<(), Errno> {
    match discard(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        removed => removed,
    }
}

fn create(path: &ByteString, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path.as_bytes(), flags, mode)
}

fn kind(path: &ByteString) -> Result<FileType, Errno> {
    let status = rustix::fs::statat(CWD, path.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(status.st_mode))
}

fn has_contents(file: &OwnedFd, contents: &[u8]) -> io::Result<bool> {
    let length = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(u64::MAX);
    if length != u64::try_from(contents.len()).unwrap_or(u64::MAX) {
        return Ok(false);
    }
    let mut found = vec![0; contents.len()];
    File::from(file.try_clone()?).read_exact(&mut found)?;
    Ok(found == contents)
}

/// Removes a mount point or link of an earlier build; a directory that holds something is not one.
fn discard(path: &ByteString) -> Result<(), Errno> {
    match rustix::fs::unlinkat(CWD, path.as_bytes(), AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => rustix::fs::unlinkat(CWD, path.as_bytes(), AtFlags::REMOVEDIR),
        removed => removed,
    }
}
