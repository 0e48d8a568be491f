//! The Blobs service of an executor: Download and Missing, from its own store, for executors and the coordinator.
use crate::store::{Pins, Store};
use crate::tree;
use bytes::Bytes;
use model::{ContentId, limits};
use proto::convert::path_info;
use proto::v1;
use proto::v1::blobs_server::Blobs;
use proto::v1::download_response::Part;
use std::io;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// NARs served at once; more wait.
const DOWNLOADS_MAX: usize = 32;
/// Chunks of one NAR between the disk and the network.
const CHUNKS_IN_FLIGHT: usize = 4;
/// Ids in one question.
const MISSING_MAX: usize = 4096;

/// Serves what a store holds.
#[derive(Debug)]
pub struct BlobsService {
    store: Arc<Store>,
    downloads: Arc<Semaphore>,
}

impl BlobsService {
    /// Serves from `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, downloads: Arc::new(Semaphore::new(DOWNLOADS_MAX)) }
    }
}

type Parts = mpsc::Sender<Result<v1::DownloadResponse, Status>>;

fn response(part: Part) -> v1::DownloadResponse {
    v1::DownloadResponse { part: Some(part) }
}

#[tonic::async_trait]
impl Blobs for BlobsService {
    type DownloadStream = ReceiverStream<Result<v1::DownloadResponse, Status>>;
    type ClosureStream = ReceiverStream<Result<v1::ClosureResponse, Status>>;

    async fn missing(
        &self,
        request: Request<v1::MissingRequest>,
    ) -> Result<Response<v1::MissingResponse>, Status> {
        let ids = request.into_inner().ids;
        if ids.len() > MISSING_MAX {
            return Err(Status::invalid_argument(format!("{} ids are more than {MISSING_MAX}", ids.len())));
        }
        let mut missing = Vec::new();
        for wire in ids {
            let id: ContentId = wire.try_into()?;
            if self.store.get(&id).is_none() {
                missing.push(v1::ContentId::from(&id));
            }
        }
        Ok(Response::new(v1::MissingResponse { ids: missing }))
    }

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let request = request.into_inner();
        let id: ContentId = request
            .id
            .ok_or_else(|| Status::invalid_argument("field `id` of a message: is missing"))?
            .try_into()?;
        // It stays while it is read, and it was used.
        let pins = Pins::new(&self.store, [&id]);
        let facts = self.store.get(&id).ok_or_else(|| {
            Status::not_found(format!("'{}' is not held in domain '{}'", id.path, id.domain))
        })?;
        if request.offset > facts.nar_size {
            return Err(Status::out_of_range(format!("'{}' has {} bytes", id.path, facts.nar_size)));
        }
        let chunk_bytes_max = match usize::try_from(request.chunk_bytes_max) {
            Ok(wanted) if wanted > 0 => wanted.min(limits::CLUSTER_CHUNK_BYTES_MAX),
            _ => limits::CLUSTER_CHUNK_BYTES_MAX,
        };
        let permit = self
            .downloads
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Status::unavailable("the executor is stopping"))?;
        let (parts, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let info = path_info(&id, &facts);
        let tree = self.store.tree(&id);
        node::task::spawn_waiting("download", move || {
            let _in_use = (permit, pins);
            if parts.blocking_send(Ok(response(Part::Info(info)))).is_err() {
                return;
            }
            let mut skipping = Skipping { left: request.offset, parts: &parts, chunk_bytes_max };
            if let Err(error) = tree::dump(&tree, &mut |bytes| skipping.pass_on(bytes)) {
                let stopped = matches!(error, tree::TreeError::Sink { .. });
                if !stopped {
                    tracing::error!(path = %id.path, error = node::exit::chain(&error), "cannot read a held path");
                    let _ =
                        parts.blocking_send(Err(Status::data_loss(format!("'{}' cannot be read", id.path))));
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn upload(
        &self,
        _request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        Err(Status::permission_denied("an executor takes no uploads"))
    }

    async fn closure(
        &self,
        _request: Request<v1::ClosureRequest>,
    ) -> Result<Response<Self::ClosureStream>, Status> {
        Err(Status::permission_denied("ask the coordinator for closures"))
    }
}

/// Leaves out the first bytes, cuts the rest into chunks.
struct Skipping<'a> {
    left: u64,
    parts: &'a Parts,
    chunk_bytes_max: usize,
}

impl Skipping<'_> {
    fn pass_on(&mut self, bytes: &[u8]) -> io::Result<()> {
        let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= u64::try_from(skipped).unwrap_or(0);
        for chunk in bytes[skipped..].chunks(self.chunk_bytes_max) {
            let part = response(Part::Chunk(Bytes::copy_from_slice(chunk)));
            self.parts.blocking_send(Ok(part)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }
}
