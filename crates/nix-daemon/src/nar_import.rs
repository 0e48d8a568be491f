//! AddToStoreNar: a NAR goes to the daemon in frames while its messages are read.
use crate::CHUNK_BYTES_MAX;
use crate::connection::{Connection, Log, lost};
use crate::error::Error;
use crate::incoming::{Incoming, ReadError};
use crate::message::message;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// A NAR on its way into the store. Must be finished or abandoned: dropped halfway, the connection is lost.
#[must_use = "a NAR that is not finished is not in the store, and the connection is lost"]
pub struct NarImport<'a, S> {
    connection: &'a mut Connection<S>,
    doing: String,
    /// What the daemon already refused. It reads the frames to their end all the same.
    refused: Option<Error>,
}

impl<'a, S: AsyncRead + AsyncWrite> NarImport<'a, S> {
    pub(crate) fn new(connection: &'a mut Connection<S>, doing: String) -> Self {
        Self { connection, doing, refused: None }
    }

    /// Sends the next bytes of the NAR, of any length.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for frame in bytes.chunks(CHUNK_BYTES_MAX) {
            self.send(&(frame.len() as u64).to_le_bytes(), frame).await?;
        }
        Ok(())
    }

    /// Ends the NAR; afterwards the path is valid, or the daemon says why not.
    pub async fn finish(mut self) -> Result<(), Error> {
        self.end().await
    }

    /// Gives up: the daemon sees a NAR that ends too early, and the connection stays usable.
    ///
    /// Fails only when the connection is lost. True when the daemon had all bytes already and took the path.
    pub async fn abandon(mut self) -> Result<bool, Error> {
        match self.end().await {
            Ok(()) => Ok(true),
            Err(Error::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn end(&mut self) -> Result<(), Error> {
        self.send(&0u64.to_le_bytes(), &[]).await?;
        let result = match self.refused.take() {
            Some(refused) => Err(refused),
            None => self.connection.messages(&self.doing).await,
        };
        self.connection.unfinished = !matches!(result, Ok(()) | Err(Error::Refused { .. }));
        result
    }

    /// Writes a frame. The daemon may be writing too and read nothing until we read that: both go on at once.
    async fn send(&mut self, length: &[u8], frame: &[u8]) -> Result<(), Error> {
        let Self { connection, doing, refused } = self;
        let Connection { incoming, writer, log, .. } = &mut **connection;
        let mut writing = pin!(async {
            writer.write_all(length).await?;
            writer.write_all(frame).await?;
            writer.flush().await
        });
        let failed = loop {
            tokio::select! {
                biased;
                written = &mut writing => match written {
                    Ok(()) => return Ok(()),
                    Err(error) => break ReadError::Stream(error),
                },
                filled = incoming.fill() => match filled.and_then(|()| digest_all(incoming, log, doing, refused)) {
                    Ok(()) => {}
                    Err(error) => break error,
                },
            }
        };
        // A daemon that closes the connection may have said why.
        Err(refused.take().unwrap_or_else(|| lost(doing, failed)))
    }
}

/// Takes every whole message that has arrived.
fn digest_all<R: AsyncRead + Unpin>(
    incoming: &mut Incoming<R>,
    log: &mut Log,
    doing: &str,
    refused: &mut Option<Error>,
) -> Result<(), ReadError> {
    while let Some(message) = incoming.try_take(message)? {
        match log.digest(doing, message) {
            Ok(false) => {}
            Ok(true) => {
                return Err(ReadError::Malformed("the operation ended before the NAR did".to_owned()));
            }
            Err(error) => *refused = Some(error),
        }
    }
    Ok(())
}
