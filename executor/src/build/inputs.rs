//! Brings the input closure of a lease into the store: parallel across paths, one flight a path, verified while unpacking.
use crate::blocking::blocking;
use crate::lease::{Input, Source};
use crate::rpc::download::{Download, DownloadError, Sources};
use crate::store::{SingleFlight, Store, StoreError};
use crate::tree::{self, TreeError, Unpacked};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};
use model::{ContentId, StorePath};
use node::exit::chain;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tracing::Instrument;

/// Paths fetched at once by one build.
const FETCHES_PER_BUILD_MAX: usize = 8;
/// Paths fetched at once by the whole executor.
const FETCHES_MAX: usize = 16;
/// Chunks between the network and the disk for one path.
const CHUNKS_IN_FLIGHT: usize = 8;
/// How long a source may send nothing before the next one is tried.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Why inputs are not here.
#[derive(Debug, Error)]
pub enum InputsError {
    /// No source had it whole and right.
    #[error("input '{path}' could not be fetched from any of its {sources} sources; the last one: {last}")]
    Missing {
        /// The input.
        path: StorePath,
        /// How many sources were named.
        sources: usize,
        /// What the last one did.
        last: String,
    },
    /// This machine's own trouble.
    #[error("cannot keep input '{path}'")]
    Store {
        /// The input.
        path: StorePath,
        /// Why not.
        source: StoreError,
    },
    /// No room on this machine.
    #[error("no room for input '{path}'")]
    OutOfDisk {
        /// The input.
        path: StorePath,
    },
}

/// Why one source did not give one path.
#[derive(Debug, Error)]
enum FetchError {
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("sent nothing for {} s", IDLE_MAX.as_secs())]
    Idle,
    #[error("offers other contents: {0}")]
    OtherContents(&'static str),
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Fetches inputs for all builds of the executor.
#[derive(Debug)]
pub struct Inputs {
    store: Arc<Store>,
    sources: Arc<dyn Sources>,
    flights: SingleFlight,
    fetches: Semaphore,
}

impl Inputs {
    /// Fetches into `store`.
    pub fn new(store: Arc<Store>, sources: Arc<dyn Sources>) -> Self {
        Self { store, sources, flights: SingleFlight::default(), fetches: Semaphore::new(FETCHES_MAX) }
    }

    /// Makes all inputs held; returns the bytes that had to be fetched.
    ///
    /// # Errors
    /// The first input that no source gives, or this machine's own trouble.
    pub async fn ensure(&self, inputs: &[Input]) -> Result<u64, InputsError> {
        let fetches: Vec<_> = inputs.iter().map(|input| self.ensure_one(input).boxed()).collect();
        let mut fetched = stream::iter(fetches).buffer_unordered(FETCHES_PER_BUILD_MAX);
        let mut bytes = 0u64;
        while let Some(one) = fetched.next().await {
            bytes = bytes.saturating_add(one?);
        }
        Ok(bytes)
    }

    async fn ensure_one(&self, input: &Input) -> Result<u64, InputsError> {
        let _turn = self.flights.turn(&input.id).await;
        if let Some(held) = self.store.get(&input.id) {
            if held.nar_sha256 == input.facts.nar_sha256 {
                return Ok(0);
            }
            // The cluster has decided on other bytes for this path: ours are of a build that lost.
            self.store
                .forget(&input.id)
                .map_err(|source| InputsError::Store { path: input.id.path.clone(), source })?;
        }
        // The semaphore is never closed.
        let _permit = self.fetches.acquire().await;
        let mut last = String::from("no source is known");
        let mut turns: VecDeque<_> = input.sources.iter().map(|source| (source, true)).collect();
        while let Some((source, is_first)) = turns.pop_front() {
            let span =
                tracing::info_span!("fetch", path = %input.id.path, %source, bytes = input.facts.nar_size);
            let partial = self
                .store
                .partial(&input.id)
                .map_err(|source| InputsError::Store { path: input.id.path.clone(), source })?;
            match self.fetch(input, source, partial.clone()).instrument(span).await {
                Ok(()) => return self.adopt(input, partial).await,
                Err(error) => {
                    remove_in_background(partial).await;
                    if matches!(&error, FetchError::Tree(tree) if tree.is_out_of_disk()) {
                        return Err(InputsError::OutOfDisk { path: input.id.path.clone() });
                    }
                    // A connection that was kept open may have been forgotten on its way: a new one is tried at last.
                    if is_first
                        && matches!(&error, FetchError::Download(download) if download.is_broken_connection())
                    {
                        turns.push_back((source, false));
                    }
                    last = format!("{source}: {}", chain(&error));
                    tracing::warn!(path = %input.id.path, %source, error = %last, "input not fetched");
                }
            }
        }
        Err(InputsError::Missing { path: input.id.path.clone(), sources: input.sources.len(), last })
    }

    async fn adopt(&self, input: &Input, partial: PathBuf) -> Result<u64, InputsError> {
        let (store, id, facts) = (self.store.clone(), input.id.clone(), input.facts.clone());
        match blocking(move || store.adopt(&id, facts, &partial)).await {
            Ok(_) => {
                self.store.fetched(&input.id);
                Ok(input.facts.nar_size)
            }
            Err(source) => Err(InputsError::Store { path: input.id.path.clone(), source }),
        }
    }

    /// Fetches one path from one source into `partial`; its bytes are then known to be right.
    async fn fetch(&self, input: &Input, source: &Source, partial: PathBuf) -> Result<(), FetchError> {
        let mut download = timed(self.sources.download(source, &input.id)).await??;
        self.check_offer(&input.id, input, &download)?;
        let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let size = input.facts.nar_size;
        let unpacking = node::task::spawn_waiting("unpack", move || {
            tree::unpack(&mut ChunkReader { receiver, current: Bytes::new() }, size, &partial)
        });
        let (forwarded, unpacked) = tokio::join!(forward(&mut download, sender), unpacking);
        // A failure of the source explains more than the cut-off archive that follows from it.
        forwarded?;
        let unpacked = unpacked.map_err(|_| FetchError::OtherContents("the unpacker ended early"))?;
        let expected = Unpacked { nar_sha256: input.facts.nar_sha256, nar_size: size };
        if unpacked? == expected {
            Ok(())
        } else {
            Err(FetchError::OtherContents("the bytes have another hash or size"))
        }
    }

    fn check_offer(&self, id: &ContentId, input: &Input, download: &Download) -> Result<(), FetchError> {
        let offered = &download.info;
        if offered.id.path != id.path {
            return Err(FetchError::OtherContents("another path"));
        }
        if offered.facts.nar_sha256 != input.facts.nar_sha256
            || offered.facts.nar_size != input.facts.nar_size
        {
            return Err(FetchError::OtherContents("another hash or size"));
        }
        Ok(())
    }
}

async fn timed<T>(future: impl Future<Output = T>) -> Result<T, FetchError> {
    tokio::time::timeout(IDLE_MAX, future).await.map_err(|_| FetchError::Idle)
}

/// Passes chunks on until the source ends or the unpacker stops.
async fn forward(download: &mut Download, sender: mpsc::Sender<io::Result<Bytes>>) -> Result<(), FetchError> {
    loop {
        match timed(download.chunks.next()).await {
            Ok(Some(Ok(chunk))) => {
                // The unpacker has stopped: its own error says why.
                if sender.send(Ok(chunk)).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => {
                let _ = sender.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                return Err(error.into());
            }
            Err(idle) => {
                let _ = sender.send(Err(io::ErrorKind::TimedOut.into())).await;
                return Err(idle);
            }
        }
    }
}

/// The chunks of a channel as a blocking reader.
struct ChunkReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

async fn remove_in_background(partial: PathBuf) {
    if let Err(error) = blocking(move || tree::remove(&partial)).await {
        tracing::warn!(%error, "a half-fetched input stays until the next start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use model::{PathFacts, TrustDomain};
    use nix_formats::hash::sha256;
    use nix_formats::nar::{Encoder, Event};
    use proto::convert::SignedPathInfo;
    use std::sync::Mutex;

    /// A source whose connections break so many times, in the middle.
    #[derive(Debug)]
    struct Breaking {
        info: SignedPathInfo,
        nar: Vec<u8>,
        breaks: Mutex<usize>,
    }

    #[tonic::async_trait]
    impl Sources for Breaking {
        async fn download(&self, _source: &Source, _id: &ContentId) -> Result<Download, DownloadError> {
            let mut breaks = self.breaks.lock().unwrap();
            let breaks_now = *breaks > 0;
            *breaks = breaks.saturating_sub(1);
            let chunks = if breaks_now {
                let half = Bytes::copy_from_slice(&self.nar[..self.nar.len() / 2]);
                vec![Ok(half), Err(tonic::Status::unavailable("unplugged").into())]
            } else {
                vec![Ok(Bytes::copy_from_slice(&self.nar))]
            };
            Ok(Download { info: self.info.clone(), chunks: stream::iter(chunks).boxed() })
        }
    }

    async fn check(breaks: usize, fetched: bool) {
        let (mut encoder, mut nar) = (Encoder::new(), Vec::new());
        for event in
            [Event::File { is_executable: false, size: 5 }, Event::Contents(b"input"), Event::FileEnd]
        {
            encoder.write(event, &mut nar);
        }
        let path = StorePath::from_validated("/nix/store/w51084ksv60sy0fkcb9hz4rxv8rv2avb-input");
        let id = ContentId { domain: TrustDomain::Shared, path };
        let facts = PathFacts {
            nar_sha256: sha256(&nar),
            nar_size: nar.len() as u64,
            references: Vec::new(),
            deriver: None,
            content_address: None,
        };
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path(), false).unwrap());
        let info = SignedPathInfo { id: id.clone(), facts: facts.clone(), signatures: Vec::new() };
        let inputs = Inputs::new(store, Arc::new(Breaking { info, nar, breaks: Mutex::new(breaks) }));
        let input = Input { id, facts, sources: vec![Source::ContentStore] };
        assert_eq!(inputs.ensure(&[input]).await.is_ok(), fetched, "{breaks}");
    }

    #[tokio::test]
    async fn a_source_whose_connection_broke_is_asked_once_more() {
        check(0, true).await;
        check(1, true).await;
        check(2, false).await;
    }
}
