//! The engine: one task that owns the scheduler's state. It takes a batch of events, applies each, appends the facts to the
//! journal once, and then performs the effects in order. It decides nothing.
mod arrivals;
mod clock;
mod grant;
mod holders;
mod perform;
mod restore;
mod roster;
mod run;
mod sessions;
mod traces;

pub use restore::RestoreError;
pub use run::{Engine, EngineError};

use crate::config::BuildLimits;
use crate::journal::Journal;
use crate::knowledge::Knowledge;
use crate::plans::{Plans, Snapshots, View};
use crate::pull::Puller;
use crate::session::Session;
use cas::ContentStore;
use model::{ContentId, ExecutorName, PlanId};
use scheduler::{Event, NewPlan, PlanCounts, Settings};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

/// Commands that wait for the engine; more wait for room.
const COMMANDS_QUEUED_MAX: usize = 4_096;

/// What the engine works with.
#[derive(Debug)]
pub struct Parts {
    /// For facts.
    pub journal: Journal,
    /// For what leases carry.
    pub knowledge: Arc<Knowledge>,
    /// For what is in there.
    pub store: Arc<dyn ContentStore>,
    /// For watchers.
    pub plans: Plans,
    /// For what the content store lacks.
    pub puller: Puller,
    /// The core's.
    pub settings: Settings,
    /// Limits of every build.
    pub limits: BuildLimits,
    /// A plan that no client has watched for so long is cancelled, an ended one forgotten.
    pub abandoned_after: Duration,
}

/// The coordinator is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the coordinator is stopping")]
pub struct EngineStopped;

enum Command {
    /// A session begins.
    Open(Session, Event),
    /// An executor says something in a session.
    Of(ExecutorName, u64, Event),
    /// A session's connection ended.
    Close(ExecutorName, u64),
    /// Something else happened.
    Happened(Event),
    Admit {
        plan: Box<NewPlan>,
        board: Arc<str>,
        span: Span,
        done: oneshot::Sender<PlanCounts>,
    },
    Cancel(PlanId, oneshot::Sender<bool>),
    Snapshot(PlanId, oneshot::Sender<Option<(u64, View)>>),
}

/// A handle on the engine; clones share it.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    commands: mpsc::Sender<Command>,
}

/// The engine's end of the handles.
#[derive(Debug)]
pub struct Commands(mpsc::Receiver<Command>);

#[cfg(test)]
impl Commands {
    /// The next thing that an executor said.
    pub(crate) async fn said_for_tests(&mut self) -> Option<(ExecutorName, u64, Event)> {
        match self.0.recv().await? {
            Command::Of(executor, session, event) => Some((executor, session, event)),
            _ => None,
        }
    }
}

/// A handle on an engine that is yet to start.
pub fn channel() -> (EngineHandle, Commands) {
    let (commands, queue) = mpsc::channel(COMMANDS_QUEUED_MAX);
    (EngineHandle { commands }, Commands(queue))
}

impl EngineHandle {
    /// A plan is verified and whole: from now on it belongs to the cluster. Its span goes below the caller's.
    ///
    /// # Errors
    /// The coordinator is stopping; whether the plan is admitted is not known.
    pub async fn admit(&self, plan: NewPlan, board: &str) -> Result<PlanCounts, EngineStopped> {
        let (done, counts) = oneshot::channel();
        let span = traces::plan_span(plan.id, board, plan.tasks.len());
        let command = Command::Admit { plan: Box::new(plan), board: board.into(), span, done };
        self.send(command).await?;
        counts.await.map_err(|_| EngineStopped)
    }

    /// Ends a plan, if it lives; whether it did.
    ///
    /// # Errors
    /// The coordinator is stopping.
    pub async fn cancel(&self, plan: PlanId) -> Result<bool, EngineStopped> {
        let (done, was_running) = oneshot::channel();
        self.send(Command::Cancel(plan, done)).await?;
        was_running.await.map_err(|_| EngineStopped)
    }

    /// The content store has something, verified.
    pub async fn stored(&self, content: ContentId) {
        // An engine that stops needs no news.
        let _ = self.send(Command::Happened(Event::Stored(content))).await;
    }

    /// These executors did not give what was to be pulled from them. Nobody is to blame when there are none.
    pub async fn pull_failed(&self, content: ContentId, from: Vec<ExecutorName>) {
        let _ = self.send(Command::Happened(Event::PullFailed { content, from })).await;
    }

    /// A session begins, with the event that says so.
    ///
    /// # Errors
    /// The coordinator is stopping.
    pub async fn open(&self, session: Session, connected: Event) -> Result<(), EngineStopped> {
        self.send(Command::Open(session, connected)).await
    }

    /// An executor says something in a session; forgotten when that is no longer its session.
    ///
    /// # Errors
    /// The coordinator is stopping.
    pub async fn said(
        &self,
        executor: &ExecutorName,
        session: u64,
        event: Event,
    ) -> Result<(), EngineStopped> {
        self.send(Command::Of(executor.clone(), session, event)).await
    }

    /// A session's connection ended.
    pub async fn close(&self, executor: &ExecutorName, session: u64) {
        let _ = self.send(Command::Close(executor.clone(), session)).await;
    }

    async fn send(&self, command: Command) -> Result<(), EngineStopped> {
        self.commands.send(command).await.map_err(|_| EngineStopped)
    }
}

impl Snapshots for EngineHandle {
    async fn snapshot(&self, plan: PlanId) -> Option<(u64, View)> {
        let (done, view) = oneshot::channel();
        self.send(Command::Snapshot(plan, done)).await.ok()?;
        view.await.ok().flatten()
    }
}
