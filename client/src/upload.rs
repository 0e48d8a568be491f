//! A source's way to the cluster: out of the daemon, chunk by chunk, into Blobs.Upload.
use crate::board::Daemon;
use crate::rpc::{CallError, Coordinator};
use crate::ui::Ui;
use model::StorePath;
use thiserror::Error;
use tokio::sync::mpsc;

/// Chunks between the daemon and the link, 64 KiB each.
const CHUNKS_QUEUED_MAX: usize = 2;

/// Why a source was not uploaded.
#[derive(Debug, Error)]
pub enum Error {
    /// The coordinator, or the way to it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The board's daemon.
    #[error(transparent)]
    Daemon(#[from] nix_daemon::Error),
    /// Nothing to upload.
    #[error("{path} is needed for the build and is not valid in this board's store")]
    NotValid {
        /// The source.
        path: StorePath,
    },
}

/// Uploads one store path.
#[tracing::instrument(name = "upload", skip_all, fields(path = %path))]
pub async fn upload(
    coordinator: &Coordinator,
    daemon: &mut Daemon,
    path: &StorePath,
    ui: &Ui,
) -> Result<(), Error> {
    let info = daemon.query_path_info(path.as_str()).await?;
    let info = info.ok_or_else(|| Error::NotValid { path: path.clone() })?;
    ui.upload_begins(path, info.nar_size);
    let (chunks, queue) = mpsc::channel(CHUNKS_QUEUED_MAX);
    let reading = async move {
        let mut export = daemon.nar_from_path(path.as_str()).await?;
        while let Some(chunk) = export.chunk().await? {
            let size = chunk.len() as u64;
            // The queue is closed when the call has ended, which says why.
            if chunks.send(chunk).await.is_err() {
                break;
            }
            ui.bytes_moved(size);
        }
        Ok(())
    };
    let (sent, read): (_, Result<(), nix_daemon::Error>) =
        tokio::join!(coordinator.upload(&info, queue), reading);
    // A daemon that failed truncated the upload, and that is what the coordinator complains of.
    read?;
    sent?;
    Ok(())
}
