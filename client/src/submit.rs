//! Handing a plan over: answers what the coordinator asks, until the plan is admitted.
use crate::board::{Board, Daemon};
use crate::rpc::{Answer, CallError, Coordinator, Need, Submission, SubmitReply, Wanted};
use crate::ui::Ui;
use crate::{board, upload};
use model::PlanId;
use node::backoff::Backoff;
use thiserror::Error;
use tracing::Instrument;

/// Why a plan was not admitted.
#[derive(Debug, Error)]
pub enum Error {
    /// The coordinator refused, or the way to it is closed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The board lacks something that the plan needs.
    #[error(transparent)]
    Board(#[from] board::Error),
    /// A source could not be uploaded.
    #[error(transparent)]
    Upload(#[from] upload::Error),
}

impl Error {
    fn is_link_lost(&self) -> bool {
        match self {
            Self::Call(error) | Self::Upload(upload::Error::Call(error)) => error.is_link_lost(),
            _ => false,
        }
    }
}

/// How a plan is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// The cluster cancels it when nobody has watched it for so many seconds; 0 for a plan that goes on.
    pub cancel_when_left_s: u32,
    /// The coordinator has answered already.
    pub was_reached: bool,
}

/// A plan that belongs to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Its name.
    pub plan: PlanId,
    /// Derivations in it.
    pub tasks_total: u32,
    /// Those to be built.
    pub tasks_to_build: u32,
    /// Those whose outputs are there.
    pub tasks_held: u32,
}

/// Submits a plan. A coordinator that never answered is an error at once; one that did, maybe before this, is waited for.
pub async fn submit(
    coordinator: &Coordinator,
    board: &Board,
    wanted: &[Wanted],
    Terms { cancel_when_left_s, mut was_reached }: Terms,
    ui: &Ui,
) -> Result<Admitted, Error> {
    let mut backoff = Backoff::for_connections();
    loop {
        let attempt = async {
            let submission = coordinator.submit(wanted, cancel_when_left_s).await?;
            was_reached = true;
            converse(submission, coordinator, board, ui).await
        };
        let failed = match attempt.instrument(tracing::info_span!("submit")).await {
            Ok(admitted) => return Ok(admitted),
            Err(error) if was_reached && error.is_link_lost() => error,
            Err(error) => return Err(error),
        };
        ui.link_lost(&failed);
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

async fn converse(
    mut submission: Submission,
    coordinator: &Coordinator,
    board: &Board,
    ui: &Ui,
) -> Result<Admitted, Error> {
    let mut daemon = None;
    loop {
        match submission.reply().await? {
            SubmitReply::Need(need) => answer(&submission, need, coordinator, board, &mut daemon, ui).await?,
            SubmitReply::Admitted { plan, tasks_total, tasks_to_build, tasks_held } => {
                return Ok(Admitted { plan, tasks_total, tasks_to_build, tasks_held });
            }
        }
    }
}

async fn answer(
    submission: &Submission,
    need: Need,
    coordinator: &Coordinator,
    board: &Board,
    daemon: &mut Option<Daemon>,
    ui: &Ui,
) -> Result<(), Error> {
    for path in need.derivations {
        match board.derivation_text(&path).await {
            Ok(text) => submission.answer(Answer::Derivation(path, text)).await,
            Err(error) => {
                submission.answer(Answer::Unavailable(path, error.to_string())).await;
                return Err(error.into());
            }
        }
    }
    for path in need.sources {
        // A connection on which an upload broke off cannot be used again.
        if daemon.as_ref().is_none_or(|daemon| !daemon.is_usable()) {
            *daemon = Some(board.connect().await.map_err(board::Error::from)?);
        }
        let Some(daemon) = daemon.as_mut() else { continue };
        match upload::upload(coordinator, daemon, &path, ui).await {
            Ok(()) => submission.answer(Answer::SourceUploaded(path)).await,
            Err(error) => {
                submission.answer(Answer::Unavailable(path, error.to_string())).await;
                return Err(error.into());
            }
        }
    }
    Ok(())
}
