//! From what a board wants to a plan that is whole and verified: derivations root first, checked from below, then sources.
mod error;
mod fetch;
mod plan;
mod receive;
mod sources;
mod verify;

pub use error::SubmitError;
pub use plan::{Known, held, known_content, known_contents, resolve};
pub use receive::{Receiving, UploadError, Uploads};

use crate::journal::{Entry, Journal};
use crate::knowledge::{Knowledge, KnownDerivation};
use cas::ContentStore;
use model::{StorePath, limits};
use scheduler::NewPlan;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

/// Submissions at once, of all boards.
const SUBMISSIONS_MAX: usize = 32;
/// Without an answer for so long, and without an upload under way, a submission ends.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// Outputs that a board wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The `.drv` file.
    pub derivation: StorePath,
    /// Output names; empty means all.
    pub outputs: Vec<String>,
}

/// The first message of a submission.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// What the board speaks.
    pub protocol_version: u32,
    /// What it wants.
    pub wanted: Vec<Wanted>,
}

/// What the coordinator lacks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// Derivations whose text it wants.
    pub derivations: Vec<StorePath>,
    /// Sources that it wants uploaded.
    pub sources: Vec<StorePath>,
}

/// What a board answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A derivation's text.
    Derivation(StorePath, Arc<[u8]>),
    /// The upload of a source succeeded.
    SourceUploaded(StorePath),
    /// The board does not have it.
    Unavailable(StorePath, String),
}

/// The board's end of a submission.
pub trait Board: Send {
    /// Asks. Answers need not have come for what was asked before.
    fn ask(&mut self, need: Need) -> impl Future<Output = Result<(), SubmitError>> + Send;
    /// The next answer; an error when there will be none. Loses nothing when it is dropped before it is done.
    fn answer(&mut self) -> impl Future<Output = Result<Answer, SubmitError>> + Send;
    /// The next answer, if it is there already.
    fn answer_at_hand(&mut self) -> Option<Result<Answer, SubmitError>>;
}

/// What submissions need of the coordinator.
#[derive(Debug)]
pub struct Submitter {
    knowledge: Arc<Knowledge>,
    store: Arc<dyn ContentStore>,
    journal: Journal,
    uploads: Arc<Uploads>,
    interrupted: fetch::Interrupted,
    submissions: Semaphore,
}

impl Submitter {
    /// Uploads go through the same `uploads` that the Blobs service receives for.
    pub fn new(
        knowledge: Arc<Knowledge>,
        store: Arc<dyn ContentStore>,
        journal: Journal,
        uploads: Arc<Uploads>,
    ) -> Self {
        let (interrupted, submissions) = (fetch::Interrupted::default(), Semaphore::new(SUBMISSIONS_MAX));
        Self { knowledge, store, journal, uploads, interrupted, submissions }
    }
}

/// Makes a plan of what a board wants: every derivation below it verified and recorded, every source in the content store.
///
/// # Errors
/// Whatever ends a submission. Derivations are recorded all or none; sources that arrived stay.
pub async fn converse(
    start: Start,
    board: &mut impl Board,
    name: &str,
    submitter: &Submitter,
) -> Result<NewPlan, SubmitError> {
    let _permit = submitter.submissions.try_acquire().map_err(|_| SubmitError::Busy)?;
    check(&start)?;
    let roots = start.wanted.iter().map(|wanted| wanted.derivation.clone());
    let fetching = fetch::derivations(board, name, roots, submitter);
    let fetched = fetching.instrument(tracing::info_span!("ask for derivations")).await?;
    let (knowledge, span) =
        (submitter.knowledge.clone(), tracing::info_span!("verify", derivations = fetched.len()));
    let verified =
        node::task::spawn_blocking("verify", move || span.in_scope(|| verify::all(&fetched, &knowledge)));
    let verified = verified.await.map_err(|_| SubmitError::Gone)??;
    record(verified, submitter).await?;
    let roots = plan::roots(&start.wanted, &submitter.knowledge)?;
    let graph = submitter
        .knowledge
        .graph(roots.iter().map(|(path, _)| path.clone()))
        .map_err(SubmitError::Sources)?;
    if graph.len() > limits::PLAN_DERIVATIONS_MAX {
        return Err(SubmitError::TooLarge { what: "derivations", max: limits::PLAN_DERIVATIONS_MAX });
    }
    let needed = graph.iter().flat_map(|(_, derivation)| derivation.sources.iter().cloned());
    let collecting = sources::collect(board, name, needed, submitter);
    let sources = collecting.instrument(tracing::info_span!("ask for sources")).await?;
    plan::assemble(&graph, &roots, &sources, submitter)
}

fn check(start: &Start) -> Result<(), SubmitError> {
    let spoken = limits::PROTOCOL_VERSION_MIN..=limits::PROTOCOL_VERSION;
    if !spoken.contains(&start.protocol_version) {
        return Err(SubmitError::ProtocolVersion { came: start.protocol_version });
    }
    if start.wanted.is_empty() {
        return Err(SubmitError::Malformed("nothing is wanted".into()));
    }
    let outputs: usize = start.wanted.iter().map(|wanted| wanted.outputs.len().max(1)).sum();
    if outputs > limits::PLAN_ROOTS_MAX {
        return Err(SubmitError::TooLarge { what: "wanted outputs", max: limits::PLAN_ROOTS_MAX });
    }
    Ok(())
}

/// Makes verified derivations known, after they are durable.
async fn record(
    verified: Vec<(StorePath, KnownDerivation)>,
    submitter: &Submitter,
) -> Result<(), SubmitError> {
    let entry = |(path, known): &(StorePath, KnownDerivation)| Entry::Derivation {
        path: path.clone(),
        text: known.text.clone(),
        modulo: known.modulo,
    };
    submitter.journal.append_if_room(verified.iter().map(entry).collect()).await?;
    for (path, known) in verified {
        submitter.knowledge.insert_derivation(path, known);
    }
    Ok(())
}

/// The next answer, unless the board says nothing for too long while `is_busy` says that it does nothing else either.
async fn answer(board: &mut impl Board, is_busy: impl Fn() -> bool) -> Result<Answer, SubmitError> {
    loop {
        match tokio::time::timeout(IDLE_MAX, board.answer()).await {
            Ok(answer) => return answer,
            Err(_) if is_busy() => {}
            Err(_) => return Err(SubmitError::Idle { seconds: IDLE_MAX.as_secs() }),
        }
    }
}
