//! Pulls from executors over mutual TLS: verified, resumed, from whoever has it right.
use crate::graph::{Source, source};
use bytes::Bytes;
use cas::{BlobId, ContentStore, Domain, MemoryStore};
use coordinator::knowledge::{ContentFacts, Knowledge};
use coordinator::pull::{PullSource, Pulled, Puller};
use model::{ContentId, ExecutorName, PathFacts, StorePath, TrustDomain};
use node::testing::Authority;
use node::tls::{Role, ServerTls, ServerWindows, incoming};
use proto::v1;
use proto::v1::blobs_server::{Blobs, BlobsServer};
use proto::v1::download_response::Part;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Iter;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

type Items<T> = Iter<std::vec::IntoIter<Result<T, Status>>>;

/// An executor's data server that holds one NAR, or something like it.
#[derive(Clone)]
struct Executor {
    info: v1::PathInfo,
    nar: Vec<u8>,
    /// It breaks off there.
    breaks_at: Option<usize>,
    /// But only the first time.
    heals: bool,
    /// Offsets that it was asked for.
    asked: Arc<Mutex<Vec<u64>>>,
}

impl Executor {
    fn with(source: &Source) -> Self {
        Self {
            info: source.info.clone(),
            nar: source.nar.clone(),
            breaks_at: None,
            heals: false,
            asked: Arc::default(),
        }
    }

    /// Serves under a name; the certificate may carry another.
    async fn serve(&self, lab: &Lab, name: &str, certified: &str) -> PullSource {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tls = ServerTls::new(lab.authority.issue(Role::Executor, certified).unwrap()).unwrap();
        let server =
            ServerWindows::default().apply(Server::builder()).add_service(BlobsServer::new(self.clone()));
        node::task::spawn("executor", server.serve_with_incoming(incoming(listener, tls)));
        PullSource { name: ExecutorName(name.into()), address }
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl Blobs for Executor {
    type DownloadStream = Items<v1::DownloadResponse>;
    type ClosureStream = Items<v1::ClosureResponse>;

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let offset = request.get_ref().offset;
        let is_first = self.asked().is_empty();
        self.asked.lock().unwrap().push(offset);
        let breaks_at = self.breaks_at.filter(|_| is_first || !self.heals);
        let end = breaks_at.unwrap_or(self.nar.len());
        let begin = usize::try_from(offset).unwrap().min(end);
        let chunks =
            self.nar[begin..end].chunks(1000).map(|chunk| Part::Chunk(Bytes::copy_from_slice(chunk)));
        let parts = std::iter::once(Part::Info(self.info.clone())).chain(chunks);
        let mut items: Vec<_> = parts.map(|part| Ok(v1::DownloadResponse { part: Some(part) })).collect();
        if breaks_at.is_some() {
            items.push(Err(Status::unavailable("unplugged")));
        }
        Ok(Response::new(tokio_stream::iter(items)))
    }

    async fn missing(&self, _: Request<v1::MissingRequest>) -> Result<Response<v1::MissingResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn upload(
        &self,
        _: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn closure(&self, _: Request<v1::ClosureRequest>) -> Result<Response<Self::ClosureStream>, Status> {
        Err(Status::unimplemented("not asked"))
    }
}

/// A coordinator's side: what is known, where it goes.
struct Lab {
    _directory: TempDir,
    authority: Authority,
    store: Arc<dyn ContentStore>,
    puller: Puller,
    ended: mpsc::Receiver<Pulled>,
}

impl Lab {
    fn knowing(source: &Source) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path()).unwrap();
        let knowledge = Arc::new(Knowledge::default());
        let facts = PathFacts {
            nar_sha256: source.info.nar_sha256.as_ref().try_into().unwrap(),
            nar_size: source.info.nar_size,
            references: Vec::new(),
            deriver: None,
            content_address: None,
        };
        knowledge.insert_content(id(source), ContentFacts { facts, references: Vec::new() });
        let store: Arc<dyn ContentStore> = Arc::new(MemoryStore::default());
        let files = authority.issue(Role::Coordinator, "coordinator").unwrap();
        let (sender, ended) = mpsc::channel(4);
        let puller = Puller::new(knowledge, store.clone(), files, sender);
        Self { _directory: directory, authority, store, puller, ended }
    }

    async fn pull(&mut self, content: &ContentId, from: &[&PullSource]) -> Pulled {
        self.puller.pull(content.clone(), from.iter().map(|source| (*source).clone()).collect());
        self.ended.recv().await.unwrap()
    }

    fn held(&self, source: &Source) -> bool {
        let path = crate::graph::base(&source.path);
        self.store.get(&BlobId { domain: Domain::Shared, path }).is_some()
    }
}

fn id(source: &Source) -> ContentId {
    ContentId { domain: TrustDomain::Shared, path: StorePath::from_validated(&source.path) }
}

fn failed(content: &ContentId, from: &[&str]) -> Pulled {
    let from = from.iter().map(|name| ExecutorName((*name).into())).collect();
    Pulled::Failed { content: content.clone(), from }
}

fn output() -> Source {
    source("output", &b"0123456789".repeat(1000))
}

#[tokio::test]
async fn a_broken_stream_goes_on_at_the_next_executor() {
    let output = output();
    let mut lab = Lab::knowing(&output);
    let (mut broken, whole) = (Executor::with(&output), Executor::with(&output));
    broken.breaks_at = Some(5000);
    let (one, two) = (broken.serve(&lab, "x1", "x1").await, whole.serve(&lab, "x2", "x2").await);
    assert_eq!(lab.pull(&id(&output), &[&one, &two]).await, Pulled::Stored(id(&output)));
    assert_eq!((broken.asked(), whole.asked()), (vec![0], vec![5000]));
    assert!(lab.held(&output));
    // What is there is not fetched again.
    assert_eq!(lab.pull(&id(&output), &[&one]).await, Pulled::Stored(id(&output)));
    assert_eq!(broken.asked(), [0]);
}

#[tokio::test]
async fn an_executor_whose_connection_broke_is_asked_once_more() {
    let output = output();
    let mut lab = Lab::knowing(&output);
    let mut executor = Executor::with(&output);
    (executor.breaks_at, executor.heals) = (Some(5000), true);
    let only = executor.serve(&lab, "x1", "x1").await;
    assert_eq!(lab.pull(&id(&output), &[&only]).await, Pulled::Stored(id(&output)));
    assert_eq!(executor.asked(), [0, 5000]);
    // Not for ever.
    let unplugged = Executor { heals: false, ..executor };
    let mut lab = Lab::knowing(&output);
    let only = unplugged.serve(&lab, "x1", "x1").await;
    assert_eq!(lab.pull(&id(&output), &[&only]).await, failed(&id(&output), &["x1"]));
    assert_eq!(unplugged.asked(), [0, 5000, 0, 5000]);
}

#[tokio::test]
async fn wrong_bytes_are_never_stored_and_the_right_ones_are_found() {
    let output = output();
    let mut lab = Lab::knowing(&output);
    let (mut liar, mut broken, whole) =
        (Executor::with(&output), Executor::with(&output), Executor::with(&output));
    liar.nar[4000] ^= 1;
    let x1 = liar.serve(&lab, "x1", "x1").await;
    assert_eq!(lab.pull(&id(&output), &[&x1]).await, failed(&id(&output), &["x1"]));
    assert!(!lab.held(&output));
    // The first half is wrong, the second right: each of both gets its chance alone.
    liar.breaks_at = Some(5000);
    broken.breaks_at = Some(0);
    let (x1, x2) = (liar.serve(&lab, "x1", "x1").await, whole.serve(&lab, "x2", "x2").await);
    let x3 = broken.serve(&lab, "x3", "x3").await;
    assert_eq!(lab.pull(&id(&output), &[&x3, &x1, &x2]).await, Pulled::Stored(id(&output)));
    assert_eq!(whole.asked(), [5000, 0]);
    assert!(lab.held(&output));
}

#[tokio::test]
async fn who_does_not_give_it_is_named() {
    let output = output();
    let mut lab = Lab::knowing(&output);
    let content = id(&output);
    let (mut short, mut long, mut other) =
        (Executor::with(&output), Executor::with(&output), Executor::with(&output));
    short.nar.truncate(5000);
    long.nar.extend([0; 8]);
    other.info.nar_size += 8;
    let sources = [
        short.serve(&lab, "short", "short").await,
        long.serve(&lab, "long", "long").await,
        other.serve(&lab, "other", "other").await,
        Executor::with(&output).serve(&lab, "named", "another").await,
        PullSource { name: ExecutorName("down".into()), address: "127.0.0.1:1".into() },
    ];
    for source in &sources {
        assert_eq!(lab.pull(&content, &[source]).await, failed(&content, &[&source.name.0]));
        assert!(!lab.held(&output));
    }
    let all: Vec<_> = sources.iter().collect();
    let names: Vec<_> = sources.iter().map(|source| &*source.name.0).collect();
    assert_eq!(lab.pull(&content, &all).await, failed(&content, &names));
    assert_eq!(lab.pull(&content, &[]).await, failed(&content, &[]));
    let unknown = source("unknown", b"unknown");
    let right = Executor::with(&unknown).serve(&lab, "right", "right").await;
    assert_eq!(
        lab.pull(&id(&unknown), &[&right]).await,
        failed(&id(&unknown), &[]),
        "nothing to verify it by, which is no holder's fault"
    );
}
