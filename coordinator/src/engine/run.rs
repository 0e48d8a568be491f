//! The engine's loop: batch, apply, append, perform.
use super::arrivals::Arrival;
use super::clock::Clock;
use super::holders::RecordedHolders;
use super::roster::Roster;
use super::sessions::Sessions;
use super::traces::Traces;
use super::{Command, Commands, Parts};
use crate::journal::{Entry, JournalError};
use crate::session::{End, Session};
use model::{ContentId, ExecutorName, PlanId, TaskId};
use scheduler::{
    Effect, Event, Fact, Holder, KnownContent, LeaseKey, NewPlan, PlanCounts, Settled, State, apply,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Span;

/// Commands that share one append to the journal.
const BATCH_COMMANDS_MAX: usize = 256;
/// How often plans without a client are looked for.
const ABANDONED_INTERVAL: Duration = Duration::from_secs(1);
/// The engine looks at its clock twice in each heartbeat interval: one that looked not once in so many was absent itself.
const HEARTBEATS_ABSENT: u64 = 2;
/// An executor that left out so many heartbeats gives way to another process of its name.
const HEARTBEATS_SILENT: u64 = 3;

/// Why the engine ended.
#[derive(Debug, Error)]
pub enum EngineError {
    /// What cannot be remembered must not be done.
    #[error("the journal failed: the coordinator ends rather than forget what it does")]
    Journal(#[source] JournalError),
}

/// What is to be done once the batch's facts are durable.
pub(super) enum Step {
    /// A session begins.
    Open(Session),
    /// A plan begins to be watchable.
    Begin(Box<Beginning>),
    /// An effect of the core.
    Perform(Effect),
    /// An attempt was reported.
    Reported(ExecutorName, LeaseKey, &'static str),
    /// A lease that an earlier run of the coordinator gave.
    Adopt(ExecutorName, LeaseKey, TaskId),
    /// Nobody can watch a plan any more.
    Forget(PlanId),
    /// Answer a cancellation.
    Cancelled(oneshot::Sender<bool>, bool),
    /// Answer a watcher.
    Snapshot(PlanId, oneshot::Sender<Option<(u64, crate::plans::View)>>),
}

/// A plan that begins, or goes on after a restart.
pub(super) struct Beginning {
    pub(super) plan: PlanId,
    pub(super) span: Span,
    /// Who waits for the admission; nobody after a restart.
    pub(super) done: Option<oneshot::Sender<PlanCounts>>,
}

/// The engine.
pub struct Engine {
    pub(super) parts: Parts,
    pub(super) state: State,
    pub(super) sessions: Sessions,
    pub(super) traces: Traces,
    pub(super) recorded_holders: RecordedHolders,
    pub(super) roster: Roster,
    pub(super) living: HashSet<PlanId>,
    pub(super) arrivals: VecDeque<Arrival>,
    pub(super) is_to_be_placed: bool,
    pub(super) admissions: HashMap<PlanId, oneshot::Sender<PlanCounts>>,
    /// Events that effects gave rise to: before anything that comes from outside.
    pub(super) again: VecDeque<Event>,
    entries: Vec<Entry>,
    /// Nobody waits for these: only what follows them needs them.
    pub(super) parts_of_plans: Vec<Entry>,
    steps: Vec<Step>,
    pub(super) clock: Clock,
    abandoned_looked: Instant,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(parts: Parts) -> Self {
        let now = Instant::now();
        let absent_ms = parts.settings.heartbeat_interval_ms.saturating_mul(HEARTBEATS_ABSENT);
        let clock = Clock::new(now, Duration::from_millis(absent_ms));
        Self {
            // Nobody can know where in the core's tables a path comes to be.
            state: State::seeded(parts.settings.clone(), uuid::Uuid::new_v4().as_u64_pair().0),
            parts,
            sessions: Sessions::default(),
            traces: Traces::default(),
            recorded_holders: RecordedHolders::default(),
            roster: Roster::default(),
            living: HashSet::new(),
            arrivals: VecDeque::new(),
            is_to_be_placed: false,
            admissions: HashMap::new(),
            again: VecDeque::new(),
            entries: Vec::new(),
            parts_of_plans: Vec::new(),
            steps: Vec::new(),
            clock,
            abandoned_looked: now,
        }
    }

    /// Runs until the last handle is dropped.
    ///
    /// # Errors
    /// The journal failed.
    pub async fn run(mut self, mut commands: Commands) -> Result<(), EngineError> {
        let interval_ms = (self.parts.settings.heartbeat_interval_ms / 2).max(10);
        let mut ticks = tokio::time::interval(Duration::from_millis(interval_ms));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = commands.0.recv() => match command {
                    None => return Ok(()),
                    Some(command) => self.take(command),
                },
                _ = ticks.tick() => self.tick(),
                () = std::future::ready(()), if self.is_arriving() => {
                    self.arrive();
                    // Who was woken meanwhile runs now: others do not take from a thread what it woke last.
                    tokio::task::yield_now().await;
                }
            }
            for _ in 1..BATCH_COMMANDS_MAX {
                let Ok(command) = commands.0.try_recv() else { break };
                self.take(command);
            }
            self.settle().await?;
        }
    }

    /// Makes what was taken durable, performs it, and goes on with what follows from that.
    pub(super) async fn settle(&mut self) -> Result<(), EngineError> {
        loop {
            let parts = std::mem::take(&mut self.parts_of_plans);
            self.parts.journal.append_soon(parts).await.map_err(EngineError::Journal)?;
            let entries = std::mem::take(&mut self.entries);
            self.learn(&entries);
            self.parts.journal.append(entries).await.map_err(EngineError::Journal)?;
            for step in std::mem::take(&mut self.steps) {
                self.perform(step);
            }
            if self.again.is_empty() {
                return Ok(());
            }
            while let Some(event) = self.again.pop_front() {
                self.apply(event);
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Open(session, connected) => self.open(session, connected),
            Command::Of(executor, session, event) => self.said(&executor, session, event),
            Command::Close(executor, session) => {
                if self.is_current(&executor, session) {
                    self.sessions.close(&executor, session);
                    let is_it = |step: &Step| matches!(step, Step::Open(open) if open.number == session);
                    self.steps.retain(|step| !is_it(step));
                    self.apply(Event::ExecutorDisconnected(executor));
                }
            }
            Command::Happened(event) => self.apply(event),
            Command::Admit { plan, board, span, done } => {
                self.expect(*plan, board, span, done);
            }
            Command::Cancel(plan, done) => {
                let is_living = self.living.contains(&plan);
                if is_living {
                    self.apply(Event::PlanCancelled(plan));
                }
                self.steps.push(Step::Cancelled(done, is_living));
            }
            Command::Snapshot(plan, done) => self.steps.push(Step::Snapshot(plan, done)),
        }
    }

    /// Whether a session is the newest of its executor, those included that are still to begin.
    fn is_current(&self, executor: &ExecutorName, number: u64) -> bool {
        let pending = self.steps.iter().rev().find_map(|step| match step {
            Step::Open(session) if session.executor == *executor => Some(session.number == number),
            _ => None,
        });
        pending.unwrap_or_else(|| self.sessions.is_current(executor, number))
    }

    /// A session begins, unless another process of that name lives.
    fn open(&mut self, session: Session, connected: Event) {
        self.clock.look(Instant::now());
        let silence_max = Duration::from_millis(
            self.parts.settings.heartbeat_interval_ms.saturating_mul(HEARTBEATS_SILENT),
        );
        let Some(rival) = self.sessions.rival(&session, self.clock.passed(), silence_max) else {
            self.steps.push(Step::Open(session));
            return self.opened(connected);
        };
        let Session { executor, data_address, end, .. } = session;
        tracing::warn!(%executor, %data_address, %rival, "two executors have one certificate: the newcomer is refused");
        let _ = end.send(End::Rival(rival));
    }

    fn opened(&mut self, connected: Event) {
        let Event::ExecutorConnected { executor, running, .. } = &connected else { return };
        let adopted =
            running.iter().map(|running| Step::Adopt(executor.clone(), running.lease, running.task.clone()));
        self.steps.extend(adopted);
        self.entries.extend(self.roster.connected(executor));
        self.apply(connected);
    }

    fn said(&mut self, executor: &ExecutorName, session: u64, event: Event) {
        if !self.is_current(executor, session) {
            return;
        }
        self.clock.look(Instant::now());
        self.sessions.heard(executor, self.clock.passed());
        let mut are_all_back = false;
        match &event {
            Event::ExecutorHolds(held) => {
                are_all_back = held.is_last && self.roster.is_last_back(executor);
                let named = held.contents.iter().map(|content| &content.id);
                let gone = self.recorded_holders.inventory(executor, named, held.is_last);
                self.entries.extend(gone.into_iter().map(Entry::Fact));
            }
            Event::LeaseReported { lease, outcome, .. } => {
                let outcome = match outcome {
                    model::Outcome::Built(_) => "built",
                    model::Outcome::Failed(_) => "failed",
                };
                self.steps.push(Step::Reported(executor.clone(), *lease, outcome));
            }
            _ => {}
        }
        self.apply(event);
        if are_all_back {
            tracing::info!("all executors of before the restart are back");
            self.apply(Event::AllBack);
        }
    }

    /// Hands a plan to the core.
    pub(super) fn begin(&mut self, beginning: Beginning, mut plan: NewPlan) {
        self.name_holders(&mut plan.contents);
        self.living.insert(plan.id);
        self.steps.push(Step::Begin(Box::new(beginning)));
        self.apply(Event::PlanAdmitted(plan));
    }

    pub(super) fn name_holders(&self, contents: &mut [KnownContent]) {
        for content in contents {
            content.holders.extend(self.holders_of_last_run(&content.id));
        }
    }

    /// Executors that are counted on by what the journal says, for as long as they may take to connect.
    pub(super) fn holders_of_last_run(&self, content: &ContentId) -> Vec<Holder> {
        let patience = Duration::from_millis(self.parts.settings.eviction_after_ms);
        if self.clock.passed() < patience { self.recorded_holders.of(content).collect() } else { Vec::new() }
    }

    fn tick(&mut self) {
        self.apply(Event::Tick);
        if self.abandoned_looked.elapsed() < ABANDONED_INTERVAL {
            return;
        }
        self.abandoned_looked = Instant::now();
        for plan in self.parts.plans.abandoned(self.parts.abandoned_after) {
            if self.living.contains(&plan) {
                tracing::info!(%plan, "no client for too long: plan cancelled");
                self.apply(Event::PlanCancelled(plan));
            } else {
                self.entries.push(Entry::PlanForgotten(plan));
                self.steps.push(Step::Forget(plan));
            }
        }
    }

    /// Applies an event, and sorts its effects into what to append and what to perform.
    pub(super) fn apply(&mut self, event: Event) {
        let now = self.clock.look(Instant::now());
        for effect in apply(&mut self.state, event, now) {
            match effect {
                Effect::Record(fact) => self.record(fact),
                other => self.steps.push(Step::Perform(other)),
            }
        }
    }

    /// Appends an entry with the next batch.
    pub(super) fn remember(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    fn record(&mut self, fact: Fact) {
        let tail = match &fact {
            Fact::TaskSettled { task, settled: Settled::Failed(_) } => {
                let tail = self.parts.plans.failed(task);
                Some(Entry::LogTail { task: task.clone(), tail })
            }
            Fact::PlanEnded(plan, _) => {
                self.living.remove(plan);
                None
            }
            _ => None,
        };
        self.entries.push(Entry::Fact(fact));
        self.entries.extend(tail);
    }
}
