//! Pulls: content that executors hold comes into the content store (decision 001), verified against what is recorded.
use crate::content::remove_unknown;
use crate::knowledge::{ContentFacts, Knowledge};
use crate::paths;
use crate::rpc::download::{DownloadError, Peers};
use bytes::Bytes;
use cas::{Announced, CasError, ContentStore, Upload};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use model::{ContentId, ExecutorName};
use node::task::Tasks;
use node::tls::TlsFiles;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tracing::Instrument as _;

/// NARs pulled at once.
const PULLS_MAX: usize = 8;
/// An executor that sends nothing for so long is given up.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// How a pull ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pulled {
    /// The content store has it.
    Stored(ContentId),
    /// None of these gave it.
    Failed {
        /// What was wanted.
        content: ContentId,
        /// Who was asked; empty when the trouble is the content store's own.
        from: Vec<ExecutorName>,
    },
}

/// Where an executor serves what it holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PullSource {
    /// The name that its certificate must carry.
    pub name: ExecutorName,
    /// `host:port`.
    pub address: String,
}

/// Why one executor did not give what was wanted.
#[derive(Debug, Error)]
enum PullError {
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("nothing came for {} s", IDLE_MAX.as_secs())]
    Idle,
    #[error("it offers other contents than are recorded")]
    OtherContents,
    #[error(transparent)]
    Store(#[from] CasError),
    #[error("nothing is known about it")]
    Unknown,
}

/// Fetches what the engine wants in the content store, a few at once.
#[derive(Debug)]
pub struct Puller {
    shared: Arc<Shared>,
    tasks: Mutex<Tasks>,
}

#[derive(Debug)]
struct Shared {
    knowledge: Arc<Knowledge>,
    store: Arc<dyn ContentStore>,
    peers: Peers,
    permits: Semaphore,
    ended: mpsc::Sender<Pulled>,
}

impl Puller {
    /// Reaches executors with these certificates; says to `ended` how each pull ended. Dropping it ends all pulls.
    pub fn new(
        knowledge: Arc<Knowledge>,
        store: Arc<dyn ContentStore>,
        files: TlsFiles,
        ended: mpsc::Sender<Pulled>,
    ) -> Self {
        let permits = Semaphore::new(PULLS_MAX);
        let shared = Arc::new(Shared { knowledge, store, peers: Peers::new(files), permits, ended });
        Self { shared, tasks: Mutex::default() }
    }

    /// Begins to pull, best source first. Never waits.
    pub fn pull(&self, content: ContentId, from: Vec<PullSource>) {
        let shared = self.shared.clone();
        let span = tracing::info_span!("pull", path = %content.path, domain = %content.domain);
        let work = async move {
            // Never closed.
            let _permit = shared.permits.acquire().await;
            let from_names = from.iter().map(|source| source.name.clone()).collect();
            let pulled = match shared.fetch(&content, from).await {
                Fetched::Stored => Pulled::Stored(content),
                Fetched::NobodyGaveIt => Pulled::Failed { content, from: from_names },
                Fetched::OwnTrouble => Pulled::Failed { content, from: Vec::new() },
            };
            // The engine has stopped: nobody asks any more.
            let _stopped = shared.ended.send(pulled).await;
        };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn("pull", work.instrument(span));
    }
}

/// How all sources together did.
enum Fetched {
    Stored,
    NobodyGaveIt,
    /// A full disk here, say: no holder is to blame.
    OwnTrouble,
}

/// What has come of a NAR so far.
#[derive(Default)]
struct Progress {
    /// The session with the content store, and how many bytes it has.
    session: Option<(Upload, u64)>,
    /// Whose bytes these are.
    from: Vec<PullSource>,
}

/// Which try of a source it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Try {
    First,
    /// The connection that was kept open for it had been forgotten on its way, say.
    Again,
    /// From the first byte on, without help of others.
    Alone,
}

impl Shared {
    /// Tries one source after the other; a broken stream goes on from the next one where it stopped, at last from the same.
    async fn fetch(&self, content: &ContentId, from: Vec<PullSource>) -> Fetched {
        let mut progress = Progress::default();
        let mut sources: VecDeque<_> = from.into_iter().map(|source| (source, Try::First)).collect();
        while let Some((source, which)) = sources.pop_front() {
            if which == Try::Alone {
                progress = Progress::default();
            }
            let error = match self.fetch_from(content, &source, &mut progress).await {
                Ok(()) => return Fetched::Stored,
                Err(error) => error,
            };
            let text = node::exit::chain(&error);
            tracing::warn!(path = %content.path, executor = %source.name, error = text, "not pulled");
            match error {
                // Who of several sent the wrong part cannot be known: each may try alone.
                PullError::Store(error) if error.is_wrong_content() => {
                    let Progress { from, .. } = std::mem::take(&mut progress);
                    if from.len() > 1 && which != Try::Alone {
                        sources.extend(from.into_iter().map(|source| (source, Try::Alone)));
                    }
                }
                // This machine's trouble is not another executor's to solve.
                PullError::Store(_) | PullError::Unknown => return Fetched::OwnTrouble,
                PullError::Download(error) if which == Try::First && error.is_broken_connection() => {
                    sources.push_back((source, Try::Again));
                }
                PullError::Download(_) | PullError::Idle | PullError::OtherContents => {}
            }
        }
        Fetched::NobodyGaveIt
    }

    async fn fetch_from(
        &self,
        content: &ContentId,
        source: &PullSource,
        progress: &mut Progress,
    ) -> Result<(), PullError> {
        let known = self.knowledge.content(content).ok_or(PullError::Unknown)?;
        if crate::submit::held(&*self.store, content, &known) {
            return Ok(());
        }
        let blob = paths::blob_id(content).map_err(|_| PullError::Unknown)?;
        let session = match progress.session.take() {
            Some(session) => session,
            None => {
                let (knowledge, store, id) = (self.knowledge.clone(), self.store.clone(), content.clone());
                let removed =
                    node::task::spawn_blocking("remove", move || remove_unknown(&knowledge, &*store, &id));
                removed.await.unwrap_or(Ok(()))?;
                (Upload::begin(self.store.clone(), blob, announced(&known)).await?, 0)
            }
        };
        let (upload, offset) = progress.session.insert(session);
        let asked = timed(self.peers.download(source, content, *offset)).await??;
        let (info, mut chunks): (_, BoxStream<'static, Result<Bytes, DownloadError>>) = asked;
        let facts = &known.facts;
        if info.id.path != content.path
            || info.facts.nar_sha256 != facts.nar_sha256
            || info.facts.nar_size != facts.nar_size
        {
            return Err(PullError::OtherContents);
        }
        while let Some(chunk) = timed(chunks.next()).await? {
            let chunk = chunk?;
            if progress.from.last() != Some(source) {
                progress.from.push(source.clone());
            }
            *offset += chunk.len() as u64;
            upload.write(chunk).await?;
        }
        if *offset < facts.nar_size {
            return Err(DownloadError::Cut { at_byte: *offset }.into());
        }
        if let Some((upload, _)) = progress.session.take() {
            upload.commit().await?;
        }
        Ok(())
    }
}

/// Executors' outputs are verified by the hash that was recorded when they were built.
fn announced(known: &ContentFacts) -> Announced {
    Announced {
        nar_sha256: known.facts.nar_sha256,
        nar_size: known.facts.nar_size,
        content_address: None,
        refers_to_itself: false,
    }
}

async fn timed<T>(future: impl Future<Output = T>) -> Result<T, PullError> {
    tokio::time::timeout(IDLE_MAX, future).await.map_err(|_| PullError::Idle)
}
