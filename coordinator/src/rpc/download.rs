//! The client side of `Blobs.Download`: from executors, over channels that are kept open.
use crate::pull::PullSource;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use model::{ContentId, limits};
use node::tls::{ChannelSettings, ConnectError, ExpectedPeer, TlsFiles, client_channel};
use proto::chunk::{Chunk, Unpacker};
use proto::convert::{SignedPathInfo, WireError};
use proto::v1;
use proto::v1::blobs_client::BlobsClient;
use proto::v1::download_response::Part;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use tonic::transport::Channel;

/// Channels kept open; beyond that all are forgotten, and those in use opened anew.
const CHANNELS_MAX: usize = 256;

/// Why an executor gave nothing, or not all.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// It cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] ConnectError),
    /// It refused or broke off.
    #[error("it answered: {}", .0.message())]
    Status(Box<tonic::Status>),
    /// It sent something else than was agreed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The stream ended early.
    #[error("the stream ended at byte {at_byte}")]
    Cut {
        /// Where.
        at_byte: u64,
    },
}

impl DownloadError {
    /// Whether the connection broke, rather than the executor refused: a new one may do better.
    pub fn is_broken_connection(&self) -> bool {
        use tonic::Code::{Cancelled, Internal, Unavailable, Unknown};
        matches!(self, Self::Status(status) if matches!(status.code(), Cancelled | Internal | Unavailable | Unknown))
    }
}

impl From<tonic::Status> for DownloadError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// What an executor says it sends, and the bytes.
pub type Download = (SignedPathInfo, BoxStream<'static, Result<Bytes, DownloadError>>);

/// Opens channels to executors on demand.
#[derive(Debug)]
pub struct Peers {
    files: TlsFiles,
    channels: Mutex<HashMap<PullSource, Channel>>,
}

impl Peers {
    /// With the coordinator's certificate.
    pub fn new(files: TlsFiles) -> Self {
        Self { files, channels: Mutex::default() }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<PullSource, Channel>> {
        // The map is whole after every statement that changes it.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn channel(&self, source: &PullSource) -> Result<Channel, DownloadError> {
        if let Some(channel) = self.channels().get(source) {
            return Ok(channel.clone());
        }
        let expected = ExpectedPeer::executor(&source.name.0);
        let channel = client_channel(&source.address, &self.files, expected, ChannelSettings::bulk()).await?;
        let mut channels = self.channels();
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(source.clone(), channel.clone());
        Ok(channel)
    }

    /// Asks an executor for one path, from an offset.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub async fn download(
        &self,
        source: &PullSource,
        id: &ContentId,
        offset: u64,
    ) -> Result<Download, DownloadError> {
        let channel = self.channel(source).await?;
        let result = begin(channel, id, offset).await;
        if result.is_err() {
            // The next attempt dials again: this channel may be the trouble.
            self.channels().remove(source);
        }
        result
    }
}

async fn begin(channel: Channel, id: &ContentId, offset: u64) -> Result<Download, DownloadError> {
    let mut client = BlobsClient::with_interceptor(channel, node::propagate::interceptor)
        .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES_MAX);
    let request = v1::DownloadRequest { id: Some(id.into()), offset, chunk_bytes_max: 0, zstd: false };
    let mut stream = client.download(request).await?.into_inner();
    let info = match stream.message().await?.and_then(|response| response.part) {
        Some(Part::Info(info)) => info.try_into()?,
        _ => return Err(WireError::new("part", "the first one is not path information").into()),
    };
    let mut unpacker = Unpacker::default();
    let chunks = stream.map(move |response| {
        Ok(unpacker.unpack(Chunk::try_from(response?.part)?, limits::CLUSTER_CHUNK_BYTES_MAX)?)
    });
    Ok((info, chunks.boxed()))
}
