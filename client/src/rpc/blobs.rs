//! The Blobs service: closures and downloads for the import, uploads for the submission.
use super::Coordinator;
use super::error::CallError;
use bytes::Bytes;
use model::{StorePath, limits};
use nix_daemon::PathInfo;
use proto::chunk::{Chunk, Packer, Unpacker};
use proto::convert::SignedPathInfo;
use proto::v1;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// To and from a board, an empty domain means "shared, or else the board's own".
fn board_id(path: &StorePath) -> v1::ContentId {
    v1::ContentId { trust_domain: String::new(), path: path.to_string() }
}

/// Path information of a closure, references first.
pub struct Closure(Streaming<v1::ClosureResponse>);

const CLOSURE: &str = "ask for the closure of the wanted outputs";

impl Closure {
    /// The next part; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<SignedPathInfo>>, CallError> {
        let message = self.0.message().await.map_err(|status| CallError::status(CLOSURE, &status))?;
        let Some(message) = message else { return Ok(None) };
        let infos: Result<Vec<_>, _> = message.infos.into_iter().map(TryInto::try_into).collect();
        infos.map(Some).map_err(|error| CallError::wire(CLOSURE, &error))
    }
}

/// A NAR on its way down.
pub struct Download {
    path: StorePath,
    stream: Streaming<v1::DownloadResponse>,
    unpacker: Unpacker,
}

impl Download {
    /// The next bytes; nothing at the end of the stream.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        use v1::download_response::Part;
        loop {
            let message = self.stream.message().await;
            let message =
                message.map_err(|status| CallError::status(format!("download {}", self.path), &status))?;
            match message {
                None => return Ok(None),
                // The path information is what Closure said already, and the daemon checks the bytes against that.
                Some(v1::DownloadResponse { part: Some(Part::Info(_)) }) => {}
                Some(v1::DownloadResponse { part }) => {
                    let bytes = Chunk::try_from(part)
                        .and_then(|chunk| self.unpacker.unpack(chunk, limits::BOARD_CHUNK_BYTES_MAX));
                    let bytes =
                        bytes.map_err(|error| CallError::wire(format!("download {}", self.path), &error))?;
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

impl Coordinator {
    /// Asks for the closure of some paths.
    pub async fn closure(&self, paths: &[StorePath]) -> Result<Closure, CallError> {
        self.infos(paths, false).await
    }

    /// Asks for one path; nothing when the cluster does not hold it.
    pub async fn path_info(&self, path: &StorePath) -> Result<Option<SignedPathInfo>, CallError> {
        let found = match self.infos(std::slice::from_ref(path), true).await {
            Ok(mut closure) => closure.next().await,
            Err(error) => Err(error),
        };
        match found {
            Ok(infos) => Ok(infos.into_iter().flatten().find(|info| info.id.path == *path)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn infos(&self, paths: &[StorePath], alone: bool) -> Result<Closure, CallError> {
        let request = v1::ClosureRequest { ids: paths.iter().map(board_id).collect(), alone };
        let stream = self.control_blobs.clone().closure(request).await;
        Ok(Closure(stream.map_err(|status| CallError::status(CLOSURE, &status))?.into_inner()))
    }

    /// Begins to fetch a NAR at an offset.
    pub async fn download(&self, path: &StorePath, offset: u64) -> Result<Download, CallError> {
        let chunk_bytes_max = u32::try_from(limits::BOARD_CHUNK_BYTES_MAX).unwrap_or(u32::MAX);
        let request = v1::DownloadRequest { id: Some(board_id(path)), offset, chunk_bytes_max, zstd: true };
        let stream = self.bulk_blobs.clone().download(request).await;
        let stream = stream.map_err(|status| CallError::status(format!("download {path}"), &status))?;
        Ok(Download { path: path.clone(), stream: stream.into_inner(), unpacker: Unpacker::default() })
    }

    /// Uploads a source: its information first, then the chunks that come out of the queue.
    pub async fn upload(&self, info: &PathInfo, chunks: mpsc::Receiver<Bytes>) -> Result<(), CallError> {
        use v1::upload_request::Part;
        let wire = v1::PathInfo {
            id: Some(board_id(&StorePath::from_validated(&info.path))),
            nar_sha256: Bytes::copy_from_slice(&info.nar_sha256),
            nar_size: info.nar_size,
            references: info.references.clone(),
            deriver: info.deriver.clone().unwrap_or_default(),
            content_address: info.content_address.clone().unwrap_or_default(),
            signatures: info.signatures.clone(),
        };
        let mut packer = Packer::new();
        let chunks = ReceiverStream::new(chunks).map(move |chunk| packer.pack(chunk).into());
        let parts = tokio_stream::once(Part::Info(wire))
            .chain(chunks)
            .map(|part| v1::UploadRequest { part: Some(part) });
        let sent = self.bulk_blobs.clone().upload(parts).await;
        sent.map(drop).map_err(|status| CallError::status(format!("upload {}", info.path), &status))
    }
}
