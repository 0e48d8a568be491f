//! One NAR on its way down: verified while it passes, and resumed where a broken link stopped it.
use super::verify::Verifier;
use super::{Error, Mismatch};
use crate::rpc::{Coordinator, Download};
use crate::ui::Ui;
use bytes::Bytes;
use node::backoff::Backoff;
use proto::convert::SignedPathInfo;

/// A NAR being fetched. Its last bytes come only when all are known to be right.
pub struct Fetch<'a> {
    coordinator: &'a Coordinator,
    info: &'a SignedPathInfo,
    ui: &'a Ui,
    /// Nothing after the end.
    verifier: Option<Verifier>,
    download: Option<Download>,
    /// Bytes that were there when the present download began.
    resumed_at: u64,
    backoff: Backoff,
}

impl<'a> Fetch<'a> {
    /// From its first byte.
    pub fn new(coordinator: &'a Coordinator, info: &'a SignedPathInfo, ui: &'a Ui) -> Self {
        let verifier = Some(Verifier::new(&info.facts));
        Self {
            coordinator,
            info,
            ui,
            verifier,
            download: None,
            resumed_at: 0,
            backoff: Backoff::for_connections(),
        }
    }

    /// The next bytes; nothing at the end. A link that is lost is waited for.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let path = &self.info.id.path;
        let wrong = |mismatch: Mismatch| Error::Mismatch { path: path.clone(), mismatch };
        loop {
            let Some(verifier) = &mut self.verifier else { return Ok(None) };
            let came = match &mut self.download {
                Some(download) => download.chunk().await,
                None => match self.coordinator.download(path, verifier.received()).await {
                    Ok(download) => {
                        self.download = Some(download);
                        self.resumed_at = verifier.received();
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match came {
                Ok(Some(chunk)) => {
                    self.ui.bytes_moved(chunk.len() as u64);
                    return verifier.push(chunk).map(Some).map_err(wrong);
                }
                Ok(None) => {
                    let rest = self.verifier.take().map(Verifier::finish);
                    return rest.transpose().map_err(wrong);
                }
                Err(broken) if broken.is_link_lost() => {
                    if verifier.received() > self.resumed_at {
                        self.backoff.reset();
                    }
                    self.download = None;
                    self.ui.link_lost(&broken);
                    tokio::time::sleep(self.backoff.next_wait()).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
