//! NarFromPath: the NAR comes without a length, so its own grammar says where it ends.
use crate::connection::{Connection, lost};
use crate::error::Error;
use crate::incoming::ReadError;
use bytes::Bytes;
use nix_formats::nar::Tokenizer;
use tokio::io::{AsyncRead, AsyncWrite};

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
        let there = self.connection.incoming.peek().await.map_err(|error| lost(&self.doing, error))?;
        let count = self
            .tokenizer
            .push(there, |_event| {})
            .map_err(|error| lost(&self.doing, ReadError::Malformed(error.to_string())))?;
        Ok(Some(self.connection.incoming.split(count)))
    }
}
