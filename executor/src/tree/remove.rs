//! Removes a file tree of any depth and any modes, with one descriptor open and no recursion.
//!
//! A build may leave a million nested directories of mode 0: recursion would overflow the stack, paths would
//! exceed PATH_MAX. Nothing changes the tree meanwhile: its processes are dead.
use super::TreeError;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, chmodat, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Removes `path` and everything below it; nothing there is not an error.
///
/// # Errors
/// The first thing that could not be removed.
pub fn remove(path: &Path) -> Result<(), TreeError> {
    let status = match statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        status => status.map_err(TreeError::io("examine", path))?,
    };
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        return unlinkat(rustix::fs::CWD, path, AtFlags::empty()).map_err(TreeError::io("remove", path));
    }
    let mut current = enter(rustix::fs::CWD, path, path)?;
    // For each level: the directories still to remove in it. The last of each is the one being emptied below.
    let mut levels = vec![empty_of_files(&current, path)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.last() {
            current = enter(current.as_fd(), Path::new(name), path)?;
            levels.push(empty_of_files(&current, path)?);
            continue;
        }
        levels.pop();
        let Some(name) = levels.last_mut().and_then(Vec::pop) else { break };
        current = super::dump::open_directory(current.as_fd(), Path::new(".."), path)?;
        unlinkat(&current, &name, AtFlags::REMOVEDIR)
            .map_err(TreeError::io("remove a directory in", path))?;
    }
    unlinkat(rustix::fs::CWD, path, AtFlags::REMOVEDIR).map_err(TreeError::io("remove", path))
}

/// Opens a directory after making it accessible.
fn enter(parent: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<OwnedFd, TreeError> {
    // chmodat would follow a symlink, but only directories come here and nothing replaces them.
    chmodat(parent, name, Mode::RWXU, AtFlags::empty()).map_err(TreeError::io("change mode below", path))?;
    super::dump::open_directory(parent, name, path)
}

/// Removes everything but directories; returns the directories' names.
fn empty_of_files(directory: &OwnedFd, path: &Path) -> Result<Vec<OsString>, TreeError> {
    let mut directories = Vec::new();
    for name in super::dump::entry_names(directory, path)? {
        let name = OsString::from_vec(name);
        match unlinkat(directory, name.as_bytes(), AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR | Errno::PERM) => directories.push(name),
            Err(errno) => return Err(TreeError::io("remove a file in", path)(errno)),
        }
    }
    Ok(directories)
}
