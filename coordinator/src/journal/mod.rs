//! The journal: facts that survive a restart, in one SQLite database that one thread writes, many facts a commit.
mod compact;
mod fields;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use model::{ContentId, ExecutorName, Failure, PathFacts, PlanId, StorePath, TaskId};
use nix_formats::modulo::ModuloHash;
use scheduler::{Binding, Fact, Holder, Measurement, PlanSummary, Root};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

/// Appends that wait for the thread; more wait for room.
const APPENDS_QUEUED_MAX: usize = 256;
/// Entries that share one commit, at least one append's.
const COMMIT_ENTRIES_MAX: usize = 16_384;
/// How often a full disk is tried again.
const FULL_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Name of the database in the state directory.
const FILE_NAME: &str = "journal.sqlite";

/// Something to remember.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A derivation, verified: its text hashes to its path, its outputs are what hash modulo gives.
    Derivation {
        /// The path of the `.drv`.
        path: StorePath,
        /// ATerm.
        text: Arc<[u8]>,
        /// Its hash modulo.
        modulo: ModuloHash,
    },
    /// Content whose bytes are known by hash.
    Content {
        /// Trust domain and path.
        id: ContentId,
        /// What is known about its bytes.
        facts: PathFacts,
        /// `facts.references` without itself, each with its domain.
        references: Vec<ContentId>,
    },
    /// Tasks of a large plan that is to be admitted: without that they are forgotten.
    PlanTasks(PlanId, Vec<TaskId>),
    /// A plan belongs to the cluster.
    PlanAdmitted(AdmittedPlan),
    /// A fact of the scheduler.
    Fact(Fact),
    /// The end of the log of a task that failed, for those who ask after a restart.
    LogTail {
        /// The task.
        task: TaskId,
        /// The last bytes of its log.
        tail: Arc<[u8]>,
    },
    /// Nobody is told about this ended plan any more.
    PlanForgotten(PlanId),
    /// An executor has a session.
    ExecutorMet(ExecutorName),
    /// It is lost.
    ExecutorGone(ExecutorName),
}

/// A plan as it was admitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdmittedPlan {
    /// Its name.
    pub id: PlanId,
    /// Name of the board that it belongs to.
    pub board: Arc<str>,
    /// What is wanted.
    pub roots: Vec<Root>,
    /// Every derivation below the roots; in an entry without those of [`Entry::PlanTasks`].
    pub tasks: Vec<TaskId>,
    /// W3C trace context of the plan's span.
    pub trace: HashMap<String, String>,
    /// When, in milliseconds of Unix time.
    pub admitted_unix_ms: u64,
}

/// Everything that a coordinator knows when it starts.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Starts of a coordinator on this journal, this one included: above it nothing was ever used.
    pub run: u64,
    /// Derivations with text and hash modulo.
    pub derivations: Vec<(StorePath, Arc<[u8]>, ModuloHash)>,
    /// Contents with facts and references.
    pub contents: Vec<(ContentId, PathFacts, Vec<ContentId>)>,
    /// What stands for outputs without a path, and what each turned out to be.
    pub bindings: Vec<Binding>,
    /// Who has them.
    pub holders: Vec<(ContentId, Holder)>,
    /// Plans, oldest first.
    pub plans: Vec<RecordedPlan>,
    /// Tasks that failed, oldest first.
    pub failures: Vec<RecordedFailure>,
    /// What builds took, oldest first.
    pub measurements: Vec<Measurement>,
    /// Executors that had a session and were not lost.
    pub executors: Vec<ExecutorName>,
}

/// A plan of an earlier run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedPlan {
    /// As it was admitted.
    pub plan: AdmittedPlan,
    /// Its place in the order of plans and failures.
    pub position: u64,
    /// How it ended, and when (milliseconds of Unix time).
    pub ended: Option<(PlanSummary, u64)>,
}

/// A task that failed in an earlier run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedFailure {
    /// Which.
    pub task: TaskId,
    /// Why.
    pub failure: Failure,
    /// The end of its log.
    pub log_tail: Arc<[u8]>,
    /// Its place in the order of plans and failures: it counts for plans that were there before it.
    pub position: u64,
}

/// The journal cannot be read or written.
#[derive(Debug, Clone, Error)]
pub enum JournalError {
    /// The state directory cannot be used.
    #[error("use the state directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: Arc<std::io::Error>,
    },
    /// The database cannot be opened or read.
    #[error("open the journal {path} (does another coordinator use it?)")]
    Open {
        /// The database.
        path: PathBuf,
        /// Why not.
        source: Arc<rusqlite::Error>,
    },
    /// A later version wrote it.
    #[error("the journal {path} has version {found}, this program knows versions up to {known}: update it")]
    Version {
        /// The database.
        path: PathBuf,
        /// What is there.
        found: i64,
        /// What is known.
        known: i64,
    },
    /// A row is not what this program writes.
    #[error("the journal's table {table} holds what cannot be read: {problem}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Entries could not be made durable.
    #[error("write to the journal")]
    Write(#[source] Arc<rusqlite::Error>),
    /// What must not wait is not taken.
    #[error("the coordinator's disk is full: nothing new is taken until there is room")]
    Full,
    /// Its thread could not start, or is gone.
    #[error("the journal has stopped")]
    Stopped,
}

struct Append {
    entries: Vec<Entry>,
    done: oneshot::Sender<Result<(), JournalError>>,
}

/// A handle on the journal; clones share its thread, which ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Journal {
    appends: mpsc::Sender<Append>,
    is_full: watch::Receiver<bool>,
}

/// Who writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writing {
    /// A thread: nobody else waits for the disk.
    OnThread,
    /// A task of the caller's runtime, for a world that stands still meanwhile.
    InRuntime,
}

/// The journal's thread; none where a task writes.
#[derive(Debug)]
pub struct JournalThread(Option<JoinHandle<()>>);

impl JournalThread {
    /// Waits until it has ended: when every handle is dropped and all is written. Blocks.
    pub fn join(self) {
        // A panic in there was reported by the runtime; all is over anyway.
        let _ = self.0.map(JoinHandle::join);
    }
}

impl Journal {
    /// Appends entries, all or none, in order; returns when they are durable. Concurrent appends share a commit. While the
    /// disk is full it waits.
    ///
    /// # Errors
    /// They are not durable. After one failed write no later one succeeds: a gap would be worse.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        let (done, durable) = oneshot::channel();
        self.appends.send(Append { entries, done }).await.map_err(|_| JournalError::Stopped)?;
        durable.await.unwrap_or(Err(JournalError::Stopped))
    }

    /// Appends entries that nobody waits for: what is appended after them is durable only if they are.
    ///
    /// # Errors
    /// The journal has stopped.
    pub async fn append_soon(&self, entries: Vec<Entry>) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        let (done, _) = oneshot::channel();
        self.appends.send(Append { entries, done }).await.map_err(|_| JournalError::Stopped)
    }

    /// As [`Journal::append`], for what somebody may ask for again.
    ///
    /// # Errors
    /// The disk is full, too: then the entries may become durable later.
    pub async fn append_if_room(&self, entries: Vec<Entry>) -> Result<(), JournalError> {
        let mut is_full = self.is_full.clone();
        tokio::select! {
            biased;
            Ok(_) = is_full.wait_for(|is_full| *is_full) => Err(JournalError::Full),
            appended = self.append(entries) => appended,
        }
    }
}

/// Opens, or makes, the journal in a state directory, and reads it. Blocks.
///
/// # Errors
/// The directory or the database cannot be used, another process uses it, or it is not readable.
pub fn open(state_dir: &Path) -> Result<(Journal, JournalThread, Recorded), JournalError> {
    open_with(state_dir, Writing::OnThread)
}

/// As [`open`]; for [`Writing::InRuntime`] inside a runtime.
///
/// # Errors
/// As [`open`].
pub fn open_with(
    state_dir: &Path,
    writing: Writing,
) -> Result<(Journal, JournalThread, Recorded), JournalError> {
    let directory =
        |source| JournalError::Directory { path: state_dir.to_path_buf(), source: Arc::new(source) };
    std::fs::create_dir_all(state_dir).map_err(directory)?;
    let mut database = schema::open(&state_dir.join(FILE_NAME))?;
    let mut recorded = read::recorded(&database)?;
    compact::compact(&mut database, &mut recorded, compact::Limits::default());
    let (appends, queue) = mpsc::channel(APPENDS_QUEUED_MAX);
    let (fullness, is_full) = watch::channel(false);
    let mut writer = Writer { database, queue, fullness, failed: None };
    let thread = match writing {
        Writing::OnThread => {
            let thread = std::thread::Builder::new().name("journal".to_owned());
            let write = move || {
                while let Some(first) = writer.queue.blocking_recv() {
                    writer.write(first);
                }
            };
            Some(thread.spawn(write).map_err(directory)?)
        }
        Writing::InRuntime => {
            node::task::spawn("journal", async move {
                while let Some(first) = writer.queue.recv().await {
                    writer.write(first);
                }
            });
            None
        }
    };
    Ok((Journal { appends, is_full }, JournalThread(thread), recorded))
}

/// The journal's other end.
struct Writer {
    database: rusqlite::Connection,
    queue: mpsc::Receiver<Append>,
    fullness: watch::Sender<bool>,
    failed: Option<JournalError>,
}

impl Writer {
    /// Writes an append, and those that wait behind it. Blocks.
    fn write(&mut self, first: Append) {
        let mut count = first.entries.len();
        let mut batch = vec![first];
        while count < COMMIT_ENTRIES_MAX
            && let Ok(next) = self.queue.try_recv()
        {
            count += next.entries.len();
            batch.push(next);
        }
        if self.failed.is_none()
            && let Err(error) = commit_with_room(&mut self.database, &batch, &self.queue, &self.fullness)
        {
            self.failed = Some(JournalError::Write(Arc::new(error)));
        }
        for append in batch {
            // Who no longer waits does not need to know.
            let _ = append.done.send(self.failed.clone().map_or(Ok(()), Err));
        }
    }
}

/// Commits a batch, as soon as there is room; gives up when nobody is left who waits.
fn commit_with_room(
    database: &mut rusqlite::Connection,
    batch: &[Append],
    queue: &mpsc::Receiver<Append>,
    fullness: &watch::Sender<bool>,
) -> rusqlite::Result<()> {
    loop {
        let committed = write::commit(database, batch.iter().flat_map(|append| &append.entries));
        let is_full = matches!(&committed, Err(error) if is_disk_full(error));
        let was_full = fullness.send_replace(is_full);
        if is_full && !was_full {
            tracing::error!("the disk is full: nothing is decided until the journal has room");
        } else if was_full && !is_full {
            tracing::info!("the journal has room again");
        }
        if !is_full || queue.is_closed() {
            return committed;
        }
        std::thread::sleep(FULL_RETRY_INTERVAL);
    }
}

fn is_disk_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}
