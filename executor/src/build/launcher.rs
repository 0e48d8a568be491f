//! Launchers, the processes that become sandboxes: one waits in each slot that has built, for the slot's next build.
use super::jail::INSIDE_IDS;
use super::run::RunError;
use crate::slots::Slot;
use node::exit::chain;
use sandbox::protocol;
use sandbox::spec::{Prepare, Request};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// One that runs. Dropped, it ends, and all of its sandbox with it.
#[derive(Debug)]
pub struct Launcher {
    /// The process.
    pub child: Child,
    /// Open as long as its sandbox may run.
    pub stdin: ChildStdin,
    /// The build's log.
    pub stdout: ChildStdout,
    /// Its events.
    pub stderr: ChildStderr,
}

impl Launcher {
    /// Starts one; it waits for its request.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(program: &Path) -> Result<Self, RunError> {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| RunError::Start { path: program.to_owned(), source })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(RunError::Pipe(std::io::ErrorKind::BrokenPipe.into()));
        };
        Ok(Self { child, stdin, stdout, stderr })
    }
}

/// Those that wait. Each serves one build; what a build is to be, it learns when it comes.
#[derive(Debug)]
pub struct Launchers {
    program: PathBuf,
    /// By slot; none while it is being started.
    waiting: Mutex<HashMap<usize, Option<Launcher>>>,
}

impl Launchers {
    /// None waits yet.
    pub fn new(program: PathBuf) -> Arc<Self> {
        Arc::new(Self { program, waiting: Mutex::default() })
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<usize, Option<Launcher>>> {
        // It is whole after every statement that changes it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The launcher that waits in a slot, if there is one and it lives.
    pub fn take(&self, slot: Slot) -> Option<Launcher> {
        let mut waiting = self.waiting();
        if waiting.get(&slot.number)?.is_none() {
            return None;
        }
        let mut launcher = waiting.remove(&slot.number)??;
        matches!(launcher.child.try_wait(), Ok(None)).then_some(launcher)
    }

    /// Sees to it that one waits in a slot, in the background. Without one, a build starts its own, and says why it cannot.
    pub fn prepare(self: &Arc<Self>, slot: Slot) {
        if self.waiting().contains_key(&slot.number) {
            return;
        }
        self.waiting().insert(slot.number, None);
        let launchers = self.clone();
        node::task::spawn("prepare a launcher", async move {
            let started = launchers.start(slot).await;
            let mut waiting = launchers.waiting();
            match started {
                Ok(launcher) => drop(waiting.insert(slot.number, Some(launcher))),
                Err(error) => {
                    waiting.remove(&slot.number);
                    tracing::debug!(slot = slot.number, error = chain(&error), "no launcher waits");
                }
            }
        });
    }

    async fn start(&self, slot: Slot) -> Result<Launcher, RunError> {
        let mut launcher = Launcher::start(&self.program)?;
        let request = Request::Prepare(Prepare { host_ids: slot.ids, inside_ids: INSIDE_IDS });
        let request = protocol::encode_request(&request)?;
        launcher.stdin.write_all(&request).await.map_err(RunError::Pipe)?;
        Ok(launcher)
    }
}
