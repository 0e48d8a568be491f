//! The client side of Blobs.Download: one NAR from one source, as path information and a stream of chunks.
use crate::lease::Source;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use model::{ContentId, limits};
use proto::chunk::{Chunk, Unpacker};
use proto::convert::{SignedPathInfo, WireError};
use proto::v1;
use proto::v1::blobs_client::BlobsClient;
use proto::v1::download_response::Part;
use thiserror::Error;
use tonic::transport::Channel;

/// Why a source gave nothing, or not all.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// It cannot be reached.
    #[error("cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It refused or broke off.
    #[error("answered: {}", .0.message())]
    Status(#[from] tonic::Status),
    /// It sent something else than was agreed.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl DownloadError {
    /// Whether the connection broke, rather than the source refused: a new one may do better.
    pub fn is_broken_connection(&self) -> bool {
        use tonic::Code::{Cancelled, Internal, Unavailable, Unknown};
        matches!(self, Self::Status(status) if matches!(status.code(), Cancelled | Internal | Unavailable | Unknown))
    }
}

/// A download under way.
pub struct Download {
    /// What the source says it sends.
    pub info: SignedPathInfo,
    /// The bytes of the NAR.
    pub chunks: BoxStream<'static, Result<Bytes, DownloadError>>,
}

/// Where the bytes of inputs come from: the network, or a test.
#[tonic::async_trait]
pub trait Sources: Send + Sync + std::fmt::Debug {
    /// Begins to fetch one path.
    async fn download(&self, source: &Source, id: &ContentId) -> Result<Download, DownloadError>;
}

/// Asks the Blobs service behind `channel` for one path.
///
/// # Errors
/// What the service answers, or a first message that is no path information.
pub async fn download(channel: Channel, id: &ContentId) -> Result<Download, DownloadError> {
    let mut client = BlobsClient::new(channel).max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES_MAX);
    let request = v1::DownloadRequest { id: Some(id.into()), offset: 0, chunk_bytes_max: 0, zstd: false };
    let mut stream = client.download(request).await?.into_inner();
    let info = match stream.message().await?.and_then(|response| response.part) {
        Some(Part::Info(info)) => info.try_into()?,
        _ => return Err(WireError::new("part", "the first one is not path information").into()),
    };
    let mut unpacker = Unpacker::default();
    let chunks = stream.map(move |response| {
        Ok(unpacker.unpack(Chunk::try_from(response?.part)?, limits::CLUSTER_CHUNK_BYTES_MAX)?)
    });
    Ok(Download { info, chunks: chunks.boxed() })
}
