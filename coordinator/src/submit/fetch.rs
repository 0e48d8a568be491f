//! The derivations that are not known, root first: asked for in batches, several on their way at once.
use super::verify::{self, Fetched};
use super::{Answer, Board, Need, SubmitError, answer};
use crate::knowledge::Knowledge;
use model::{StorePath, limits};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

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

/// Which derivations are wanted, asked for, there.
#[derive(Default)]
struct Frontier {
    pending: VecDeque<StorePath>,
    seen: HashSet<StorePath>,
    unanswered: HashSet<StorePath>,
    fetched: HashMap<StorePath, Fetched>,
    text_bytes: usize,
}

impl Frontier {
    fn want(&mut self, path: &StorePath, knowledge: &Knowledge) -> Result<(), SubmitError> {
        if knowledge.derivation(path).is_some() || !self.seen.insert(path.clone()) {
            return Ok(());
        }
        if self.seen.len() > limits::PLAN_DERIVATIONS_MAX {
            return Err(SubmitError::TooLarge { what: "derivations", max: limits::PLAN_DERIVATIONS_MAX });
        }
        self.pending.push_back(path.clone());
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
}

/// Fetches everything below the roots that is not known. Each text is parsed and has the hash of its path.
pub(super) async fn derivations(
    board: &mut impl Board,
    roots: impl Iterator<Item = StorePath>,
    knowledge: &Arc<Knowledge>,
) -> Result<HashMap<StorePath, Fetched>, SubmitError> {
    let mut frontier = Frontier::default();
    for root in roots {
        frontier.want(&root, knowledge)?;
    }
    loop {
        while let Some(derivations) = frontier.question() {
            board.ask(Need { derivations, ..Need::default() }).await?;
        }
        if frontier.unanswered.is_empty() {
            return Ok(frontier.fetched);
        }
        let mut texts = vec![frontier.take(answer(board, || false).await?)?];
        while texts.len() < BATCH_MAX
            && let Some(answer) = board.answer_at_hand()
        {
            texts.push(frontier.take(answer?)?);
        }
        let read = node::task::spawn_blocking("read derivations", move || {
            texts.into_iter().map(verify::read).collect::<Result<Vec<_>, _>>()
        });
        for (path, fetched) in read.await.map_err(|_| SubmitError::Gone)?? {
            for input in fetched.inputs() {
                frontier.want(&input, knowledge)?;
            }
            frontier.fetched.insert(path, fetched);
        }
    }
}
