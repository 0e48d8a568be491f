//! A lab: one run's directory, and the switch that joins its hosts. Several labs can run side by side.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::cache::Cache;
use crate::host::{Host, HostSpec};

static LABS: AtomicU32 = AtomicU32::new(0);

/// The first host's address is 10.88.0.10.
const FIRST_HOST: u8 = 10;

/// A run: its directory (removed at its end) and its switch.
#[derive(Clone, Debug)]
pub struct Lab {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cache: Cache,
    directory: PathBuf,
    name: String,
    next_host: AtomicU8,
    switch: Child,
    /// Held while the run lives: a later run removes directories whose lock is free.
    _lock: File,
}

/// Runs a test in a lab. An error fails the test, and the logs are kept and named.
///
/// # Panics
/// The test failed.
pub fn run(name: &str, test: impl FnOnce(&Lab) -> Result<()>) {
    let lab = Lab::new(name).unwrap_or_else(|error| panic!("{error:#}"));
    if let Err(error) = test(&lab) {
        panic!("{error:#}");
    }
}

impl Lab {
    /// A new lab, named for its directory and its logs.
    ///
    /// # Errors
    /// Not root, no network namespaces, no room.
    pub fn new(name: &str) -> Result<Self> {
        let cache = Cache::default();
        let runs = cache.runs();
        fs::create_dir_all(&runs).with_context(|| format!("make {} (tests run as root)", runs.display()))?;
        fs::set_permissions(&runs, fs::Permissions::from_mode(0o755))?;
        sweep(&runs);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let directory = runs.join(format!("{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(directory.join("logs"))?;
        let lock = File::create(directory.join("lock"))?;
        lock.lock()?;
        let switch = start_switch()?;
        let next_host = AtomicU8::new(FIRST_HOST);
        let shared = Shared { cache, directory, name: name.to_owned(), next_host, switch, _lock: lock };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What set-up made.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.shared.cache
    }

    /// This run's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// Where logs go; kept when a test fails.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.shared.directory.join("logs")
    }

    /// Starts a host.
    ///
    /// # Errors
    /// Its root is missing, or the kernel refuses something.
    pub fn host(&self, spec: HostSpec) -> Result<Host> {
        let number = self.shared.next_host.fetch_add(1, Ordering::Relaxed);
        ensure!(number < 250, "a lab has room for 240 hosts");
        Host::start(self, spec, number)
    }

    /// Runs a command in the switch's network namespace.
    pub(crate) fn in_switch(&self, argv: &[&str]) -> Result<()> {
        let target = self.shared.switch.id().to_string();
        let output =
            Command::new("nsenter").args(["-t", &target, "-n"]).args(argv).stdin(Stdio::null()).output()?;
        ensure!(
            output.status.success(),
            "{argv:?} in the switch: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.switch.stdin.take());
        let _ = self.switch.wait();
        if std::thread::panicking() {
            let kept = self.cache.runs().with_file_name("failed").join(format!(
                "{}-{}",
                self.name,
                std::process::id()
            ));
            let moved = fs::create_dir_all(&kept).and_then(|()| {
                let _ = fs::remove_dir_all(&kept);
                fs::rename(self.directory.join("logs"), &kept)
            });
            if moved.is_ok() {
                let _ = std::io::Write::write_all(
                    &mut std::io::stderr(),
                    format!("\nlogs of the failed run: {}\n", kept.display()).as_bytes(),
                );
            }
        }
        remove_tree(&self.directory);
    }
}

/// A network namespace with a bridge, held by a process that ends with our end of its pipe.
fn start_switch() -> Result<Child> {
    let script = "ip link add br0 type bridge && ip link set br0 up && echo ready && exec cat >/dev/null";
    let mut switch = Command::new("unshare")
        .args(["--net", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start unshare (util-linux)")?;
    let mut line = String::new();
    if let Some(stdout) = switch.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.trim() != "ready" {
        let status = switch.wait()?;
        bail!("make a network namespace with a bridge (as root, with iproute2): {status}");
    }
    Ok(switch)
}

/// Removes what killed runs left on disk; nothing else of them is left.
fn sweep(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else { return };
    for entry in entries.flatten() {
        let free = File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        if free {
            remove_tree(&entry.path());
        }
    }
}

/// Removes a tree, not following mounts (there are none: they lived in the hosts' namespaces).
pub(crate) fn remove_tree(path: &Path) {
    let _ = Command::new("rm").args(["-rf", "--one-file-system"]).arg(path).status();
}
