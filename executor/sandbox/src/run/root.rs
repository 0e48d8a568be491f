//! Carries out the root steps: the process that builds the file tree, makes the namespaces, starts process 1 and leaves.
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::{DumpableBehavior, Gid, Pid, Uid};
use rustix::thread::UnshareFlags;

use crate::bytes::ByteString;
use crate::failure::{StepError, failed};
use crate::plan::{BUILD, RootStep};
use crate::spec::{Entry, Ids, Spec};
use crate::sys;

use super::kept;
use super::namespaces::Namespaces;

/// Does one step.
pub fn perform(step: &RootStep, spec: &Spec, namespaces: &Namespaces) -> Result<(), StepError> {
    match step {
        RootStep::NewMounts => {
            sys::unshare(UnshareFlags::NEWNS).map_err(failed("unshare mounts", ""))?;
            make_private()
        }
        RootStep::EnterRoot { root, mode } => enter_root(root, *mode),
        RootStep::Directory { path, mode, owner } => directory(path, *mode, *owner),
        RootStep::File { path, entry, mode, owner } => file(path, contents(spec, *entry), *mode, *owner),
        RootStep::Symlink { path, target, owner } => {
            kept::symlink(path, target).map_err(failed("make symlink", path))?;
            own(path, *owner)
        }
        RootStep::Claim { source, mode, owner } => claim(source, *mode, *owner),
        RootStep::Bind { path, source, optional } => bind(path, source, *optional),
        RootStep::BindItself { path } => {
            rustix::mount::mount_bind_recursive(path.as_bytes(), path.as_bytes())
                .map_err(failed("bind on itself", path))
        }
        RootStep::Memory { path, size } => memory(path, size),
        RootStep::Terminals { path } => terminals(path),
        RootStep::BecomeBuild => become_build(),
        RootStep::EnterNamespaces { network } => namespaces.enter(*network),
    }
}

/// Nothing mounted or unmounted here reaches the namespace we came from.
pub fn make_private() -> Result<(), StepError> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("make mounts private", "/"))
}

/// Takes ids of this user namespace, and no supplementary groups.
pub fn become_ids(ids: Ids) -> Result<(), StepError> {
    let (user, group) = (Uid::from_raw(ids.user), Gid::from_raw(ids.group));
    let shown = format!("{}:{}", ids.user, ids.group);
    rustix::thread::set_thread_groups(&[]).map_err(failed("drop supplementary groups", ""))?;
    rustix::thread::set_thread_res_gid(group, group, group).map_err(failed("become group of", &shown))?;
    rustix::thread::set_thread_res_uid(user, user, user).map_err(failed("become user of", &shown))
}

/// The build's ids, for a process whose /proc files the supervisor needs.
pub fn become_build() -> Result<(), StepError> {
    become_ids(BUILD)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(failed("become readable to the supervisor", ""))
}

/// SIGKILL for us when our parent dies; it may be dead already.
pub fn die_with(parent: Pid) -> Result<(), StepError> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(failed("die with the parent process", ""))?;
    if rustix::process::getppid() != Some(parent) {
        return Err(failed("die with the parent process", "")(io::Error::other("it is dead already")));
    }
    Ok(())
}

fn contents(spec: &Spec, entry: usize) -> &[u8] {
    match spec.entries.get(entry) {
        Some(Entry::File { contents, .. }) => contents.as_bytes(),
        _ => &[],
    }
}

fn enter_root(root: &ByteString, mode: u32) -> Result<(), StepError> {
    // pivot_root wants a mount.
    rustix::mount::mount_bind_recursive(root.as_bytes(), root.as_bytes())
        .map_err(failed("bind on itself", root))?;
    rustix::process::chdir(root.as_bytes()).map_err(failed("enter root", root))?;
    rustix::fs::chownat(CWD, ".", None, Some(Gid::from_raw(BUILD.group)), AtFlags::empty())
        .map_err(failed("own root", root))?;
    rustix::fs::chmodat(CWD, ".", Mode::from_raw_mode(mode), AtFlags::empty())
        .map_err(failed("set mode of root", root))?;
    rustix::fs::utimensat(CWD, ".", &kept::TIMES, AtFlags::empty()).map_err(failed("set times of root", root))
}

fn directory(path: &ByteString, mode: u32, owner: Ids) -> Result<(), StepError> {
    kept::directory(path, Mode::RWXU).map_err(failed("make directory", path))?;
    own(path, owner)?;
    // Not by mkdir, which the umask would cut.
    rustix::fs::chmodat(CWD, path.as_bytes(), Mode::from_raw_mode(mode), AtFlags::empty())
        .map_err(failed("set mode of", path))
}

fn file(path: &ByteString, contents: &[u8], mode: u32, owner: Ids) -> Result<(), StepError> {
    let (file, is_written) = kept::file(path, contents).map_err(failed("make file", path))?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(owner.user)), Some(Gid::from_raw(owner.group)))
        .map_err(failed("own", path))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed("set mode of", path))?;
    if is_written {
        return Ok(());
    }
    std::fs::File::from(file).write_all(contents).map_err(failed("write file", path))
}

fn own(path: &ByteString, owner: Ids) -> Result<(), StepError> {
    if owner == crate::plan::EXECUTOR {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(owner.user), Gid::from_raw(owner.group));
    rustix::fs::chownat(CWD, path.as_bytes(), Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed("own", path))
}

fn claim(source: &ByteString, mode: u32, owner: Ids) -> Result<(), StepError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory =
        rustix::fs::openat(CWD, source.as_bytes(), flags, Mode::empty()).map_err(failed("claim", source))?;
    rustix::fs::fchown(&directory, Some(Uid::from_raw(owner.user)), Some(Gid::from_raw(owner.group)))
        .map_err(failed("own", source))?;
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode)).map_err(failed("set mode of", source))?;
    rustix::fs::futimens(&directory, &kept::TIMES).map_err(failed("set times of", source))
}

fn bind(path: &ByteString, source: &ByteString, optional: bool) -> Result<(), StepError> {
    let found = match rustix::fs::stat(source.as_bytes()) {
        Err(Errno::NOENT | Errno::NOTDIR) if optional => {
            return kept::nothing(path).map_err(failed("remove mount point", path));
        }
        other => other.map_err(failed("find bind source", source))?,
    };
    if rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Directory {
        mount_point(path)?;
    } else {
        kept::mount_point_of_file(path).map_err(failed("make mount point", path))?;
    }
    rustix::mount::mount_bind_recursive(source.as_bytes(), path.as_bytes()).map_err(failed("bind", path))
}

fn mount_point(path: &ByteString) -> Result<(), StepError> {
    kept::mount_point(path, Mode::from_raw_mode(0o755)).map_err(failed("make mount point", path))
}

fn memory(path: &ByteString, size: &str) -> Result<(), StepError> {
    mount_point(path)?;
    let options = option_text(path, format!("size={size},mode=1777"))?;
    rustix::mount::mount("none", path.as_bytes(), "tmpfs", MountFlags::empty(), options.as_c_str())
        .map_err(failed("mount tmpfs", path))
}

fn terminals(path: &ByteString) -> Result<(), StepError> {
    mount_point(path)?;
    let options = option_text(path, "newinstance,mode=0620".to_owned())?;
    rustix::mount::mount("none", path.as_bytes(), "devpts", MountFlags::empty(), options.as_c_str())
        .map_err(failed("mount devpts", path))?;
    let mut ptmx = path.as_bytes().to_vec();
    ptmx.extend_from_slice(b"/ptmx");
    rustix::fs::chmodat(CWD, ptmx.as_slice(), Mode::from_raw_mode(0o666), AtFlags::empty())
        .map_err(failed("set mode of", &ptmx))
}

fn option_text(path: &ByteString, text: String) -> Result<std::ffi::CString, StepError> {
    std::ffi::CString::new(text).map_err(|error| failed("mount", path)(io::Error::other(error)))
}

/// /dev/null of the host, for the program's stdin; opened while the host is still in sight.
pub fn open_null() -> Result<OwnedFd, StepError> {
    rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("open", "/dev/null"))
}
