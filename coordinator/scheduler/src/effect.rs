//! What the core wants done: facts to record first, then leases, messages and pulls, in this order.
use crate::event::{Binding, Holder, LeaseKey, Measurement};
use alloc::{string::String, vec::Vec};
use model::{ContentId, ExecutorName, Failure, PathFacts, PlanId, Platform, Requirement, StorePath, TaskId};

/// Something to do. Effects of one event are performed in order, facts of all of them before anything else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Append to the journal.
    Record(Fact),
    /// Say what a task's derivation comes to now that all its inputs are there: [`crate::Event::Resolved`].
    Resolve {
        /// Which.
        task: TaskId,
        /// Of this question: an answer to an older one is too late.
        number: u64,
        /// Paths for what stands for its inputs.
        bound: Vec<(StorePath, StorePath)>,
    },
    /// Lease a task to an executor.
    Grant(Grant),
    /// Tell an executor that a lease is over.
    Cancel {
        /// Whom.
        executor: ExecutorName,
        /// Which.
        lease: LeaseKey,
    },
    /// Tell an executor that its report arrived, whatever came of it.
    Acknowledge {
        /// Whom.
        executor: ExecutorName,
        /// Which.
        lease: LeaseKey,
    },
    /// Fetch content into the content store, from the first of these that gives it.
    Pull {
        /// What.
        content: ContentId,
        /// From whom, best first.
        from: Vec<ExecutorName>,
        /// A plan that needs it: its trace is the pull's.
        plan: Option<PlanId>,
    },
    /// The answer to [`crate::Event::PlanAdmitted`]: before any news of the plan.
    Admitted {
        /// Which plan.
        plan: PlanId,
        /// What there is to do.
        counts: PlanCounts,
    },
    /// The plan's end, just before it is told: the core forgets it, and this is what late watchers can be shown.
    Ended {
        /// Which plan.
        plan: PlanId,
        /// Its last state.
        last: Snapshot,
    },
    /// Tell those who watch a plan.
    Tell {
        /// Which plan.
        plan: PlanId,
        /// What.
        news: News,
    },
    /// A busy executor may fetch what a task that most likely comes next needs; nothing depends on it.
    Prefetch {
        /// Which.
        executor: ExecutorName,
        /// What it does not have, references first, with who has it.
        inputs: Vec<GrantedInput>,
        /// For the trace: one that waits for the task.
        plan: PlanId,
    },
    /// A draining executor has nothing any more that only it has and that is needed.
    MayLeave(ExecutorName),
    /// The answer to [`crate::Event::ExecutorWouldDrop`]: nobody counts on these any more. What is not named stays.
    MayDrop {
        /// Whom to tell.
        executor: ExecutorName,
        /// Of the question.
        number: u64,
        /// What it may drop; may be nothing.
        contents: Vec<ContentId>,
    },
    /// An executor is lost: end its session if there still is one.
    Evict(ExecutorName),
    /// An executor that failed one attempt after another gets nothing for a while.
    SetAside {
        /// Which.
        executor: ExecutorName,
        /// For how long, in milliseconds.
        for_ms: u64,
        /// Its last trouble.
        reason: String,
    },
    /// Two executors have built a task, with other bytes: it is not reproducible.
    Differs {
        /// Which.
        task: TaskId,
        /// An output whose bytes differ.
        output: StorePath,
        /// Whose bytes do not count.
        executor: ExecutorName,
    },
}

/// What must survive a restart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// A task is settled.
    TaskSettled {
        /// Which.
        task: TaskId,
        /// How.
        settled: Settled,
    },
    /// What stands for an output turned out to be this.
    Bound(Binding),
    /// Somebody has content.
    Held(ContentId, Holder),
    /// Somebody has it no more.
    NotHeld(ContentId, Holder),
    /// A plan ended.
    PlanEnded(PlanId, PlanSummary),
    /// A build took so long.
    Measured(Measurement),
}

/// How a task was settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settled {
    /// Its outputs exist, at this executor first (a [`Fact::Held`] for each follows).
    Built {
        /// Who built it.
        executor: ExecutorName,
        /// Its outputs whose bytes are known by this build; those that somebody has from an earlier one, with other
        /// bytes, keep what is recorded of them.
        outputs: Vec<SettledOutput>,
    },
    /// It cannot be built.
    Failed(Failure),
}

/// One output of a settled task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettledOutput {
    /// Output name.
    pub name: String,
    /// Trust domain and path.
    pub id: ContentId,
    /// What is known about its bytes.
    pub facts: PathFacts,
    /// `facts.references` without itself, each with its domain.
    pub references: Vec<ContentId>,
}

/// A lease to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// To whom.
    pub executor: ExecutorName,
    /// Its name.
    pub lease: LeaseKey,
    /// Which task.
    pub task: TaskId,
    /// On which platform.
    pub platform: Platform,
    /// Counts the task's attempts from 1.
    pub attempt: u32,
    /// The whole closure of the inputs, dependencies first.
    pub inputs: Vec<GrantedInput>,
    /// For a task that needs resolution: paths for what stands for its inputs.
    pub bound: Vec<(StorePath, StorePath)>,
    /// The plan that wanted it first: its trace is the lease's.
    pub plan: PlanId,
    /// Another executor runs it already, and may end later: the first result counts.
    pub is_speculative: bool,
}

/// One path of a lease's input closure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantedInput {
    /// Which.
    pub id: ContentId,
    /// Who has it, best first; never empty. Without the executor itself only if others have it too.
    pub holders: Vec<Holder>,
}

/// Where a task is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TaskState {
    /// For inputs.
    Waiting,
    /// For an executor.
    Ready,
    /// Leased.
    Running,
    /// Its outputs are there.
    Done,
    /// It cannot be built.
    Failed,
    /// Something that it needs failed.
    DependencyFailed,
    /// Nobody wants it.
    Cancelled,
}

/// A task changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskChange {
    /// Which.
    pub task: TaskId,
    /// Where it is now.
    pub state: TaskState,
    /// Who runs or ran it.
    pub executor: Option<ExecutorName>,
    /// How.
    pub platform: Option<Platform>,
    /// Counts from 1; 0 before the first.
    pub attempt: u32,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Done without a build.
    pub was_held: bool,
    /// From lease to report, in milliseconds.
    pub duration_ms: u64,
}

/// How a plan went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PlanSummary {
    /// All wanted outputs are in the content store, with their closures.
    pub succeeded: bool,
    /// Somebody ended it.
    pub cancelled: bool,
    /// Tasks that were built while it lived.
    pub tasks_built: u32,
    /// Tasks whose outputs were there.
    pub tasks_held: u32,
    /// Tasks that failed.
    pub tasks_failed: u32,
    /// Tasks that were not tried because of those.
    pub tasks_dependency_failed: u32,
    /// From admission to end, in milliseconds.
    pub duration_ms: u64,
    /// What builds alone would have taken at the least with these executors, by what they took, in milliseconds.
    pub bound_ms: u64,
}

/// News for those who watch a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// A task of the plan changed.
    Task(TaskChange),
    /// A wanted output can be fetched, with its closure.
    RootAvailable {
        /// The task.
        task: TaskId,
        /// The output's name.
        output: String,
        /// Its path.
        path: StorePath,
    },
    /// Ready tasks wait for a requirement that no executor meets now; none waits when `tasks_total` is 0.
    Waiting(Waiting),
    /// The plan ended: the last news.
    Finished(PlanSummary),
}

/// What a plan was when it was admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PlanCounts {
    /// All its tasks.
    pub tasks_total: u32,
    /// Tasks that will be built or are being built.
    pub tasks_to_build: u32,
    /// Tasks whose outputs are there.
    pub tasks_held: u32,
}

/// Where a plan is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Its tasks, without those that nobody needs built because what they are for is there.
    pub tasks: Vec<TaskChange>,
    /// Wanted outputs that can be fetched.
    pub roots: Vec<AvailableRoot>,
    /// Requirements of ready tasks that nobody meets.
    pub waiting: Vec<Waiting>,
}

/// As [`News::RootAvailable`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AvailableRoot {
    /// The task.
    pub task: TaskId,
    /// The output's name.
    pub output: String,
    /// Its path.
    pub path: StorePath,
}

/// Why ready tasks do not run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// What nobody meets.
    pub requirement: Requirement,
    /// At most 20 of the tasks.
    pub tasks: Vec<TaskId>,
    /// How many wait.
    pub tasks_total: u32,
    /// At most 20 of the executors that would meet it if their disks had room.
    pub full: Vec<ExecutorName>,
}
