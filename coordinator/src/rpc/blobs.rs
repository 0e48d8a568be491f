//! The wire of the Blobs service: what is missing, uploads of boards, downloads and closures from the content store, signed.
use crate::content::{Contents, LookupError};
use crate::submit::{UploadError, Uploads};
use cas::Chunks;
use model::{ContentId, PathFacts, limits};
use node::tls::{PeerIdentity, Role};
use proto::chunk::{Chunk, Packer, Unpacker};
use proto::convert::{SignedPathInfo, WireError, path_info};
use proto::v1;
use proto::v1::blobs_server::Blobs;
use proto::v1::download_response::Part;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

/// Ids in one question.
const IDS_MAX: usize = 4096;
/// Chunks of one NAR between the disk and the network.
const CHUNKS_IN_FLIGHT: usize = 4;
/// Path information in one message.
const INFOS_MAX: usize = 256;
/// References in one message, more only when one path has more.
const REFERENCES_MAX: usize = 4096;

/// Serves the content store.
#[derive(Debug)]
pub struct BlobsService {
    contents: Arc<Contents>,
    uploads: Arc<Uploads>,
}

impl BlobsService {
    /// `uploads` is the one that submissions ask through.
    pub fn new(contents: Arc<Contents>, uploads: Arc<Uploads>) -> Self {
        Self { contents, uploads }
    }

    /// The content that the caller means; `Ok(None)` when it is not held.
    fn find(&self, caller: &PeerIdentity, wire: v1::ContentId) -> Result<Option<ContentId>, Status> {
        let is_open = wire.trust_domain.is_empty();
        let id: ContentId = wire.try_into()?;
        if caller.role != Role::Board {
            return Ok(self.contents.is_held(&id).then_some(id));
        }
        if is_open {
            return Ok(self.contents.find_for_board(&caller.name, &id.path));
        }
        if !id.domain.is_visible_to_board(&caller.name) {
            let text = format!("domain '{}' is not for board {}", id.domain, caller.name);
            return Err(Status::permission_denied(text));
        }
        Ok(self.contents.is_held(&id).then_some(id))
    }

    fn find_held(&self, caller: &PeerIdentity, wire: v1::ContentId) -> Result<ContentId, Status> {
        let path = wire.path.clone();
        let not_held = || Status::not_found(format!("'{path}' is not in the content store"));
        self.find(caller, wire)?.ok_or_else(not_held)
    }
}

fn at_most(ids: &[v1::ContentId]) -> Result<(), WireError> {
    if ids.len() <= IDS_MAX {
        return Ok(());
    }
    Err(WireError::new("ids", format!("{} are more than {IDS_MAX}", ids.len())))
}

fn caller<T>(request: &Request<T>) -> Result<PeerIdentity, Status> {
    let caller = request.extensions().get::<PeerIdentity>();
    caller.cloned().ok_or_else(|| Status::unauthenticated("who calls is not known"))
}

fn lookup_status(error: &LookupError) -> Status {
    match error {
        LookupError::NotHeld(_) | LookupError::Facts(_) => Status::not_found(node::exit::chain(error)),
        LookupError::Path(_) => Status::internal(node::exit::chain(error)),
    }
}

fn upload_status(error: &UploadError) -> Status {
    let code = match error {
        UploadError::Unwanted { .. } => Code::FailedPrecondition,
        UploadError::Store(error) if error.is_wrong_content() => Code::InvalidArgument,
        UploadError::Address { .. } | UploadError::WrongPath { .. } | UploadError::Path(_) => {
            Code::InvalidArgument
        }
        UploadError::Store(_) | UploadError::Journal(_) => {
            tracing::error!(error = node::exit::chain(error), "an upload failed");
            Code::Internal
        }
    };
    Status::new(code, node::exit::chain(error))
}

type Responses<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl Blobs for BlobsService {
    type DownloadStream = Responses<v1::DownloadResponse>;
    type ClosureStream = Responses<v1::ClosureResponse>;

    async fn missing(
        &self,
        request: Request<v1::MissingRequest>,
    ) -> Result<Response<v1::MissingResponse>, Status> {
        let caller = caller(&request)?;
        let mut ids = request.into_inner().ids;
        at_most(&ids)?;
        let mut missing = Vec::new();
        for id in ids.drain(..) {
            if self.find(&caller, id.clone())?.is_none() {
                missing.push(id);
            }
        }
        Ok(Response::new(v1::MissingResponse { ids: missing }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        use v1::upload_request::Part;
        let board = caller(&request)?;
        if board.role != Role::Board {
            return Err(Status::permission_denied("only boards upload"));
        }
        let mut parts = request.into_inner();
        let info: SignedPathInfo = match parts.message().await?.and_then(|message| message.part) {
            Some(Part::Info(info)) => info.try_into()?,
            _ => return Err(WireError::new("part", "the first one is not path information").into()),
        };
        let begun = self.uploads.begin(&board.name, info.id.path, info.facts).await;
        let mut receiving = begun.map_err(|error| upload_status(&error))?;
        let mut unpacker = Unpacker::default();
        while let Some(message) = parts.message().await? {
            let chunk = Chunk::try_from(message.part)?;
            let chunk = unpacker.unpack(chunk, limits::CLUSTER_CHUNK_BYTES_MAX)?;
            receiving.write(chunk).await.map_err(|error| upload_status(&error))?;
        }
        let (id, facts) = receiving.finish().await.map_err(|error| upload_status(&error))?;
        Ok(Response::new(v1::UploadResponse { info: Some(path_info(&id, &facts)) }))
    }

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let wire = request.id.ok_or_else(|| WireError::new("id", "is missing"))?;
        let id = self.find_held(&caller, wire)?;
        let (facts, signatures) = self.contents.signed(&id).map_err(|error| lookup_status(&error))?;
        if request.offset > facts.nar_size {
            return Err(Status::out_of_range(format!("'{}' has {} bytes", id.path, facts.nar_size)));
        }
        if request.offset > 0 {
            tracing::info!(path = %id.path, %caller, offset = request.offset, "a download goes on");
        }
        let longest = match caller.role {
            Role::Board => limits::BOARD_CHUNK_BYTES_MAX,
            _ => limits::CLUSTER_CHUNK_BYTES_MAX,
        };
        let chunk_bytes_max = match usize::try_from(request.chunk_bytes_max) {
            Ok(wanted) if wanted > 0 => wanted.min(longest),
            _ => longest,
        };
        let opened = self.contents.open(&id, request.offset, chunk_bytes_max).await;
        let chunks = opened.map_err(|error| Status::internal(node::exit::chain(&error)))?;
        let info = signed(&id, facts, signatures);
        let (responses, stream) = mpsc::channel(CHUNKS_IN_FLIGHT);
        // Ends when the caller goes away: the next send fails.
        let packer = if request.zstd { Packer::new() } else { Packer::plain() };
        node::task::spawn("download", send(info, chunks, packer, responses));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn closure(
        &self,
        request: Request<v1::ClosureRequest>,
    ) -> Result<Response<Self::ClosureStream>, Status> {
        let caller = caller(&request)?;
        let v1::ClosureRequest { ids, alone } = request.into_inner();
        at_most(&ids)?;
        let ids = ids.into_iter().map(|id| self.find_held(&caller, id)).collect::<Result<Vec<_>, _>>()?;
        let contents = self.contents.clone();
        let (responses, stream) = mpsc::channel(CHUNKS_IN_FLIGHT);
        // Ends when the caller goes away: the next send fails.
        node::task::spawn("closure", send_infos(contents, ids, alone, responses));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn signed(id: &ContentId, facts: PathFacts, signatures: Vec<String>) -> v1::PathInfo {
    (&SignedPathInfo { id: id.clone(), facts, signatures }).into()
}

async fn send(
    info: v1::PathInfo,
    mut chunks: Chunks,
    mut packer: Packer,
    responses: mpsc::Sender<Result<v1::DownloadResponse, Status>>,
) {
    let response = |part| Ok(v1::DownloadResponse { part: Some(part) });
    if responses.send(response(Part::Info(info))).await.is_err() {
        return;
    }
    loop {
        let part = match chunks.next().await {
            Ok(Some(chunk)) => response(packer.pack(chunk).into()),
            Ok(None) => return,
            Err(error) => {
                tracing::error!(error = node::exit::chain(&error), "cannot read the content store");
                Err(Status::data_loss(node::exit::chain(&error)))
            }
        };
        let is_last = part.is_err();
        if responses.send(part).await.is_err() || is_last {
            return;
        }
    }
}

/// Sends a closure part by part. Signing takes its time with every path: each part is made on a thread, which never waits
/// for the caller. Whoever does not read would keep it from all others.
async fn send_infos(
    contents: Arc<Contents>,
    ids: Vec<ContentId>,
    alone: bool,
    responses: mpsc::Sender<Result<v1::ClosureResponse, Status>>,
) {
    let of = contents.clone();
    let ids = node::task::spawn_blocking("closure", move || if alone { Ok(ids) } else { of.closure(ids) });
    let broken = || Err(Status::internal("the closure could not be made"));
    let Ok(ids) = ids.await else { return drop(responses.send(broken()).await) };
    let mut rest = match ids {
        Ok(ids) => ids.into_iter(),
        Err(error) => {
            let _gone = responses.send(Err(lookup_status(&error))).await;
            return;
        }
    };
    while rest.len() > 0 {
        let contents = contents.clone();
        let made = node::task::spawn_blocking("part of a closure", move || {
            let part = part(&contents, &mut rest);
            (part, rest)
        });
        let Ok((part, left)) = made.await else { return drop(responses.send(broken()).await) };
        rest = left;
        let is_last = part.is_err();
        if responses.send(part).await.is_err() || is_last {
            return;
        }
    }
}

/// The next part of a closure, from at least one id.
fn part(contents: &Contents, ids: &mut std::vec::IntoIter<ContentId>) -> Result<v1::ClosureResponse, Status> {
    let (mut infos, mut references) = (Vec::new(), 0);
    for id in ids {
        let (facts, signatures) = contents.signed(&id).map_err(|error| lookup_status(&error))?;
        references += facts.references.len();
        infos.push(signed(&id, facts, signatures));
        if infos.len() >= INFOS_MAX || references >= REFERENCES_MAX {
            break;
        }
    }
    Ok(v1::ClosureResponse { infos })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::{ContentFacts, Knowledge};
    use cas::MemoryStore;
    use model::{StorePath, TrustDomain};
    use nix_formats::signature::SecretKey;
    use std::time::Duration;

    fn path(number: usize) -> StorePath {
        StorePath::from_validated(&format!("/nix/store/w51084ksv60sy0fkcb9hz4rxv8rv2avb-{number}"))
    }

    #[test]
    fn who_does_not_read_its_closure_keeps_no_thread_from_others() {
        let one_thread = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let knowledge = Knowledge::default();
        let ids: Vec<ContentId> = (0..INFOS_MAX * (CHUNKS_IN_FLIGHT + 2))
            .map(|number| ContentId { domain: TrustDomain::Shared, path: path(number) })
            .collect();
        for id in &ids {
            let facts = PathFacts {
                nar_sha256: [1; 32],
                nar_size: 1,
                references: Vec::new(),
                deriver: None,
                content_address: None,
            };
            knowledge.insert_content(id.clone(), ContentFacts { facts, references: Vec::new() });
        }
        let key = SecretKey::from_seed("k-1", &[7; 32]);
        let contents = Arc::new(Contents::new(Arc::new(knowledge), Arc::new(MemoryStore::default()), key));
        one_thread.block_on(async {
            let (responses, _unread) = mpsc::channel(CHUNKS_IN_FLIGHT);
            node::task::spawn("closure", send_infos(contents, ids, true, responses.clone()));
            while responses.capacity() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let other = node::task::spawn_blocking("other", || 7);
            let done = tokio::time::timeout(Duration::from_secs(20), other).await;
            assert_eq!(done.unwrap().unwrap(), 7);
        });
        one_thread.shutdown_background();
    }
}
