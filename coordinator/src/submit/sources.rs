//! The sources of a plan: what the content store lacks is asked for, with everything that it refers to.
use super::fetch::{NEED_MAX, UNANSWERED_MAX};
use super::plan::resolve;
use super::receive::{UploadError, Wants};
use super::{Answer, Board, Need, SubmitError, Submitter, answer};
use crate::knowledge::{ContentFacts, KnowledgeError, KnownDerivation};
use crate::paths;
use bytes::Bytes;
use model::{ContentId, PathFacts, StorePath, TrustDomain};
use nix_formats::content_address::ContentAddress;
use nix_formats::hash::sha256;
use nix_formats::nar::{Encoder, Event};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Sources of one plan, with everything that they refer to.
const SOURCES_MAX: usize = 200_000;

type Found = HashMap<StorePath, (ContentId, Arc<ContentFacts>)>;

/// Brings all sources, with everything that they refer to, into the content store; says in which domain each one is.
pub(super) async fn collect(
    board: &mut impl Board,
    name: &str,
    needed: impl Iterator<Item = StorePath>,
    submitter: &Submitter,
) -> Result<HashMap<StorePath, ContentId>, SubmitError> {
    let mut search = Search::new(name, submitter);
    let mut wants = Wants::none(submitter.uploads.clone(), name);
    for path in needed {
        search.want(&path)?;
    }
    loop {
        search.look().await?;
        while let Some(sources) = search.question() {
            sources.iter().for_each(|path| wants.add(path));
            board.ask(Need { sources, ..Need::default() }).await?;
        }
        if search.unanswered.is_empty() {
            break;
        }
        match answer(board, || submitter.uploads.is_busy(name)).await? {
            Answer::SourceUploaded(path) => search.arrived(path)?,
            Answer::Unavailable(path, reason) => return Err(SubmitError::Unavailable { path, reason }),
            Answer::Derivation(path, _) => return Err(SubmitError::Unsolicited(path)),
        }
    }
    settle(search.found, submitter).await
}

struct Search<'a> {
    board: &'a str,
    submitter: &'a Submitter,
    seen: HashSet<StorePath>,
    to_look_at: Vec<StorePath>,
    pending: VecDeque<StorePath>,
    unanswered: HashSet<StorePath>,
    found: Found,
}

impl<'a> Search<'a> {
    fn new(board: &'a str, submitter: &'a Submitter) -> Self {
        Self {
            board,
            submitter,
            seen: HashSet::new(),
            to_look_at: Vec::new(),
            pending: VecDeque::new(),
            unanswered: HashSet::new(),
            found: HashMap::new(),
        }
    }

    fn want(&mut self, path: &StorePath) -> Result<(), SubmitError> {
        if self.seen.insert(path.clone()) {
            self.to_look_at.push(path.clone());
        }
        if self.seen.len() > SOURCES_MAX {
            return Err(SubmitError::TooLarge { what: "sources", max: SOURCES_MAX });
        }
        Ok(())
    }

    /// Takes what is in the content store.
    fn find(&mut self, path: &StorePath) -> Result<bool, SubmitError> {
        let Submitter { knowledge, store, .. } = self.submitter;
        let Some((id, known)) = resolve(knowledge, &**store, self.board, path) else { return Ok(false) };
        for reference in &known.facts.references {
            self.want(reference)?;
        }
        self.found.insert(path.clone(), (id, known));
        Ok(true)
    }

    /// Sorts what was not looked at into found and pending.
    async fn look(&mut self) -> Result<(), SubmitError> {
        while let Some(path) = self.to_look_at.pop() {
            if self.find(&path)? {
                continue;
            }
            // A `.drv` file as a source: its text is known, no board needs to send it again.
            match self.submitter.knowledge.derivation(&path) {
                Some(derivation) => {
                    keep_text(self.board, &path, &derivation, self.submitter).await?;
                    self.to_look_at.push(path);
                }
                None => self.pending.push_back(path),
            }
        }
        Ok(())
    }

    fn question(&mut self) -> Option<Vec<StorePath>> {
        let room = UNANSWERED_MAX - self.unanswered.len().min(UNANSWERED_MAX);
        let count = self.pending.len().min(NEED_MAX).min(room);
        let question: Vec<_> = self.pending.drain(..count).collect();
        self.unanswered.extend(question.iter().cloned());
        (!question.is_empty()).then_some(question)
    }

    fn arrived(&mut self, path: StorePath) -> Result<(), SubmitError> {
        if !self.unanswered.remove(&path) {
            return Err(SubmitError::Unsolicited(path));
        }
        if self.find(&path)? { Ok(()) } else { Err(SubmitError::NotUploaded(path)) }
    }
}

/// Puts the text of a known derivation into the content store.
async fn keep_text(
    board: &str,
    path: &StorePath,
    derivation: &KnownDerivation,
    submitter: &Submitter,
) -> Result<(), SubmitError> {
    let (mut encoder, mut nar, text) = (Encoder::new(), Vec::new(), &*derivation.text);
    let size = text.len() as u64;
    for event in [Event::File { is_executable: false, size }, Event::Contents(text), Event::FileEnd] {
        encoder.write(event, &mut nar);
    }
    let inputs = derivation.inputs.iter().map(|(path, _)| path);
    let mut references: Vec<_> = inputs.chain(&derivation.sources).cloned().collect();
    references.sort();
    references.dedup();
    let facts = PathFacts {
        nar_sha256: sha256(&nar),
        nar_size: nar.len() as u64,
        references,
        deriver: None,
        content_address: Some(ContentAddress::Text(sha256(text)).to_string()),
    };
    let kept = async {
        let mut receiving = submitter.uploads.receive(board, path.clone(), facts).await?;
        receiving.write(Bytes::from(nar)).await?;
        receiving.finish().await
    };
    match kept.await {
        Ok(_) => Ok(()),
        Err(UploadError::Journal(error)) => Err(error.into()),
        Err(UploadError::Store(error)) => Err(error.into()),
        Err(error) => Err(SubmitError::Malformed(node::exit::chain(&error))),
    }
}

/// Gives every source the domain that it deserves now that all are there: one whose bytes have the hash of its path, and that
/// refers to shared content only, is shared.
async fn settle(found: Found, submitter: &Submitter) -> Result<HashMap<StorePath, ContentId>, SubmitError> {
    let mut settled = HashMap::<StorePath, ContentId>::with_capacity(found.len());
    let mut changed = Vec::new();
    for path in references_first(&found)? {
        let Some((id, known)) = found.get(&path) else { continue };
        let others = known.facts.references.iter().filter(|&reference| *reference != path);
        let references: Vec<_> = others.filter_map(|reference| settled.get(reference)).cloned().collect();
        let is_shared = id.domain == TrustDomain::Shared
            || known.facts.content_address.is_some()
                && references.iter().all(|reference| reference.domain == TrustDomain::Shared);
        let new_id = if is_shared {
            ContentId { domain: TrustDomain::Shared, path: path.clone() }
        } else {
            id.clone()
        };
        if new_id != *id {
            let (store, from, to) = (submitter.store.clone(), paths::blob_id(id)?, paths::blob_id(&new_id)?);
            let shared = node::task::spawn_blocking("share", move || store.share(&from, &to));
            shared.await.map_err(|_| SubmitError::Gone)??;
        }
        if new_id != *id || (id.domain != TrustDomain::Shared && references != known.references) {
            changed.push((new_id.clone(), ContentFacts { facts: known.facts.clone(), references }));
        }
        settled.insert(path, new_id);
    }
    submitter.uploads.remember(changed).await?;
    Ok(settled)
}

/// References before referrers; what refers to itself through others is no store object.
fn references_first(found: &Found) -> Result<Vec<StorePath>, SubmitError> {
    let (mut order, mut done, mut open) = (Vec::with_capacity(found.len()), HashSet::new(), HashSet::new());
    for (root, (id, known)) in found {
        let mut levels = Vec::new();
        if !done.contains(root) {
            open.insert(root);
            levels.push((root, id, known, 0));
        }
        while let Some((path, _, known, next)) = levels.last_mut() {
            let Some(reference) = known.facts.references.get(*next) else {
                open.remove(*path);
                done.insert(*path);
                order.push((*path).clone());
                levels.pop();
                continue;
            };
            *next += 1;
            if reference == *path || done.contains(reference) {
                continue;
            }
            let Some((reference, (id, known))) = found.get_key_value(reference) else { continue };
            if !open.insert(reference) {
                return Err(SubmitError::Sources(KnowledgeError::ReferenceCycle(id.clone())));
            }
            levels.push((reference, id, known, 0));
        }
    }
    Ok(order)
}
