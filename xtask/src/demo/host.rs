//! A host of the demo: own root, processes and host name; the board has a network of its own too. Its end ends all in it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::command::capture;

const INIT: &str = include_str!("host.sh");

/// What a host is made of.
pub struct Spec<'a> {
    /// Host name.
    pub name: &'a str,
    /// Root file system, seen below an overlay.
    pub root: PathBuf,
    /// Files and directories of this machine that it sees, and where.
    pub shows: Vec<(PathBuf, &'a str)>,
    /// A network of its own; otherwise this machine's.
    pub network: bool,
}

/// A running host. Dropping it kills every process in it.
pub struct Host {
    name: String,
    directory: PathBuf,
    init: Child,
    pid: u32,
    network: bool,
}

impl Host {
    /// Starts process 1 and waits until the root is in place.
    pub fn start(directory: &Path, spec: Spec<'_>) -> Result<Self> {
        let directory = directory.join(spec.name);
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--fork",
            "--kill-child=KILL",
            "--propagation",
            "private",
        ]);
        if spec.network {
            unshare.arg("--net");
        }
        unshare.args(["sh", "-c", INIT, "init", spec.name]).arg(&spec.root).arg(&directory);
        for (source, target) in &spec.shows {
            unshare.arg(source).arg(target);
        }
        unshare
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.join("init.log"))?);
        let mut init = unshare.spawn().context("start unshare (package util-linux)")?;
        let mut line = String::new();
        let output = init.stdout.take().context("read what process 1 says")?;
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != "ready" {
            let log = fs::read_to_string(directory.join("init.log")).unwrap_or_default();
            bail!("host {} did not come up: {log}", spec.name);
        }
        let children = format!("/proc/{0}/task/{0}/children", init.id());
        let children = fs::read_to_string(&children).with_context(|| format!("read {children}"))?;
        let pid =
            children.split_whitespace().next().and_then(|pid| pid.parse().ok()).context("find process 1")?;
        Ok(Self { name: spec.name.to_string(), directory, init, pid, network: spec.network })
    }

    /// A command in this host, as a user, with this environment and nothing else.
    pub fn command(&self, user: u32, environment: &[(&str, &str)], argv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-u", "-i", "-p", "-r", "-w"]);
        if self.network {
            command.arg("-n");
        }
        if user != 0 {
            command.args([
                "setpriv",
                &format!("--reuid={user}"),
                &format!("--regid={user}"),
                "--clear-groups",
            ]);
        }
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]);
        command
            .args(environment.iter().map(|(name, value)| format!("{name}={value}")))
            .args(argv)
            .stdin(Stdio::null());
        command
    }

    /// Runs a short command as root of the host and returns what it prints.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        capture(&mut self.command(0, &[], argv)).with_context(|| format!("on host {}", self.name))
    }

    /// Starts a program that stays; its output goes to a log.
    pub fn service(
        &self,
        user: u32,
        environment: &[(&str, &str)],
        argv: &[&str],
        log: &Path,
    ) -> Result<Service> {
        let name =
            argv.first().map(|program| program.rsplit('/').next().unwrap_or(program)).unwrap_or_default();
        Service::start(&format!("{name} on {}", self.name), &mut self.command(user, environment, argv), log)
    }

    /// A path of the host, as this machine sees it.
    pub fn outside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// Writes a file in the host for a user.
    pub fn write(&self, path: &str, text: &[u8], mode: u32, user: u32) -> Result<()> {
        let outside = self.outside(path);
        if let Some(parent) = outside.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&outside, text).with_context(|| format!("write {path} on host {}", self.name))?;
        fs::set_permissions(&outside, fs::Permissions::from_mode(mode))?;
        chown(&outside, Some(user), Some(user)).with_context(|| format!("chown {path} on host {}", self.name))
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id of its process 1, for the tools that move a network interface.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // unshare's --kill-child ends process 1, and with it all processes of the host.
        let ended = self.init.kill().and_then(|()| self.init.wait());
        if let Err(error) = ended {
            println!("  host {} did not stop: {error}", self.name);
        }
        // What is left of the directory is removed by the next run if it cannot be now.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A program that runs until it is stopped.
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts it with its output in a log.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_string(), child, log: log.to_path_buf() })
    }

    /// Waits until something is the case; fails with the log's end when the program ends first, or takes too long.
    pub fn wait_until(&mut self, limit: Duration, what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
        let started = Instant::now();
        while !ready() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || started.elapsed() > limit {
                let how = ended
                    .map_or_else(|| format!("not within {} s", limit.as_secs()), |status| status.to_string());
                bail!("{}: waited until {what}: {how}\n{}", self.name, self.tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Asks it to stop, waits, and insists after the limit.
    pub fn stop(mut self, limit: Duration) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            bail!("{} had ended before it was stopped\n{}", self.name, self.tail());
        }
        capture(Command::new("kill").arg("-TERM").arg(self.signalled()?.to_string()))?;
        let started = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(started.elapsed() < limit, "{} did not stop within {} s", self.name, limit.as_secs());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// nsenter stays as the parent of what it started in another process namespace: the program is its child.
    fn signalled(&self) -> Result<u32> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        let nsenter = fs::read_to_string(format!("/proc/{own}/comm"))?.trim() == "nsenter";
        Ok(children
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok())
            .filter(|_| nsenter)
            .unwrap_or(own))
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("{} says:\n{}", self.log.display(), lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Already stopped, or the demo fails: then nothing may stay behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
