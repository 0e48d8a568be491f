//! The derivations that are not known, root first: asked for in batches, several on their way at once.
use super::verify::{self, Fetched};
use super::{Answer, Board, Need, SubmitError, Submitter, answer};
use crate::knowledge::Knowledge;
use model::{StorePath, limits};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Derivations in one question.
pub(super) const NEED_MAX: usize = 256;
/// Questions without an answer: their texts must fit into the windows of a connection whose other end is busy answering.
pub(super) const UNANSWERED_MAX: usize = 512;
/// With fewer unanswered than that, whatever is pending is asked for at once, however little.
const UNANSWERED_FEW: usize = 128;
/// Answers that are read in one go.
const BATCH_MAX: usize = 64;
/// Text of all derivations of one submission, in bytes.
const TEXT_BYTES_MAX: usize = 512 << 20;

/// Text that is kept of submissions that broke off, of all boards, in bytes.
const KEPT_BYTES_MAX: usize = 128 << 20;

/// Derivations by path.
type Fetches = HashMap<StorePath, Fetched>;
/// By board, oldest first.
type Boards = VecDeque<(Arc<str>, Fetches)>;

/// What came of submissions whose connection broke: their boards need not send it again. Known to nobody, recorded nowhere.
#[derive(Debug, Default)]
pub(super) struct Interrupted {
    kept: Mutex<Boards>,
}

impl Interrupted {
    fn kept(&self) -> MutexGuard<'_, Boards> {
        // Whole after every statement that changes it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, board: &str) -> Fetches {
        let mut kept = self.kept();
        let place = kept.iter().position(|(name, _)| &**name == board);
        place.and_then(|place| kept.remove(place)).map(|(_, fetched)| fetched).unwrap_or_default()
    }

    fn keep(&self, board: &str, fetched: Fetches) {
        let bytes = |fetched: &HashMap<_, Fetched>| fetched.values().map(Fetched::text_bytes).sum::<usize>();
        let mut kept = self.kept();
        kept.retain(|(name, _)| &**name != board);
        kept.push_back((Arc::from(board), fetched));
        while kept.iter().map(|(_, fetched)| bytes(fetched)).sum::<usize>() > KEPT_BYTES_MAX {
            kept.pop_front();
        }
    }
}

/// Which derivations are wanted, asked for, there.
#[derive(Default)]
struct Frontier {
    pending: VecDeque<StorePath>,
    seen: HashSet<StorePath>,
    unanswered: HashSet<StorePath>,
    fetched: Fetches,
    /// What an earlier submission of the board brought.
    kept: Fetches,
    text_bytes: usize,
}

impl Frontier {
    fn want(
        &mut self,
        paths: impl IntoIterator<Item = StorePath>,
        knowledge: &Knowledge,
    ) -> Result<(), SubmitError> {
        let mut paths: VecDeque<_> = paths.into_iter().collect();
        while let Some(path) = paths.pop_front() {
            if knowledge.derivation(&path).is_some() || !self.seen.insert(path.clone()) {
                continue;
            }
            if self.seen.len() > limits::PLAN_DERIVATIONS_MAX {
                return Err(SubmitError::TooLarge { what: "derivations", max: limits::PLAN_DERIVATIONS_MAX });
            }
            match self.kept.remove(&path) {
                Some(fetched) => {
                    paths.extend(fetched.inputs());
                    self.fetched.insert(path, fetched);
                }
                None => self.pending.push_back(path),
            }
        }
        Ok(())
    }

    /// What to ask for now.
    fn question(&mut self) -> Option<Vec<StorePath>> {
        let room = UNANSWERED_MAX - self.unanswered.len().min(UNANSWERED_MAX);
        let is_worthwhile = self.unanswered.len() < UNANSWERED_FEW || self.pending.len() >= NEED_MAX;
        let count = self.pending.len().min(NEED_MAX).min(room);
        if count == 0 || !is_worthwhile {
            return None;
        }
        let question: Vec<_> = self.pending.drain(..count).collect();
        self.unanswered.extend(question.iter().cloned());
        Some(question)
    }

    /// Takes an answer, if it is to a question.
    fn take(&mut self, answer: Answer) -> Result<(StorePath, Arc<[u8]>), SubmitError> {
        let (path, text) = match answer {
            Answer::Derivation(path, text) => (path, text),
            Answer::Unavailable(path, reason) => return Err(SubmitError::Unavailable { path, reason }),
            Answer::SourceUploaded(path) => return Err(SubmitError::Unsolicited(path)),
        };
        if !self.unanswered.remove(&path) {
            return Err(SubmitError::Unsolicited(path));
        }
        self.text_bytes = self.text_bytes.saturating_add(text.len());
        if self.text_bytes > TEXT_BYTES_MAX {
            return Err(SubmitError::TooLarge { what: "bytes of derivations", max: TEXT_BYTES_MAX });
        }
        Ok((path, text))
    }

    /// Asks and takes until nothing is wanted any more.
    async fn fill(&mut self, board: &mut impl Board, knowledge: &Knowledge) -> Result<(), SubmitError> {
        loop {
            while let Some(derivations) = self.question() {
                board.ask(Need { derivations, ..Need::default() }).await?;
            }
            if self.unanswered.is_empty() {
                return Ok(());
            }
            let mut texts = vec![self.take(answer(board, || false).await?)?];
            let mut ended = None;
            while texts.len() < BATCH_MAX
                && ended.is_none()
                && let Some(answer) = board.answer_at_hand()
            {
                match answer {
                    Ok(answer) => texts.push(self.take(answer)?),
                    Err(error) => ended = Some(error),
                }
            }
            let read = node::task::spawn_blocking("read derivations", move || {
                texts.into_iter().map(verify::read).collect::<Result<Vec<_>, _>>()
            });
            for (path, fetched) in read.await.map_err(|_| SubmitError::Gone)?? {
                self.want(fetched.inputs(), knowledge)?;
                self.fetched.insert(path, fetched);
            }
            if let Some(error) = ended {
                return Err(error);
            }
        }
    }
}

/// Fetches everything below the roots that is not known. Each text is parsed and has the hash of its path.
pub(super) async fn derivations(
    board: &mut impl Board,
    name: &str,
    roots: impl Iterator<Item = StorePath>,
    submitter: &Submitter,
) -> Result<Fetches, SubmitError> {
    let mut frontier = Frontier { kept: submitter.interrupted.take(name), ..Frontier::default() };
    frontier.want(roots, &submitter.knowledge)?;
    match frontier.fill(board, &submitter.knowledge).await {
        Ok(()) => Ok(frontier.fetched),
        Err(error) => {
            if error.is_link_lost() {
                submitter.interrupted.keep(name, frontier.fetched);
            }
            Err(error)
        }
    }
}
