//! NarFromPath: the NAR comes without a length, so its own grammar says where it ends.
use crate::connection::{Connection, lost};
use crate::error::Error;
use crate::incoming::ReadError;
use crate::message::{ERROR, message};
use crate::wire::Cursor;
use bytes::Bytes;
use nix_formats::nar::Tokenizer;
use tokio::io::{AsyncRead, AsyncWrite};

/// Length of the word `nix-archive-1`.
const MAGIC_LENGTH: u64 = 13;

/// A NAR on its way out of the store. Dropped before its end, the connection is lost.
pub struct NarExport<'a, S> {
    connection: &'a mut Connection<S>,
    doing: String,
    tokenizer: Tokenizer,
}

impl<'a, S: AsyncRead + AsyncWrite> NarExport<'a, S> {
    pub(crate) fn new(connection: &'a mut Connection<S>, doing: String) -> Self {
        Self { connection, doing, tokenizer: Tokenizer::new() }
    }

    /// The next bytes, at most [`crate::CHUNK_BYTES_MAX`]; nothing after the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if self.tokenizer.is_complete() {
            self.connection.unfinished = false;
            return Ok(None);
        }
        if self.tokenizer.offset() == 0 {
            self.refusal().await?;
        }
        let there = self.connection.incoming.peek().await.map_err(|error| lost(&self.doing, error))?;
        let count = self
            .tokenizer
            .push(there, |_event| {})
            .map_err(|error| lost(&self.doing, ReadError::Malformed(error.to_string())))?;
        Ok(Some(self.connection.incoming.split(count)))
    }

    /// A daemon that finds only now that it cannot read the path says so in the NAR's place (2.34) or behind its
    /// first word (2.8), and hangs up.
    async fn refusal(&mut self) -> Result<(), Error> {
        let incoming = &mut self.connection.incoming;
        let error_at = |cursor: &mut Cursor<'_>| match cursor.number()? {
            ERROR => Ok(Some(0)),
            MAGIC_LENGTH => {
                cursor.number()?;
                cursor.number()?;
                let magic_bytes = cursor.position();
                Ok((cursor.number()? == ERROR).then_some(magic_bytes))
            }
            _ => Ok(None),
        };
        if let Some(position) = incoming.look(error_at).await.map_err(|error| lost(&self.doing, error))? {
            drop(incoming.split(position));
            let message = incoming.take(message).await.map_err(|error| lost(&self.doing, error))?;
            self.connection.log.digest(&self.doing, message)?;
        }
        Ok(())
    }
}
