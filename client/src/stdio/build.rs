//! One build for Nix: the derivation of the board's store is submitted, followed, and its end told in Nix's terms.
use super::Nix;
use crate::board::Board;
use crate::event::{PlanEvent, TaskChange, TaskState};
use crate::progress::Progress;
use crate::rpc::{Coordinator, Wanted};
use crate::submit::{self, Terms};
use crate::ui::{Lines, Ui, text};
use crate::watch::{News, Watch};
use model::{FailureClass, PlanId, StorePath};
use nix_daemon::{BuildRequest, BuildResult, BuildStatus, ServerError};
use nix_formats::derivation::Derivation;
use nix_formats::store_path::StoreDir;
use proto::convert::store_path;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};

/// A Nix that was killed does not say so: after so many seconds without us the cluster stops.
const CANCEL_WHEN_LEFT_S: u32 = 30;
/// How long a cancellation waits for the cluster; after that it stops by itself.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// How a build ended.
pub(super) enum Ended {
    /// With a result, good or bad.
    Built(BuildResult),
    /// It was not tried.
    Refused(String),
    /// Nix has gone; the cluster was told.
    NixLeft,
}

/// Builds one derivation.
pub(super) async fn build(
    coordinator: &Coordinator,
    board: &Board,
    ui: &Ui,
    nix: &mut Nix,
    request: &BuildRequest,
) -> anyhow::Result<Ended> {
    let (path, derivation) = match find(board, request).await {
        Ok(found) => found,
        Err(problem) => return Ok(Ended::Refused(problem)),
    };
    let started = unix_seconds();
    let outputs = derivation.outputs.keys().cloned().collect();
    let wanted = [Wanted { derivation: path.clone(), outputs }];
    let terms = Terms { cancel_when_left_s: CANCEL_WHEN_LEFT_S, was_reached: true };
    let admitted = tokio::select! {
        admitted = submit::submit(coordinator, board, &wanted, terms, ui) => match admitted {
            Ok(admitted) => admitted,
            Err(error) => return Ok(Ended::Refused(node::exit::chain(&error))),
        },
        left = nix.gone() => return ended_by(left),
    };
    if admitted.tasks_to_build > 1 {
        nix.note(&format!("elsewhere: {}", text::admitted(&admitted))).await?;
    }
    nix.build_begins(path.as_str()).await?;
    let mut telling = Telling { path: &path, lines: Lines::default(), phase: String::new() };
    let mut progress = Progress::default();
    let mut watch =
        Watch::new(coordinator.clone(), admitted.plan, true).cancelled_when_left(CANCEL_WHEN_LEFT_S);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let finished = loop {
        tokio::select! {
            news = watch.next() => {
                telling.tell(nix, &news?, &mut progress).await?;
                if let Some(finished) = progress.finished {
                    break finished;
                }
            }
            left = nix.gone() => {
                cancel(coordinator, admitted.plan).await;
                return ended_by(left);
            }
            _ = terminate.recv() => return Ok(cancelled(coordinator, admitted.plan).await),
            _ = interrupt.recv() => return Ok(cancelled(coordinator, admitted.plan).await),
        }
    };
    nix.build_ends().await?;
    let (status, message) = if finished.succeeded {
        (BuildStatus::Built, String::new())
    } else {
        failure(&progress, &path, &derivation)
    };
    let realisations = realisations(&progress, &path);
    Ok(Ended::Built(BuildResult { status, message, started, stopped: unix_seconds(), realisations }))
}

/// The derivation that Nix means: the file in the board's store, whose outputs must be those that Nix expects.
async fn find(board: &Board, request: &BuildRequest) -> Result<(StorePath, Derivation), String> {
    let name = &request.derivation;
    if request.again {
        return Err(format!(
            "Elsewhere does not build '{name}' again to compare or repair: `--max-jobs 1` lets Nix do it itself"
        ));
    }
    let path = store_path("derivation", name).map_err(|error| error.problem)?;
    let derivation = board.derivation(&path).await.map_err(|error| {
        format!("{}; Elsewhere needs the derivation in this machine's store", node::exit::chain(&error))
    })?;
    let store = StoreDir::default();
    for (output, expected) in &request.outputs {
        let own =
            derivation.outputs.get(output).and_then(|output| output.path()).map(|path| store.display(path));
        // One whose path is known only after the build has an empty one on both sides.
        if own.unwrap_or_default() != *expected {
            return Err(format!(
                "output '{output}' of '{name}' is not at '{expected}' by the derivation's own file"
            ));
        }
    }
    Ok((path, derivation))
}

async fn cancelled(coordinator: &Coordinator, plan: PlanId) -> Ended {
    cancel(coordinator, plan).await;
    Ended::NixLeft
}

async fn cancel(coordinator: &Coordinator, plan: PlanId) {
    if let Ok(Err(error)) = tokio::time::timeout(CANCEL_TIMEOUT, coordinator.cancel(plan)).await {
        tracing::warn!(%plan, error = node::exit::chain(&error), "not cancelled: it ends by itself");
    }
}

/// Leaving is how Nix cancels.
fn ended_by(left: ServerError) -> anyhow::Result<Ended> {
    if left.is_end() { Ok(Ended::NixLeft) } else { Err(left.into()) }
}

/// What Nix is told while it waits.
struct Telling<'a> {
    path: &'a StorePath,
    lines: Lines,
    phase: String,
}

impl Telling<'_> {
    async fn tell(&mut self, nix: &mut Nix, news: &News, progress: &mut Progress) -> Result<(), ServerError> {
        let event = match news {
            News::Event(event) => event,
            News::LinkLost(error) => {
                let chain = node::exit::chain(error);
                return nix.note(&format!("elsewhere: the link to the cluster is lost ({chain})")).await;
            }
            News::LinkBack => return nix.note("elsewhere: the link to the cluster is back").await,
            News::LogMissed => {
                // In the log itself: who reads it later must know.
                let rest = self.lines.end(self.path);
                nix.build_lines(&rest).await?;
                return nix.build_lines(text::LOG_MISSED.as_bytes()).await;
            }
        };
        progress.apply(event);
        match event {
            PlanEvent::Log { derivation, piece } if derivation == self.path => {
                let whole = self.lines.push(derivation, &piece.text);
                nix.build_lines(&whole).await
            }
            PlanEvent::Task(task) if task.derivation == *self.path => self.task(nix, task).await,
            PlanEvent::Waiting(waiting) => nix.note(&format!("elsewhere: {}", text::waiting(waiting))).await,
            PlanEvent::Snapshot { waiting, .. } => {
                for waiting in waiting {
                    nix.note(&format!("elsewhere: {}", text::waiting(waiting))).await?;
                }
                Ok(())
            }
            PlanEvent::Log { .. } | PlanEvent::Task(_) | PlanEvent::Root(_) | PlanEvent::Finished(_) => {
                Ok(())
            }
        }
    }

    async fn task(&mut self, nix: &mut Nix, task: &TaskChange) -> Result<(), ServerError> {
        if task.state != TaskState::Running {
            let rest = self.lines.end(self.path);
            return nix.build_lines(&rest).await;
        }
        if !task.phase.is_empty() && task.phase != self.phase {
            self.phase.clone_from(&task.phase);
            return nix.build_phase(&task.phase).await;
        }
        Ok(())
    }
}

/// What became of outputs whose paths the derivation does not say.
fn realisations(progress: &Progress, path: &StorePath) -> Vec<(String, String)> {
    let own = progress.roots.iter().filter(|root| root.derivation == *path);
    own.filter_map(|root| Some((root.realisation.clone()?, root.base_name().to_owned()))).collect()
}

/// Status and message of a plan that did not succeed.
fn failure(progress: &Progress, path: &StorePath, derivation: &Derivation) -> (BuildStatus, String) {
    let own = progress.failures.iter().find(|task| task.derivation == *path && task.failure.is_some());
    if let Some(task) = own {
        let class = task.failure.as_ref().map(|failure| failure.class);
        let message = text::failure_message(task, true).unwrap_or_default();
        return (class.map_or(BuildStatus::MiscFailure, |class| status(class, derivation)), message);
    }
    let below: Vec<String> =
        progress.failures.iter().filter_map(|task| text::failure_message(task, true)).collect();
    if below.is_empty() {
        return (BuildStatus::MiscFailure, "the plan was cancelled at the cluster".into());
    }
    (BuildStatus::DependencyFailed, below.join("\n"))
}

fn status(class: FailureClass, derivation: &Derivation) -> BuildStatus {
    match class {
        // Nix's own distinction: what came from a network may come another time.
        FailureClass::BuildFailed if derivation.fixed_output().is_some() => BuildStatus::TransientFailure,
        FailureClass::BuildFailed => BuildStatus::PermanentFailure,
        FailureClass::OutputRejected => BuildStatus::OutputRejected,
        FailureClass::InputRejected => BuildStatus::InputRejected,
        FailureClass::TimedOut => BuildStatus::TimedOut,
        FailureClass::LogLimitExceeded => BuildStatus::LogLimitExceeded,
        FailureClass::OutOfDisk | FailureClass::OutOfMemory | FailureClass::InputMissing => {
            BuildStatus::TransientFailure
        }
        FailureClass::Infrastructure | FailureClass::Cancelled => BuildStatus::MiscFailure,
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
