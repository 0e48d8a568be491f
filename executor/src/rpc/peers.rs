//! Channels to other executors and to the coordinator's content store, kept open for the next path.
use super::download::{Download, DownloadError, Sources, download};
use crate::lease::Source;
use model::ContentId;
use node::tls::{ChannelSettings, ExpectedPeer, Role, TlsFiles, client_channel};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tonic::transport::Channel;

/// Channels kept open; beyond that all are forgotten and those in use opened anew.
const CHANNELS_MAX: usize = 256;

/// Opens channels on demand.
#[derive(Debug)]
pub struct Peers {
    files: TlsFiles,
    coordinator: String,
    channels: Mutex<HashMap<Source, Channel>>,
}

impl Peers {
    /// Reaches the coordinator at `coordinator` (`host:port`) and any executor that a lease names.
    pub fn new(files: TlsFiles, coordinator: String) -> Self {
        Self { files, coordinator, channels: Mutex::default() }
    }

    fn channels(&self) -> std::sync::MutexGuard<'_, HashMap<Source, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn channel(&self, source: &Source) -> Result<Channel, DownloadError> {
        if let Some(channel) = self.channels().get(source) {
            return Ok(channel.clone());
        }
        let (address, expected) = match source {
            Source::Executor { address, name } => {
                (address, ExpectedPeer { role: Role::Executor, name: Some(name.clone()) })
            }
            Source::ContentStore => (&self.coordinator, ExpectedPeer { role: Role::Coordinator, name: None }),
        };
        let opened = client_channel(address, &self.files, expected, ChannelSettings::bulk()).await;
        let channel = opened.map_err(|error| DownloadError::Unreachable(Box::new(error)))?;
        let mut channels = self.channels();
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(source.clone(), channel.clone());
        Ok(channel)
    }
}

#[tonic::async_trait]
impl Sources for Peers {
    async fn download(&self, source: &Source, id: &ContentId) -> Result<Download, DownloadError> {
        let channel = self.channel(source).await?;
        let result = download(channel, id).await;
        if result.is_err() {
            // The next attempt dials again: this channel may be the trouble.
            self.channels().remove(source);
        }
        result
    }
}
