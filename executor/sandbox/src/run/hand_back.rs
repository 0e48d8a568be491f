//! Gives the owner of file trees back to the executor: all of the build's processes are dead, nothing changes below us.
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::bytes::ByteString;
use crate::failure::{StepError, failed};
use crate::plan::{BUILD, EXECUTOR};
use crate::spec::{Entry, Spec};

/// Longest path below a tree that is reported, in bytes.
const SHOWN_BYTES_MAX: usize = 4096;

/// Hands trees back, and remembers files with several names.
#[derive(Debug, Default)]
pub struct HandingBack<'a> {
    /// Files of the build that were handed back under another name.
    linked: HashSet<(u64, u64)>,
    covered: Covered<'a>,
}

/// Mount points of the sandbox, by host directory: what they hold was covered while the build ran.
#[derive(Debug, Default)]
pub struct Covered<'a> {
    names: HashMap<Vec<u8>, HashSet<&'a [u8]>>,
    /// Bytes of the longest directory here: no other is looked up.
    longest: usize,
}

impl<'a> Covered<'a> {
    /// Those of a Spec.
    pub fn of(spec: &'a Spec) -> Self {
        let mut covered = Self::default();
        for entry in &spec.entries {
            let is_mount =
                !matches!(entry, Entry::Directory { .. } | Entry::File { .. } | Entry::Symlink { .. });
            let path = entry.path().as_bytes();
            let slash = path.iter().rposition(|byte| *byte == b'/');
            if let (true, Some(slash)) = (is_mount, slash) {
                let directory = [spec.root.as_bytes(), &path[..slash]].concat();
                covered.longest = covered.longest.max(directory.len());
                covered.names.entry(directory).or_default().insert(&path[slash + 1..]);
            }
        }
        covered
    }

    /// Those in the directory that is entered.
    fn in_directory(&self, top: &ByteString, levels: &[Level]) -> Option<&HashSet<&'a [u8]>> {
        let mut path = top.as_bytes().to_vec();
        for level in levels.iter().skip(1) {
            if path.len() > self.longest {
                return None;
            }
            path.push(b'/');
            path.extend_from_slice(&level.name);
        }
        self.names.get(&path)
    }
}

/// One directory on the way down.
struct Level {
    name: Vec<u8>,
    /// Directories in it that are still to be entered.
    waiting: Vec<Vec<u8>>,
}

impl<'a> HandingBack<'a> {
    /// For a sandbox with these mount points.
    pub fn around(covered: Covered<'a>) -> Self {
        Self { covered, ..Self::default() }
    }

    /// Hands one tree back; nothing there is no error. Returns the path below it of the first object that the build
    /// did not own, empty for the tree itself.
    ///
    /// A build may nest directories without limit, so there is no recursion, one open descriptor, and no long path.
    pub fn tree(&mut self, path: &ByteString) -> Result<Option<String>, StepError> {
        let fail = |errno: Errno| failed("hand back", path)(errno);
        let top = match self.object(CWD, path.as_bytes()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            top => top.map_err(fail)?,
        };
        let mut foreign = top.is_foreign.then(String::new);
        if !top.is_directory {
            return Ok(foreign);
        }
        let mut current = open_directory(CWD, path.as_bytes()).map_err(fail)?;
        let mut levels = vec![Level { name: Vec::new(), waiting: Vec::new() }];
        self.entries(path, &current, &mut levels, &mut foreign).map_err(fail)?;
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.waiting.pop() {
                current = open_directory(current.as_fd(), &name).map_err(fail)?;
                levels.push(Level { name, waiting: Vec::new() });
                self.entries(path, &current, &mut levels, &mut foreign).map_err(fail)?;
                continue;
            }
            levels.pop();
            if !levels.is_empty() {
                current = open_directory(current.as_fd(), b"..").map_err(fail)?;
            }
        }
        Ok(foreign)
    }

    /// Hands back all that is in a directory, and notes its directories.
    fn entries(
        &mut self,
        top: &ByteString,
        directory: &OwnedFd,
        levels: &mut [Level],
        foreign: &mut Option<String>,
    ) -> Result<(), Errno> {
        let mut waiting = Vec::new();
        let covered = self.covered.in_directory(top, levels).cloned().unwrap_or_default();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || covered.contains(name) {
                continue;
            }
            let object = self.object(directory.as_fd(), name)?;
            if object.is_foreign && foreign.is_none() {
                *foreign = Some(shown(levels, name));
            }
            if object.is_directory {
                waiting.push(name.to_vec());
            }
        }
        if let Some(level) = levels.last_mut() {
            level.waiting = waiting;
        }
        Ok(())
    }

    fn object(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<Object, Errno> {
        let status = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        let has_other_names = !is_directory && status.st_nlink > 1;
        if status.st_uid == BUILD.user || status.st_gid == BUILD.group {
            give(parent, name, &status)?;
        }
        let is_foreign = status.st_uid != BUILD.user
            && !(has_other_names && self.linked.contains(&(status.st_dev, status.st_ino)));
        if has_other_names && !is_foreign {
            self.linked.insert((status.st_dev, status.st_ino));
        }
        Ok(Object { is_directory, is_foreign })
    }
}

struct Object {
    is_directory: bool,
    is_foreign: bool,
}

/// Changes what is the build's; ids that are not mapped here stay.
fn give(parent: BorrowedFd<'_>, name: &[u8], status: &Stat) -> Result<(), Errno> {
    let user = (status.st_uid == BUILD.user).then(|| Uid::from_raw(EXECUTOR.user));
    let group = (status.st_gid == BUILD.group).then(|| Gid::from_raw(EXECUTOR.group));
    rustix::fs::chownat(parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW)
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn shown(levels: &[Level], name: &[u8]) -> String {
    let parents = levels.iter().map(|level| level.name.as_slice()).filter(|name| !name.is_empty());
    let mut path = Vec::new();
    for part in parents.chain([name]) {
        if path.len() > SHOWN_BYTES_MAX {
            break;
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    path.truncate(SHOWN_BYTES_MAX);
    String::from_utf8_lossy(&path).into_owned()
}
