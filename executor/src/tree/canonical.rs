//! Makes the metadata of an output canonical, as Nix does: modes 0444 and 0555, time 1, no extended attributes.
use super::dump::{entry_names, open_directory};
use super::{DEPTH_MAX, TreeError};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, chmodat, statat, utimensat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Attributes that Nix leaves alone: the file system's own labels.
const IGNORED_ATTRIBUTES: [&[u8]; 3] = [b"security.selinux", b"system.nfs4_acl", b"security.csm"];

/// Refuses an output whose top is missing from the build's own or open to others.
///
/// # Errors
/// As Nix words them; the caller has checked that the output exists.
pub fn check_top_level(path: &Path, output: &str, owner: u32) -> Result<(), TreeError> {
    let status =
        statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(TreeError::io("examine", path))?;
    let is_symlink = FileType::from_raw_mode(status.st_mode) == FileType::Symlink;
    if (!is_symlink && status.st_mode & 0o022 != 0) || status.st_uid != owner {
        return Err(TreeError::SuspiciousTopLevel { path: path.to_owned(), output: output.to_owned() });
    }
    Ok(())
}

/// Makes the whole tree canonical, parents before children, symlinks not followed.
///
/// Everything must belong to `owner` already: the launcher has given the build's files over.
///
/// # Errors
/// Unsupported types, foreign owners, too many levels, or what the file system refuses.
pub fn canonicalise(path: &Path, owner: u32) -> Result<(), TreeError> {
    node(rustix::fs::CWD, path, path, 0, owner)
}

fn node(parent: BorrowedFd<'_>, name: &Path, path: &Path, depth: usize, owner: u32) -> Result<(), TreeError> {
    let status = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(TreeError::io("examine", path))?;
    let kind = FileType::from_raw_mode(status.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink) {
        return Err(TreeError::UnsupportedType(path.to_owned()));
    }
    if status.st_uid != owner {
        return Err(TreeError::InvalidOwnership(path.to_owned()));
    }
    remove_attributes(parent, name, path)?;
    set_mode_and_time(parent, name, path, &status)?;
    if kind == FileType::Directory {
        let directory = open_directory(parent, name, path)?;
        let names = entry_names(&directory, path)?;
        if !names.is_empty() && depth + 1 >= DEPTH_MAX {
            return Err(TreeError::TooDeep(path.join(OsStr::from_bytes(&names[0]))));
        }
        for entry in names {
            let entry = Path::new(OsStr::from_bytes(&entry));
            node(directory.as_fd(), entry, &path.join(entry), depth + 1, owner)?;
        }
    }
    Ok(())
}

/// The canonical mode: readable by all, executable by all when the owner could execute it.
fn canonical_mode(status: &Stat) -> Mode {
    let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    Mode::from_raw_mode(if is_directory || status.st_mode & 0o100 != 0 { 0o555 } else { 0o444 })
}

fn set_mode_and_time(
    parent: BorrowedFd<'_>,
    name: &Path,
    path: &Path,
    status: &Stat,
) -> Result<(), TreeError> {
    if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
        // Follows symlinks, but this is none, and nothing changes the tree any more.
        chmodat(parent, name, canonical_mode(status), AtFlags::empty())
            .map_err(TreeError::io("change mode of", path))?;
    }
    set_time(parent, name).map_err(TreeError::io("set time of", path))
}

/// One second after the epoch as time of modification; the time of access stays.
pub(super) fn canonical_times() -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
    }
}

/// Sets the time of a file, directory or symlink.
pub(super) fn set_time(parent: BorrowedFd<'_>, name: &Path) -> Result<(), Errno> {
    utimensat(parent, name, &canonical_times(), AtFlags::SYMLINK_NOFOLLOW)
}

fn remove_attributes(parent: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<(), TreeError> {
    // There is no removexattrat in older kernels; through /proc the last component is still not followed.
    let reached = match parent.as_raw_fd() {
        fd if fd < 0 => name.to_owned(),
        fd => PathBuf::from(format!("/proc/self/fd/{fd}")).join(name),
    };
    let mut list = vec![0u8; 64 << 10];
    let length = match rustix::fs::llistxattr(&reached, &mut list[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        length => length.map_err(TreeError::io("list extended attributes of", path))?,
    };
    for attribute in list[..length].split(|byte| *byte == 0).filter(|attribute| !attribute.is_empty()) {
        if !IGNORED_ATTRIBUTES.contains(&attribute) {
            rustix::fs::lremovexattr(&reached, attribute)
                .map_err(TreeError::io("remove extended attributes of", path))?;
        }
    }
    Ok(())
}
