//! Limits and measurements of one sandbox by plain files of cgroup v2, in a subtree that was delegated to us.
//!
//! Processes may only be in leaves, so ours moves into `executor/` below the delegated directory, and each sandbox has a
//! directory beside it. The kernel's document is `Documentation/admin-guide/cgroup-v2.rst`.
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::spec::ByteString;

/// What we use: each is asked for, and what is missing is named.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "io"];
/// Where this process itself is, below the delegated directory.
const OWN_LEAF: &str = "executor";
/// How directories of sandboxes begin, beside it.
const PREFIX: &str = "build-";
const SWAP_LIMIT: &str = "memory.swap.max";
/// Largest file of the kernel that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How long processes that were killed may take to be gone.
const REMOVE_WAIT: Duration = Duration::from_secs(10);

/// Why there are no cgroups to use.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// Version 1 only.
    #[error("this host has no cgroup v2")]
    NotVersion2,
    /// Somebody else's.
    #[error(
        "cgroup '{path}' is not delegated to this executor: run it as a systemd service with `Delegate=yes`, or name \
         a directory of its own as `sandbox.cgroup`", path = .0.display()
    )]
    NotDelegated(PathBuf),
    /// A directory of others: what we do there would be done to them.
    #[error(
        "processes of others are in cgroup '{path}': give this executor a directory of its own as `sandbox.cgroup`",
        path = .0.display()
    )]
    NotAlone(PathBuf),
    /// None of the controllers is there.
    #[error("cgroup '{path}' has none of the controllers memory, pids, cpu and io", path = .0.display())]
    NoControllers(PathBuf),
    /// A file refuses.
    #[error("cannot {action} '{path}'", path = .path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError + use<> {
    let path = path.to_owned();
    move |source| CgroupError::File { action, path, source }
}

/// Limits of one sandbox; `None` leaves the kernel's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Memory of all its processes and of its files in memory; swap is not to be had beside it.
    pub memory_bytes_max: Option<u64>,
    /// Processes and threads.
    pub processes_max: Option<u64>,
    /// Share of the processors when others want them too: 1 to 10000, the default of all is 100.
    pub cpu_weight: Option<u64>,
}

/// What one sandbox has used; `None` where the controller or the kernel does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Most memory at one time (Linux 5.19).
    pub memory_bytes_peak: Option<u64>,
    /// Processor time in user mode.
    pub user_microseconds: Option<u64>,
    /// Processor time in the kernel.
    pub system_microseconds: Option<u64>,
    /// Bytes read from block devices.
    pub read_bytes: Option<u64>,
    /// Bytes written to block devices.
    pub written_bytes: Option<u64>,
    /// Processes that were killed for want of memory.
    pub memory_kills: u64,
    /// Processes that were not made because there were too many.
    pub processes_refused: u64,
}

/// A delegated subtree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    base: PathBuf,
    controllers: Vec<&'static str>,
}

impl Hierarchy {
    /// Takes the subtree over: this process moves into a leaf of it, and its controllers are switched on. Without a
    /// configured directory it is the one that this process is in, if that was delegated to us.
    ///
    /// # Errors
    /// Why there is none; nothing has changed then, or this process is in the leaf without controllers.
    pub fn enter(configured: Option<&Path>) -> Result<Self, CgroupError> {
        let base = match configured {
            Some(base) => base.to_owned(),
            None => delegated()?,
        };
        let offered = read(&base.join("cgroup.controllers"))?;
        let controllers: Vec<&str> = CONTROLLERS
            .into_iter()
            .filter(|name| offered.split_whitespace().any(|word| word == *name))
            .collect();
        if controllers.is_empty() {
            return Err(CgroupError::NoControllers(base));
        }
        let own = std::process::id().to_string();
        if read(&base.join("cgroup.procs"))?.split_whitespace().any(|process| process != own) {
            return Err(CgroupError::NotAlone(base));
        }
        let leaf = base.join(OWN_LEAF);
        make_directory(&leaf)?;
        write(&leaf.join("cgroup.procs"), &own)?;
        let wanted: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
        write(&base.join("cgroup.subtree_control"), &wanted.join(" "))?;
        let hierarchy = Self { base, controllers };
        hierarchy.remove_leftovers();
        Ok(hierarchy)
    }

    /// Whether a controller is there.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.contains(&controller)
    }

    /// What all sandboxes together may have of memory, in bytes, where this subtree says so.
    pub fn memory_bytes_max(&self) -> Option<u64> {
        read(&self.base.join("memory.max")).ok()?.trim().parse().ok()
    }

    /// Controllers that are not there.
    pub fn missing(&self) -> Vec<&'static str> {
        CONTROLLERS.into_iter().filter(|name| !self.has(name)).collect()
    }

    /// A directory for a sandbox of this number, with its limits; one that was left over is replaced.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn make(&self, number: usize, limits: Limits) -> Result<Cgroup, CgroupError> {
        let cgroup = Cgroup { directory: self.base.join(format!("{PREFIX}{number}")) };
        cgroup.clear()?;
        make_directory(&cgroup.directory)?;
        for (controller, file, value) in settings(limits) {
            let file = cgroup.directory.join(file);
            // A kernel without swap has no file to forbid it by.
            let is_needed = !file.ends_with(SWAP_LIMIT) || file.exists();
            if self.has(controller) && is_needed {
                write(&file, &value)?;
            }
        }
        Ok(cgroup)
    }

    /// What an executor that was killed has left.
    fn remove_leftovers(&self) {
        for entry in std::fs::read_dir(&self.base).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                // What stays is replaced, or its name is never used again.
                let _stays = Cgroup { directory: entry.path() }.clear();
            }
        }
    }
}

/// Controller, file and value of each limit.
fn settings(limits: Limits) -> Vec<(&'static str, &'static str, String)> {
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory_bytes_max {
        settings.push(("memory", "memory.max", bytes.to_string()));
        settings.push(("memory", SWAP_LIMIT, "0".to_owned()));
    }
    // All of a sandbox or nothing: a build that lost one process to the limit would go on to a wrong result.
    settings.push(("memory", "memory.oom.group", "1".to_owned()));
    settings.extend(limits.processes_max.map(|count| ("pids", "pids.max", count.to_string())));
    settings.extend(limits.cpu_weight.map(|weight| ("cpu", "cpu.weight", weight.to_string())));
    settings
}

/// The directory of one sandbox; removed, with all that still runs in it, when this is dropped.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
}

impl Cgroup {
    /// For the Spec.
    pub fn path(&self) -> ByteString {
        self.directory.as_path().into()
    }

    /// What was used in it until now.
    pub fn used(&self) -> Used {
        let text = |name: &str| read(&self.directory.join(name)).unwrap_or_default();
        let disks = text("io.stat");
        let of_disks = |key: &str| (!disks.is_empty()).then(|| sum_of(&disks, key));
        Used {
            memory_bytes_peak: text("memory.peak").trim().parse().ok(),
            user_microseconds: value_of(&text("cpu.stat"), "user_usec"),
            system_microseconds: value_of(&text("cpu.stat"), "system_usec"),
            read_bytes: of_disks("rbytes="),
            written_bytes: of_disks("wbytes="),
            memory_kills: value_of(&text("memory.events"), "oom_kill").unwrap_or(0),
            processes_refused: value_of(&text("pids.events"), "max").unwrap_or(0),
        }
    }

    fn clear(&self) -> Result<(), CgroupError> {
        let started = Instant::now();
        loop {
            match std::fs::remove_dir(&self.directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error)
                    if error.kind() == io::ErrorKind::ResourceBusy && started.elapsed() < REMOVE_WAIT =>
                {
                    // Linux 5.14; before, processes have died with their namespace's first one.
                    let _kills = std::fs::write(self.directory.join("cgroup.kill"), "1");
                    std::thread::sleep(Duration::from_millis(2));
                }
                removed => return removed.map_err(failed("remove", &self.directory)),
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The next of its name finds it, and says what is wrong.
        let _stays = self.clear();
    }
}

/// The directory that this process is in, or the one above when it has moved into its leaf before.
fn delegated() -> Result<PathBuf, CgroupError> {
    let mount = read(Path::new("/proc/self/mountinfo"))?;
    let own = read(Path::new("/proc/self/cgroup"))?;
    let directory = directory(&mount, &own).ok_or(CgroupError::NotVersion2)?;
    let base = match directory.parent() {
        Some(parent) if directory.ends_with(OWN_LEAF) => parent.to_owned(),
        _ => directory,
    };
    if is_delegated(&base) { Ok(base) } else { Err(CgroupError::NotDelegated(base)) }
}

/// Where cgroup v2 shows this process, by the kernel's tables of mounts and of cgroups.
fn directory(mountinfo: &str, cgroups: &str) -> Option<PathBuf> {
    let mount = mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ').skip(3);
        let (root, target) = (fields.next()?, fields.next()?);
        (kind.split(' ').next() == Some("cgroup2")).then_some((root, target))
    });
    let (root, target) = mount?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = own.strip_prefix(root).unwrap_or(own).trim_start_matches('/');
    Some(Path::new(target).join(below))
}

/// systemd marks what it delegates; an unprivileged user's own directory can only have been given to it.
fn is_delegated(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    if own != 0 {
        return std::fs::metadata(directory).is_ok_and(|status| status.uid() == own);
    }
    ["user.delegate", "trusted.delegate"].into_iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(directory, name, &mut value).is_ok_and(|length| value[..length] == *b"1")
    })
}

fn make_directory(path: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(failed("make", path)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    std::fs::write(path, text).map_err(failed("write", path))
}

fn read(path: &Path) -> Result<String, CgroupError> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed("open", path))?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed("read", path))?;
    Ok(text)
}

/// The number after a key, in a file of `key number` lines.
fn value_of(text: &str, key: &str) -> Option<u64> {
    let mut fields = text.lines().filter_map(|line| line.split_once(' '));
    fields.find(|(name, _)| *name == key).and_then(|(_, value)| value.trim().parse().ok())
}

/// The sum over all devices of what follows a key, in a file of `device key=number ...` lines.
fn sum_of(text: &str, key: &str) -> u64 {
    let values = text.split_whitespace().filter_map(|word| word.strip_prefix(key));
    values.filter_map(|value| value.parse::<u64>().ok()).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_directory_is_found_in_every_layout_of_mounts() {
        let v1 = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let v2 = "31 25 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let hybrid = "32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let inside = "33 25 0:29 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let own = "0::/system.slice/elsewhere-executor.service\n";
        let cases = [
            (v1.to_owned(), "5:memory:/x\n", None),
            (v1.to_owned(), own, None),
            (v2.to_owned(), own, Some("/sys/fs/cgroup/system.slice/elsewhere-executor.service")),
            (format!("{v1}{hybrid}"), "5:memory:/x\n0::/y\n", Some("/sys/fs/cgroup/unified/y")),
            (inside.to_owned(), "0::/box/y\n", Some("/sys/fs/cgroup/y")),
            (v2.to_owned(), "0::/\n", Some("/sys/fs/cgroup")),
            (v2.to_owned(), "", None),
            ("nonsense - cgroup2\n - \n".to_owned(), own, None),
        ];
        for (mountinfo, cgroups, expected) in cases {
            assert_eq!(directory(&mountinfo, cgroups), expected.map(PathBuf::from), "{mountinfo}{cgroups}");
        }
    }

    #[test]
    fn what_the_kernel_tells_is_read() {
        let events = "low 0\nmax 31\noom 2\noom_kill 3\noom_group_kill 1\n";
        assert_eq!([value_of(events, "oom_kill"), value_of(events, "oom_none")], [Some(3), None]);
        assert_eq!(value_of("oom_kill x\n", "oom_kill"), None);
        let disks = "8:0 rbytes=100 wbytes=20 rios=3\n8:16 rbytes=5 wbytes=1 dbytes=9\n";
        assert_eq!([sum_of(disks, "rbytes="), sum_of(disks, "wbytes=")], [105, 21]);
        assert_eq!(sum_of("8:0 rbytes=18446744073709551615\n8:1 rbytes=9\n", "rbytes="), u64::MAX);
    }

    #[test]
    fn only_limits_that_are_set_are_written() {
        let check = |limits, expected: &[(&str, &str)]| {
            let seen = settings(limits);
            let seen: Vec<_> = seen.iter().map(|(_, file, value)| (*file, value.as_str())).collect();
            assert_eq!(seen, expected);
        };
        check(Limits::default(), &[("memory.oom.group", "1")]);
        check(
            Limits { memory_bytes_max: Some(7), processes_max: Some(8), cpu_weight: Some(9) },
            &[
                ("memory.max", "7"),
                ("memory.swap.max", "0"),
                ("memory.oom.group", "1"),
                ("pids.max", "8"),
                ("cpu.weight", "9"),
            ],
        );
    }
}
