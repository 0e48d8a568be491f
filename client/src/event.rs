//! What the coordinator says about a plan, in the client's words.
use model::{Failure, Platform, StorePath};

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Its inputs are not there yet.
    Waiting,
    /// It waits for an executor.
    Ready,
    /// An executor runs it.
    Running,
    /// Its outputs exist in the cluster.
    Done,
    /// Its build failed.
    Failed,
    /// Something that it needs failed.
    DependencyFailed,
    /// Nobody wants it any more.
    Cancelled,
}

/// A task changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskChange {
    /// The task's derivation.
    pub derivation: StorePath,
    /// Its new state.
    pub state: TaskState,
    /// Who runs or ran it.
    pub executor: String,
    /// How it is or was run.
    pub platform: Option<Platform>,
    /// Counts from 1.
    pub attempt: u32,
    /// Phase of the build, when it said so.
    pub phase: String,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Last lines of the log of a failed build.
    pub log_tail: String,
    /// Done without a build.
    pub was_held: bool,
    /// How long the attempt took.
    pub duration_ms: u64,
}

/// The closure of a wanted output can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// What Nix calls it, if its derivation does not say its path.
    pub realisation: Option<String>,
    /// The derivation.
    pub derivation: StorePath,
    /// The output's name.
    pub output: String,
    /// Its path.
    pub path: StorePath,
}

impl Root {
    /// Its path without the store's directory.
    pub fn base_name(&self) -> &str {
        self.path.as_str().rsplit('/').next().unwrap_or_default()
    }
}

/// A requirement that no connected executor meets; met again when it has no tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// For people.
    pub requirement: String,
    /// Some of the tasks that wait.
    pub derivations: Vec<StorePath>,
    /// How many wait.
    pub tasks_total: u32,
    /// Executors that would meet it if their disks had room.
    pub full_executors: Vec<String>,
}

/// How a plan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Finished {
    /// All wanted outputs exist.
    pub succeeded: bool,
    /// It was cancelled.
    pub cancelled: bool,
    /// Tasks that were built for it.
    pub tasks_built: u32,
    /// Tasks whose outputs were there already.
    pub tasks_held: u32,
    /// Tasks that failed.
    pub tasks_failed: u32,
    /// Tasks that were not tried because of those.
    pub tasks_dependency_failed: u32,
    /// From submission to end.
    pub duration_ms: u64,
    /// What its builds would have taken at the least; 0 when the coordinator does not say.
    pub bound_ms: u64,
}

/// Bytes of a build log and their place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPiece {
    /// Tells the log from those of other builds of the derivation.
    pub log: u64,
    /// Its length so far, these bytes included; 0 when nobody counts.
    pub end: u64,
    /// Any bytes.
    pub text: bytes::Bytes,
}

/// One event of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanEvent {
    /// All that earlier events said, when those are no longer kept.
    Snapshot {
        /// Every task.
        tasks: Vec<TaskChange>,
        /// Every wanted output that is available.
        roots: Vec<Root>,
        /// Every requirement that nobody meets.
        waiting: Vec<Waiting>,
    },
    /// A task changed.
    Task(Box<TaskChange>),
    /// Next bytes of a build log.
    Log {
        /// Whose.
        derivation: StorePath,
        /// Any bytes, and their place.
        piece: LogPiece,
    },
    /// A wanted output is available.
    Root(Root),
    /// A requirement is not met, or is met again.
    Waiting(Waiting),
    /// The plan ended.
    Finished(Finished),
}
