//! Processes inside hosts: started through nsenter, signalled by their own process id, waited for with a limit.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How often something that is waited for is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// More output than this of one captured process is a mistake of the test.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;

/// Waits until `found` has an answer.
///
/// # Errors
/// There is none within the limit, or looking failed.
pub fn wait_until<T>(what: &str, limit: Duration, mut found: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = found()? {
            return Ok(answer);
        }
        ensure!(started.elapsed() < limit, "waited {} s for {what}", limit.as_secs());
        thread::sleep(POLL_INTERVAL);
    }
}

/// A process inside a host. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    inner: Option<u32>,
    log: Option<PathBuf>,
}

/// How a captured process ended, and what it wrote.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// Its end.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output without the last line end, if the process succeeded.
    ///
    /// # Errors
    /// It did not, with all that it wrote.
    pub fn success(self) -> Result<String> {
        ensure!(
            self.status.success(),
            "`{}`: {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout.trim_end_matches('\n').to_owned())
    }
}

impl Process {
    /// Starts a command; `log` is where its output goes, for messages.
    pub(crate) fn start(name: &str, command: &mut Command, log: Option<PathBuf>) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, inner: None, log })
    }

    /// The process id of the program itself, as seen outside of the host (nsenter is its parent).
    ///
    /// # Errors
    /// The process has ended already.
    pub fn pid(&mut self) -> Result<u32> {
        if let Some(inner) = self.inner {
            return Ok(inner);
        }
        let outer = self.child.id();
        let children = format!("/proc/{outer}/task/{outer}/children");
        let name = self.name.clone();
        let child = &mut self.child;
        let inner = wait_until(&format!("{name} to start"), Duration::from_secs(20), || {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended at once: {status}");
            }
            let listed = fs::read_to_string(&children).unwrap_or_default();
            Ok(listed.split_whitespace().next().and_then(|pid| pid.parse::<u32>().ok()))
        })?;
        self.inner = Some(inner);
        Ok(inner)
    }

    /// Sends a signal to the program, by name ("TERM", "INT", "KILL").
    ///
    /// # Errors
    /// The process is gone.
    pub fn signal(&mut self, signal: &str) -> Result<()> {
        let pid = self.pid()?;
        signal_pid(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Its end, when it has ended.
    ///
    /// # Errors
    /// As of waitpid.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("look at {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It goes on beyond the limit.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait_until(&what, limit, || self.ended())
    }

    /// Kills the program and waits for its end.
    ///
    /// # Errors
    /// It does not end.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.signal("KILL")?;
            self.wait(Duration::from_secs(20))?;
        }
        Ok(())
    }

    /// What it has written to its log so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> Result<String> {
        let Some(log) = &self.log else { bail!("{} has no log", self.name) };
        read_lossy(log)
    }

    /// The child as std has it: its pipes, where they were asked for.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Collects both outputs until the process ends.
    pub(crate) fn capture(mut self, limit: Duration) -> Result<Finished> {
        let stdout = self.child.stdout.take().map(collect);
        let stderr = self.child.stderr.take().map(collect);
        let status = match self.wait(limit) {
            Ok(status) => status,
            Err(error) => {
                self.kill()?;
                let written = text(stdout) + &text(stderr);
                return Err(error.context(format!("output so far:\n{written}")));
            }
        };
        Ok(Finished { command: self.name.clone(), status, stdout: text(stdout), stderr: text(stderr) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The host may be gone already, and this process with it.
        let _ = self.kill();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by process id.
pub(crate) fn signal_pid(pid: u32, signal: &str) -> Result<()> {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status()?;
    ensure!(status.success(), "kill -{signal} {pid}: {status}");
    Ok(())
}

/// A file as text, whatever its bytes.
pub(crate) fn read_lossy(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn collect(pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error of the pipe is worth showing.
        let _ = std::io::copy(&mut pipe.take(OUTPUT_BYTES_MAX), &mut bytes);
        bytes
    })
}

fn text(collected: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = collected.and_then(|thread| thread.join().ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
