//! A host: own network, mount, process, host name and IPC namespaces, an own root, and a veth to the lab's switch.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::lab::{Lab, remove_tree};
use crate::process::{Finished, Process, wait_until};

const INIT: &str = include_str!("init.sh");
/// How long one command in a host may take, where nothing else is said.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// Directories that get a place of their own: an overlay is no store, and `/tmp` must not be on one either.
const PRIVATE: &[(&str, u32)] = &[("/nix", 0o755), ("/var/lib/elsewhere", 0o755), ("/tmp", 0o1777)];

/// What a host is made of.
#[derive(Clone, Debug, Default)]
pub struct HostSpec {
    /// Host name; also the name of its logs.
    pub name: String,
    /// A root file system, seen read-only below an overlay.
    pub root: PathBuf,
    /// What else it sees of the machine.
    pub binds: Vec<Bind>,
    /// binfmt_misc rules of its own: it then also has a user namespace of its own (Linux 6.7 or later).
    pub binfmt_rules: Vec<String>,
}

/// A file or directory of the machine inside a host.
#[derive(Clone, Debug)]
pub struct Bind {
    /// On the machine.
    pub source: PathBuf,
    /// In the host.
    pub target: String,
    /// Whether the host may write to it.
    pub writable: bool,
}

/// Whom a command runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The administrator.
    Root,
    /// An ordinary user, with the group of the same number and no others.
    Id(u32),
}

/// Bytes through a host's interface since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Into the host.
    pub received_bytes: u64,
    /// Out of it.
    pub sent_bytes: u64,
}

/// A running host. All its processes end when it is dropped.
#[derive(Debug)]
pub struct Host {
    pub(crate) lab: Lab,
    name: String,
    address: String,
    pub(crate) port: String,
    directory: PathBuf,
    root: PathBuf,
    pub(crate) unshare: Child,
    pub(crate) pid: u32,
    user_namespace: bool,
}

impl Host {
    pub(crate) fn start(lab: &Lab, spec: HostSpec, number: u8) -> Result<Self> {
        ensure!(spec.root.is_dir(), "root {} is missing: run `cargo xtask setup`", spec.root.display());
        let directory = lab.directory().join(&spec.name);
        ensure!(!directory.exists(), "host {} exists already", spec.name);
        lay_out(&directory, &spec)?;
        let user_namespace = !spec.binfmt_rules.is_empty();
        let unshare = process_one(lab, &spec.name, &spec.root, &directory, user_namespace)?;
        let address = format!("10.88.0.{number}");
        let mut host = Self {
            lab: lab.clone(),
            name: spec.name,
            address,
            port: format!("p{number}"),
            directory,
            root: spec.root,
            unshare,
            pid: 0,
            user_namespace,
        };
        host.finish_start().with_context(|| format!("start host {}", host.name))?;
        Ok(host)
    }

    /// Starts the host again that crashed, with what it had on its disk.
    ///
    /// # Errors
    /// As for its first start.
    pub fn boot(&mut self) -> Result<()> {
        // The namespace of its former interface may still be on its way out.
        let _ = self.lab.in_switch(&["ip", "link", "del", &self.port]);
        self.unshare = process_one(&self.lab, &self.name, &self.root, &self.directory, self.user_namespace)?;
        self.finish_start().with_context(|| format!("start host {} again", self.name))
    }

    fn finish_start(&mut self) -> Result<()> {
        let outer = self.unshare.id();
        let children = format!("/proc/{outer}/task/{outer}/children");
        self.pid = wait_until("process 1 of a host", Duration::from_secs(20), || {
            Ok(fs::read_to_string(&children)?.split_whitespace().next().and_then(|pid| pid.parse().ok()))
        })?;
        if self.user_namespace {
            for map in ["uid_map", "gid_map"] {
                fs::write(format!("/proc/{}/{map}", self.pid), "0 0 4294967295")?;
            }
        }
        let pid = self.pid.to_string();
        let port = self.port.clone();
        let veth = ["ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid];
        self.lab.in_switch(&veth)?;
        self.lab.in_switch(&["ip", "link", "set", &port, "master", "br0", "up"])?;
        let address = format!("{}/24", self.address);
        for argv in
            [&["ip", "addr", "add", &address, "dev", "eth0"][..], &["ip", "link", "set", "eth0", "up"]]
        {
            let status = Command::new("nsenter").args(["-t", &pid, "-n"]).args(argv).status()?;
            ensure!(status.success(), "{argv:?}: {status}");
        }
        self.unshare.stdin.as_mut().context("process 1 has no input")?.write_all(b"go\n")?;
        let mut line = String::new();
        let stdout = self.unshare.stdout.take().context("process 1 has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() != "ready" {
            let log = self.lab.logs().join(format!("{}.init.log", self.name));
            bail!("its file systems: {}", fs::read_to_string(log).unwrap_or_default());
        }
        Ok(())
    }

    /// Its name; other hosts do not resolve it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the lab's switch.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A command in this host, with only this environment (and PATH). Not started yet.
    #[must_use]
    pub fn command(&self, user: User, argv: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-u", "-i", "-n", "-p", "-r", "-w"]);
        if self.user_namespace {
            command.arg("-U");
        }
        if let User::Id(id) = user {
            command.args(["setpriv", &format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups"]);
        }
        // What a shell in the background ignores, builds would inherit from real Nix, which is compared with.
        command.args([
            "env",
            "--default-signal=HUP,INT,QUIT",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL=C.UTF-8",
        ]);
        command.args(environment.iter().map(|(name, value)| format!("{name}={value}")));
        command.args(argv).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, at most two minutes.
    ///
    /// # Errors
    /// It does not start, or does not end; an exit code is no error here.
    pub fn exec(&self, user: User, argv: &[&str], environment: &[(&str, &str)]) -> Result<Finished> {
        self.exec_within(COMMAND_LIMIT, user, argv, environment)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// As [`Host::exec`].
    pub fn exec_within(
        &self,
        limit: Duration,
        user: User,
        argv: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Finished> {
        Process::start(&argv.join(" "), &mut self.command(user, argv, environment), None)?.capture(limit)
    }

    /// Starts a service: its output goes to a log named after it.
    ///
    /// # Errors
    /// It does not start.
    pub fn service(
        &self,
        user: User,
        name: &str,
        argv: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Process> {
        self.logged(name, self.command(user, argv, environment))
    }

    /// Starts a service whose standard input is a pipe from here.
    ///
    /// # Errors
    /// It does not start.
    pub fn service_with_input(
        &self,
        user: User,
        name: &str,
        argv: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Process> {
        let mut command = self.command(user, argv, environment);
        command.stdin(Stdio::piped());
        self.logged(name, command)
    }

    fn logged(&self, name: &str, mut command: Command) -> Result<Process> {
        let log = self.lab.logs().join(format!("{}.{name}.log", self.name));
        let file = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let mut process = Process::start(name, &mut command, Some(log))?;
        process.pid()?;
        Ok(process)
    }

    /// Whether something in this host listens on a TCP port.
    ///
    /// # Errors
    /// The host is gone.
    pub fn listens(&self, port: u16) -> Result<bool> {
        let wanted = format!(":{port:04X}");
        for table in ["tcp", "tcp6"] {
            let table = fs::read_to_string(format!("/proc/{}/net/{table}", self.pid))?;
            let mut rows = table.lines().map(|line| line.split_whitespace().skip(1));
            // Local address, remote address, state; 0A is LISTEN.
            if rows.any(|mut row| {
                row.next().is_some_and(|local| local.ends_with(&wanted)) && row.nth(1) == Some("0A")
            }) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a process of this host, or of a sandbox in it, has these words in its command line.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn runs(&self, words: &str) -> Result<bool> {
        let numbers =
            fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let found = numbers.into_iter().any(|pid: u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(words) && self.holds(pid)
        });
        Ok(found)
    }

    /// Whether a process, or one above it (a sandbox has a process namespace of its own), is in this host's process namespace.
    fn holds(&self, mut pid: u32) -> bool {
        let namespace = |pid| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.pid);
        while pid > 1 {
            if own.is_some() && namespace(pid) == own {
                return true;
            }
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
            pid = parent.unwrap_or_default();
        }
        false
    }

    /// A path of this host as the machine sees it.
    #[must_use]
    pub fn outside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(path.trim_start_matches('/'))
    }

    /// Writes a file in the host, with its directories.
    ///
    /// # Errors
    /// As of the file system.
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>, mode: u32, owner: User) -> Result<()> {
        let outside = self.outside(path);
        if let Some(parent) = outside.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&outside, contents).with_context(|| format!("write {path} in {}", self.name))?;
        fs::set_permissions(&outside, fs::Permissions::from_mode(mode))?;
        self.own(path, owner)
    }

    /// Makes a directory in the host.
    ///
    /// # Errors
    /// As of the file system.
    pub fn make_directory(&self, path: &str, owner: User) -> Result<()> {
        fs::create_dir_all(self.outside(path)).with_context(|| format!("make {path} in {}", self.name))?;
        self.own(path, owner)
    }

    /// Gives a path in the host to a user.
    ///
    /// # Errors
    /// As of the file system.
    pub fn own(&self, path: &str, owner: User) -> Result<()> {
        let id = match owner {
            User::Root => 0,
            User::Id(id) => id,
        };
        chown(self.outside(path), Some(id), Some(id))
            .with_context(|| format!("chown {path} in {}", self.name))
    }

    /// Makes names of other hosts known here.
    ///
    /// # Errors
    /// As of the file system.
    pub fn know(&self, others: &[&Host]) -> Result<()> {
        let mut hosts = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
        for other in others {
            hosts.push_str(&format!("{} {}\n", other.address, other.name));
        }
        self.write("/etc/hosts", hosts, 0o644, User::Root)
    }

    /// The interface's counters.
    ///
    /// # Errors
    /// The host is gone.
    pub fn traffic(&self) -> Result<Traffic> {
        let table = fs::read_to_string(format!("/proc/{}/net/dev", self.pid))?;
        let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("no eth0")?;
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        match fields[..] {
            [received_bytes, _, _, _, _, _, _, _, sent_bytes, ..] => {
                Ok(Traffic { received_bytes, sent_bytes })
            }
            _ => bail!("counters of eth0 not understood: {line}"),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Process 1 ends when its input does, and the kernel ends all others with it; unshare waits for that.
        drop(self.unshare.stdin.take());
        let _ = self.unshare.wait();
        remove_tree(&self.directory);
    }
}

/// Starts process 1 of a host; it waits for its interface.
fn process_one(lab: &Lab, name: &str, root: &Path, directory: &Path, user_namespace: bool) -> Result<Child> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--pid", "--uts", "--ipc", "--net", "--fork", "--kill-child=KILL"]);
    unshare.args(["--propagation", "private"]);
    if user_namespace {
        unshare.arg("--user");
    }
    let options = if user_namespace { ",userxattr" } else { "" };
    let log = fs::File::create(lab.logs().join(format!("{name}.init.log")))?;
    unshare.args(["sh", "-c", INIT, "init", name]).arg(root).arg(directory).arg(options);
    unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    unshare.spawn().context("start unshare (util-linux)")
}

/// The directories and files that process 1 works from.
fn lay_out(directory: &Path, spec: &HostSpec) -> Result<()> {
    for part in ["upper", "work", "root"] {
        fs::create_dir_all(directory.join(part))?;
    }
    let mut binds = String::new();
    for (index, (target, mode)) in PRIVATE.iter().enumerate() {
        let source = directory.join(format!("private{index}"));
        fs::create_dir(&source)?;
        fs::set_permissions(&source, fs::Permissions::from_mode(*mode))?;
        binds.push_str(&format!("{} {target} rw\n", source.display()));
    }
    for bind in &spec.binds {
        ensure!(
            bind.source.exists(),
            "{} is to be seen in a host, and does not exist",
            bind.source.display()
        );
        let access = if bind.writable { "rw" } else { "ro" };
        binds.push_str(&format!("{} {} {access}\n", bind.source.display(), bind.target));
    }
    fs::write(directory.join("binds"), binds)?;
    if !spec.binfmt_rules.is_empty() {
        fs::write(directory.join("binfmt"), spec.binfmt_rules.join("\n") + "\n")?;
    }
    Ok(())
}
