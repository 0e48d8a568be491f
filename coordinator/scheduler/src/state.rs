//! Everything that the core knows: tasks, contents, executors, leases, plans.
use crate::arena::{Arena, ClassIx, ContentIx, ExecutorIx, Marks, TaskIx};
use crate::estimate::{Described, Estimates};
use crate::names::Names;
use crate::outbox::Outbox;
use crate::plan::Plan;
use crate::quarantine::Conduct;
use crate::{LeaseKey, Settings, Timestamp};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::cmp::Reverse;
use model::{
    BootId, Capability, ContentId, ExecutorName, Failure, LeaseId, PlanId, Platform, Requirement, StorePath,
    System, TaskId, TrustDomain,
};

/// Everything that the core knows.
#[derive(Debug)]
pub struct State {
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
    /// When the first event came.
    pub(crate) started: Option<Timestamp>,
    pub(crate) tasks: Arena<TaskIx, Task>,
    pub(crate) task_names: Names<TaskIx>,
    pub(crate) contents: Arena<ContentIx, Content>,
    pub(crate) content_names: Names<ContentIx>,
    pub(crate) executors: Arena<ExecutorIx, Executor>,
    pub(crate) executor_places: BTreeMap<ExecutorName, ExecutorIx>,
    pub(crate) classes: Arena<ClassIx, Class>,
    pub(crate) class_places: BTreeMap<Requirement, ClassIx>,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    pub(crate) next_lease: LeaseId,
    pub(crate) plans: BTreeMap<PlanId, Plan>,
    pub(crate) pulls: Pulls,
    pub(crate) queues: Queues,
    /// Counts changes of who may run what.
    pub(crate) executors_version: u64,
    pub(crate) estimates: Estimates,
    /// Tasks of a large plan that was just admitted: their levels are counted with the next event.
    pub(crate) unlevelled: Vec<TaskIx>,
    /// What levels were last counted with: measurements, and changes of executors.
    pub(crate) levels_measured: u64,
    pub(crate) levels_version: u64,
    /// Something that only a draining executor has may have become needed, or needless.
    pub(crate) drains_changed: bool,
    /// Something may be leased that could not be before.
    pub(crate) placement_due: bool,
    /// Time has passed since stragglers were looked for.
    pub(crate) stragglers_due: bool,
    /// Time has passed since it was looked what busy executors may fetch.
    pub(crate) prefetch_due: bool,
    pub(crate) content_marks: Marks,
    pub(crate) task_marks: Marks,
    pub(crate) out: Outbox,
}

/// What follows from a change and is not done yet; empty between events.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// Content that became whole or available, or is so no more.
    pub(crate) turned: Vec<ContentIx>,
    /// Content that became whole in the content store.
    pub(crate) stored: Vec<ContentIx>,
    /// Content that must become whole.
    pub(crate) demanded: Vec<ContentIx>,
    /// Content that nothing can make whole.
    pub(crate) doomed: Vec<ContentIx>,
    /// Content that may have lost the last reason to be remembered.
    pub(crate) unused: Vec<ContentIx>,
    /// Plans that may be at their end.
    pub(crate) plans: BTreeSet<PlanId>,
}

/// Content on its way into the content store.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    pub(crate) wanted: BTreeSet<ContentIx>,
    pub(crate) in_flight: BTreeSet<ContentIx>,
    /// Failed without a reason that lies with a holder: wanted again at the next tick.
    pub(crate) later: BTreeSet<ContentIx>,
    /// Nobody waits for it, but to build it again would take long: when there is nothing else to pull.
    pub(crate) behind: BTreeSet<ContentIx>,
}

/// A task of a live plan.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) class: ClassIx,
    pub(crate) outputs: Box<[TaskOutput]>,
    /// Without repetitions.
    pub(crate) inputs: Box<[ContentIx]>,
    /// How many of `inputs` are not whole.
    pub(crate) inputs_missing: u32,
    pub(crate) needs_resolution: bool,
    /// It names an input that nobody described, or depends on itself.
    pub(crate) is_malformed: bool,
    pub(crate) phase: Phase,
    /// While it runs: a lease of it that another executor tries to end sooner.
    pub(crate) second: Option<LeaseId>,
    /// What it is for measurements.
    pub(crate) described: Described,
    /// What it takes where nothing is faster or slower than most, natively and emulated.
    pub(crate) work_ms: [u64; 2],
    /// What it takes where it takes least.
    pub(crate) best_ms: u64,
    /// From its beginning to the end of the last task that waits for it, in milliseconds.
    pub(crate) level: u64,
    /// Once it was built: from the beginning of the first task below it to its own end, each where it takes least.
    pub(crate) path_ms: u64,
    /// Who wants it, in the order of admission.
    pub(crate) plans: Vec<PlanId>,
    /// Of its last lease.
    pub(crate) epoch: u64,
    /// Leases that it had.
    pub(crate) attempts: u32,
    /// Attempts that ended by an executor's trouble since it was needed.
    pub(crate) attempts_counted: u32,
    /// Attempts that ended for want of room since it was needed.
    pub(crate) attempts_without_room: u32,
    /// What most tasks do not have yet.
    pub(crate) past: Option<Box<Past>>,
}

/// What came of a task so far.
#[derive(Debug)]
pub(crate) struct Past {
    /// Questions what it comes to.
    pub(crate) resolutions: u64,
    /// Who had trouble with it since it was needed.
    pub(crate) avoided: Vec<ExecutorIx>,
    /// Its last leases that are over: a late result may still be used.
    pub(crate) former: Vec<(LeaseKey, ExecutorIx)>,
    /// Its last attempt that ended.
    pub(crate) last: Option<Attempt>,
    /// Bytes of memory that it needs at least, since it ended for want of them.
    pub(crate) memory_bytes_min: u64,
}

impl Past {
    const NONE: Self =
        Self { resolutions: 0, avoided: Vec::new(), former: Vec::new(), last: None, memory_bytes_min: 0 };
}

impl Task {
    /// What came of it so far.
    pub(crate) fn past(&self) -> &Past {
        const NONE: &Past = &Past::NONE;
        self.past.as_deref().unwrap_or(NONE)
    }

    /// The same, to be added to.
    pub(crate) fn past_mut(&mut self) -> &mut Past {
        self.past.get_or_insert_with(|| Box::new(Past::NONE))
    }
}

#[derive(Debug)]
pub(crate) struct TaskOutput {
    pub(crate) name: Box<str>,
    /// What others name.
    pub(crate) content: ContentIx,
    /// What a build gives: the same, or what it was last resolved to.
    pub(crate) made: ContentIx,
    /// What that is bound to, step by step: the task makes these as well.
    pub(crate) bound: Box<[ContentIx]>,
}

#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) executor: ExecutorIx,
    pub(crate) platform: Option<Platform>,
    pub(crate) duration_ms: u64,
    /// The most that it had at once, as far as that is known.
    pub(crate) memory_bytes: u64,
}

/// Where a task is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Nobody needs it built.
    Idle,
    /// Needed, and inputs are not whole.
    Waiting,
    /// Needed and whole, and the shell was asked what it comes to.
    Resolving,
    /// Needed, and another task that comes to the same is built for both.
    Shared,
    /// Needed, and could run.
    Ready,
    /// Leased.
    Running(LeaseId),
    /// What it is for was there or was built.
    Done,
    Failed(Box<Failure>),
    DependencyFailed,
}

impl Phase {
    /// Still to be done.
    pub(crate) fn is_open(&self) -> bool {
        self.is_at_work() || *self == Self::Shared
    }

    /// Something is done for it, or could be.
    pub(crate) fn is_at_work(&self) -> bool {
        self.is_waiting() || matches!(self, Self::Running(_))
    }

    /// For inputs or an executor.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting | Self::Resolving | Self::Ready)
    }

    /// Cannot give its outputs.
    pub(crate) fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::DependencyFailed)
    }
}

/// Content by name: what is known of it, who has it, who makes and uses it.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) id: ContentId,
    pub(crate) facts: Option<Box<Facts>>,
    pub(crate) in_store: bool,
    /// Executors that have it and are not lost; sorted.
    pub(crate) holders: Vec<ExecutorIx>,
    /// [`Content::is_available`], as of the last look.
    pub(crate) was_available: bool,
    /// Direct references that are not whole.
    pub(crate) references_missing: u32,
    /// Known, held, and all its references whole.
    pub(crate) is_whole: bool,
    /// Direct references that are not whole in the content store.
    pub(crate) references_unstored: u32,
    /// Known, in the content store, and all its references so too.
    pub(crate) is_stored: bool,
    pub(crate) referrers: Vec<ContentIx>,
    /// Several for fixed outputs, which many derivations can make.
    pub(crate) makers: Vec<TaskIx>,
    pub(crate) users: Vec<TaskIx>,
    /// Plans that want it, with the position among their roots.
    pub(crate) roots: Vec<(PlanId, usize)>,
    /// How often its last holder did not give it to the content store.
    pub(crate) pulls_failed: u32,
    /// When an executor was last allowed to drop it: leases from before may name that one as a source.
    pub(crate) dropped: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) nar_sha256: [u8; 32],
    pub(crate) nar_size: u64,
    /// Without itself and repetitions.
    pub(crate) references: Box<[ContentIx]>,
}

impl Content {
    pub(crate) fn references(&self) -> &[ContentIx] {
        self.facts.as_ref().map_or(&[], |facts| &facts.references)
    }

    /// Whether somebody who is not lost has it, and what it refers to is known.
    pub(crate) fn is_available(&self) -> bool {
        self.facts.is_some() && (self.in_store || !self.holders.is_empty())
    }
}

/// An executor that was ever heard of, or that the journal names as a holder.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) name: ExecutorName,
    pub(crate) boot: Option<BootId>,
    pub(crate) link: Link,
    pub(crate) capability: Capability,
    pub(crate) is_draining: bool,
    /// Its disk has no room for another build, by its last word.
    pub(crate) is_full: bool,
    pub(crate) was_told_to_leave: bool,
    /// Tasks whose inputs it was told to fetch.
    pub(crate) hinted: BTreeSet<TaskIx>,
    pub(crate) last_heard: Timestamp,
    pub(crate) leases: BTreeSet<LeaseId>,
    pub(crate) holds: BTreeSet<ContentIx>,
    /// What it held when it was lost: nobody counts on it until its inventory names it.
    pub(crate) held_once: BTreeSet<ContentIx>,
    /// While an inventory arrives: what it has not named yet.
    pub(crate) unnamed: Option<BTreeSet<ContentIx>>,
    pub(crate) conduct: Conduct,
    /// Leases by platform, since the set of executors changed.
    pub(crate) given: BTreeMap<Platform, u64>,
}

/// Whether an executor can be spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    Connected,
    /// Its builds go on.
    Disconnected,
    Lost,
}

impl Executor {
    pub(crate) fn may_get_leases(&self) -> bool {
        self.may_get_leases_with_room() && !self.is_full
    }

    /// Whether it may get leases, or could if its disk had room.
    pub(crate) fn may_get_leases_with_room(&self) -> bool {
        self.stays() && self.capability.slots > 0 && !self.conduct.is_set_aside()
    }

    /// Whether what it has can be counted on.
    pub(crate) fn stays(&self) -> bool {
        self.link == Link::Connected && !self.is_draining
    }

    /// Thousandths of the speed of most, as it says itself.
    pub(crate) fn speed(&self) -> u64 {
        match self.capability.speed {
            0 => 1000,
            speed => u64::from(speed),
        }
    }

    pub(crate) fn slots_free(&self) -> usize {
        let slots = match self.conduct.is_on_trial() {
            true => 1,
            false => usize::try_from(self.capability.slots).unwrap_or(usize::MAX),
        };
        slots.saturating_sub(self.leases.len())
    }
}

/// Tasks with the same requirement.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) requirement: Requirement,
    pub(crate) tasks_len: usize,
    /// By the plan that wanted them first: longest way to the end first.
    pub(crate) ready: BTreeMap<PlanId, BTreeSet<(Reverse<u64>, TaskId, TaskIx)>>,
    /// Executors that may get leases now, and how they run such a task; as of `eligible_version`.
    pub(crate) eligible: Vec<(ExecutorIx, Platform)>,
    pub(crate) eligible_version: u64,
    /// The most memory that one of those gives a build, in bytes.
    pub(crate) memory_bytes_max: u64,
}

/// A lease that counts.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) key: LeaseKey,
    pub(crate) task: TaskIx,
    pub(crate) executor: ExecutorIx,
    pub(crate) platform: Platform,
    pub(crate) granted: Timestamp,
    /// Its executor has named it: it is there.
    pub(crate) was_named: bool,
    /// Heartbeats in a row that did not name it.
    pub(crate) heartbeats_missed: u32,
    /// When the first of those came.
    pub(crate) missed_since: Timestamp,
    /// The most memory that it had at once, when that was said.
    pub(crate) memory_bytes: u64,
}

fn nothing() -> ContentId {
    ContentId { domain: TrustDomain::Shared, path: StorePath::from_validated("") }
}

impl Default for Task {
    fn default() -> Self {
        Self {
            id: nothing(),
            class: crate::arena::Place::at(0),
            outputs: Box::default(),
            inputs: Box::default(),
            inputs_missing: 0,
            needs_resolution: false,
            is_malformed: false,
            phase: Phase::Idle,
            second: None,
            described: Described::default(),
            work_ms: [0; 2],
            best_ms: 0,
            level: 0,
            path_ms: 0,
            plans: Vec::new(),
            epoch: 0,
            attempts: 0,
            attempts_counted: 0,
            attempts_without_room: 0,
            past: None,
        }
    }
}

impl Default for Content {
    fn default() -> Self {
        Self {
            id: nothing(),
            facts: None,
            in_store: false,
            holders: Vec::new(),
            was_available: false,
            references_missing: 0,
            is_whole: false,
            references_unstored: 0,
            is_stored: false,
            referrers: Vec::new(),
            makers: Vec::new(),
            users: Vec::new(),
            roots: Vec::new(),
            pulls_failed: 0,
            dropped: None,
        }
    }
}

impl Default for Executor {
    fn default() -> Self {
        Self {
            name: ExecutorName("".into()),
            boot: None,
            link: Link::Disconnected,
            capability: Capability::default(),
            is_draining: false,
            is_full: false,
            was_told_to_leave: false,
            hinted: BTreeSet::new(),
            last_heard: Timestamp(0),
            leases: BTreeSet::new(),
            holds: BTreeSet::new(),
            held_once: BTreeSet::new(),
            unnamed: None,
            conduct: Conduct::default(),
            given: BTreeMap::new(),
        }
    }
}

impl Default for Class {
    fn default() -> Self {
        let requirement = Requirement { system: System("".into()), target: None, features: Vec::new() };
        Self {
            requirement,
            tasks_len: 0,
            ready: BTreeMap::new(),
            eligible: Vec::new(),
            eligible_version: 0,
            memory_bytes_max: 0,
        }
    }
}

impl State {
    /// Knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self::seeded(settings, 0)
    }

    /// The same with a secret number, so that nobody can choose paths that are slow to find.
    pub fn seeded(settings: Settings, seed: u64) -> Self {
        Self {
            next_lease: settings.first_lease,
            settings,
            now: Timestamp(0),
            started: None,
            tasks: Arena::new(),
            task_names: Names::new(seed),
            contents: Arena::new(),
            content_names: Names::new(seed),
            executors: Arena::new(),
            executor_places: BTreeMap::new(),
            classes: Arena::new(),
            class_places: BTreeMap::new(),
            leases: BTreeMap::new(),
            plans: BTreeMap::new(),
            pulls: Pulls::default(),
            queues: Queues::default(),
            executors_version: 1,
            estimates: Estimates::seeded(seed),
            unlevelled: Vec::new(),
            levels_measured: 0,
            levels_version: 0,
            drains_changed: false,
            placement_due: false,
            stragglers_due: false,
            prefetch_due: false,
            content_marks: Marks::default(),
            task_marks: Marks::default(),
            out: Outbox::default(),
        }
    }
}
