//! What the core is told: facts about plans, executors, leases and content, each with the time at which it is applied.
use alloc::{string::String, vec::Vec};
use model::{
    BootId, Capability, ContentId, Epoch, ExecutorName, Failure, Kind, LeaseId, Outcome, PlanId, Platform,
    StorePath, TaskId, TaskSpec,
};

/// Milliseconds since some moment that the shell chose; never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub u64);

/// What is decided before anything happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How often executors say that they live, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// Without a heartbeat for so long an executor is lost, in milliseconds.
    pub eviction_after_ms: u64,
    /// Attempts of one task that may end by an executor's own trouble.
    pub attempts_max: u32,
    /// The first lease of this run of the coordinator: above all that the journal has seen.
    pub first_lease: LeaseId,
    /// After a restart: for so long, from the first event on, nothing is leased, in milliseconds, so that executors
    /// can first announce what they run already, unless [`Event::AllBack`] says that all have. 0 when the journal is new.
    pub restart_grace_ms: u64,
    /// An executor that fails one attempt after another is set aside for so long, in milliseconds, and longer each time; 0: never.
    pub set_aside_ms: u64,
    /// Free slots may run what takes much longer elsewhere than it should.
    pub speculates: bool,
}

/// One lease of one task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseKey {
    /// The lease.
    pub id: LeaseId,
    /// Its place among the leases of its task.
    pub epoch: Epoch,
}

/// A lease that an executor says it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunningLease {
    /// Which.
    pub lease: LeaseKey,
    /// Of which task: a coordinator that restarted does not remember.
    pub task: TaskId,
    /// On which of its platforms.
    pub platform: Platform,
}

/// Who has an output's bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Holder {
    /// An executor.
    Executor(ExecutorName),
    /// The coordinator's content store.
    ContentStore,
}

/// Content whose bytes are known by hash, and who has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownContent {
    /// Trust domain and path.
    pub id: ContentId,
    /// What its bytes mention, without itself.
    pub references: Vec<ContentId>,
    /// SHA-256 of its NAR.
    pub nar_sha256: [u8; 32],
    /// Size of its NAR in bytes.
    pub nar_size: u64,
    /// Who has it.
    pub holders: Vec<Holder>,
}

/// What stands for an output, and what it turned out to be: content, or what stands for that in turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// Trust domain and [`model::StorePath::promised`].
    pub promise: ContentId,
    /// Of the same domain.
    pub to: ContentId,
}

/// What a derivation comes to when the paths of its inputs are put in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolution {
    /// By name, what its outputs are: content with a path, or what stands for outputs of the resolved derivation.
    pub outputs: Vec<(String, ContentId)>,
    /// What is known of those outputs, with all that they refer to.
    pub contents: Vec<KnownContent>,
    /// Those of them that were built before.
    pub bindings: Vec<Binding>,
}

/// Outputs of a task that a plan wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// The task.
    pub task: TaskId,
    /// Output names, never empty.
    pub outputs: Vec<String>,
}

/// A plan, verified and whole: also how plans of the journal come back after a restart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPlan {
    /// Its name.
    pub id: PlanId,
    /// Every derivation below the roots; no cycles, every input named is here or in `contents`.
    pub tasks: Vec<TaskSpec>,
    /// What is wanted.
    pub roots: Vec<Root>,
    /// All sources of the plan with their closures, and whatever outputs of its tasks are known.
    pub contents: Vec<KnownContent>,
    /// What outputs without a path in their derivation have turned out to be: what stands for each, and its content.
    pub bindings: Vec<Binding>,
    /// Tasks that are known to fail: settled before a restart.
    pub failed: Vec<(TaskId, Failure)>,
}

/// What an executor says it holds; the shell has compared it with the hashes that are recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// The executor.
    pub executor: ExecutorName,
    /// Part of what it holds.
    pub contents: Vec<KnownContent>,
    /// Whether this is the last part: what was not named since it connected is not there.
    pub is_last: bool,
}

/// What a build took, on an executor that is as fast as most.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Measurement {
    /// What was built.
    pub derivation: StorePath,
    /// The derivation's name.
    pub name: String,
    /// How much work it looked like.
    pub kind: Kind,
    /// Whether it ran under emulation.
    pub is_emulated: bool,
    /// How long it took, in milliseconds.
    pub work_ms: u64,
    /// The most memory that it had at once, in bytes; 0 when that is not known.
    pub memory_bytes: u64,
}

/// A part of a plan that is too large to be admitted at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanPart {
    /// Its name.
    pub id: PlanId,
    /// Some of its tasks: what they need is among them, or came before.
    pub tasks: Vec<TaskSpec>,
    /// As in [`NewPlan`].
    pub contents: Vec<KnownContent>,
    /// As in [`NewPlan`].
    pub bindings: Vec<Binding>,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A part of a plan: nothing is done for it before the rest comes with [`Event::PlanAdmitted`].
    PlanArrives(PlanPart),
    /// A plan belongs to the cluster, with all that came before of it.
    PlanAdmitted(NewPlan),
    /// Nobody wants a plan any more (Cancel, or no client for too long).
    PlanCancelled(PlanId),
    /// An executor opened a session. A second session of the same name replaces the first.
    ExecutorConnected {
        /// The name in its certificate.
        executor: ExecutorName,
        /// Another boot id: a new process, which runs nothing of the former one.
        boot: BootId,
        /// What it offers.
        capability: Capability,
        /// What it runs or has not been acknowledged for.
        running: Vec<RunningLease>,
    },
    /// A part of an executor's inventory.
    ExecutorHolds(Held),
    /// An executor lives, and runs these.
    Heartbeat {
        /// Which.
        executor: ExecutorName,
        /// What it runs or has not been acknowledged for.
        running: Vec<LeaseKey>,
        /// Its disk has no room for another build.
        is_full: bool,
    },
    /// An executor asks for room in its store: the answer is [`crate::Effect::MayDrop`].
    ExecutorWouldDrop {
        /// Which.
        executor: ExecutorName,
        /// Of the question.
        number: u64,
        /// What it has not used for longest; more than [`model::limits::DROPS_ASKED_MAX`] are not looked at.
        contents: Vec<ContentId>,
    },
    /// An executor finishes what it runs and takes no more.
    ExecutorDraining(ExecutorName),
    /// A session's connection ended. Its builds go on; only time without a heartbeat makes it lost.
    ExecutorDisconnected(ExecutorName),
    /// What an attempt needed, said before it is reported.
    AttemptUsed {
        /// By whom.
        executor: ExecutorName,
        /// Which lease.
        lease: LeaseKey,
        /// The most memory that it had at once, in bytes.
        memory_bytes: u64,
        /// Bytes of inputs that were fetched for it.
        fetched_bytes: u64,
        /// How long that took, in milliseconds.
        fetch_ms: u64,
    },
    /// An attempt ended. May be repeated, may be late, may be of a lease that nobody remembers.
    LeaseReported {
        /// By whom.
        executor: ExecutorName,
        /// Which lease.
        lease: LeaseKey,
        /// Of which task.
        task: TaskId,
        /// Outputs or failure.
        outcome: Outcome,
    },
    /// The answer to [`crate::Effect::Resolve`].
    Resolved {
        /// Of which task.
        task: TaskId,
        /// Of which question.
        number: u64,
        /// What it comes to, or why it cannot be built.
        resolution: Result<Resolution, Failure>,
    },
    /// The content store has it now (verified).
    Stored(ContentId),
    /// These executors did not give it: they do not have it, or cannot be reached. They count as holders no more,
    /// unless only their connection has ended; none at all means that the content store had the trouble.
    PullFailed {
        /// What was wanted.
        content: ContentId,
        /// Who was asked.
        from: Vec<ExecutorName>,
    },
    /// What was measured before a restart, oldest first.
    Remembered(Vec<Measurement>),
    /// After a restart: everybody who was connected before is again, and has said what it runs and holds.
    AllBack,
    /// Time passed.
    Tick,
}
