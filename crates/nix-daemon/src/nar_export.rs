//! NarFromPath: the NAR comes without a length, so its own grammar says where it ends.
use crate::connection::{Connection, lost};
use crate::error::Error;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

/// A NAR on its way out of the store. Dropped before its end, the connection is lost.
pub struct NarExport<'a, S> {
    connection: &'a mut Connection<S>,
    doing: String,
    nar_size: u64,
    taken: u64,
}

impl<'a, S: AsyncRead + AsyncWrite> NarExport<'a, S> {
    pub(crate) fn new(connection: &'a mut Connection<S>, doing: String, nar_size: u64) -> Self {
        Self { connection, doing, nar_size, taken: 0 }
    }

    /// The next bytes, at most [`crate::CHUNK_BYTES_MAX`]; nothing after the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if self.taken == self.nar_size {
            self.connection.unfinished = false;
            return Ok(None);
        }
        let there = self.connection.incoming.peek().await.map_err(|error| lost(&self.doing, error))?;
        let wanted = usize::try_from(self.nar_size - self.taken).unwrap_or(usize::MAX).min(there.len());
        self.taken += wanted as u64;
        Ok(Some(self.connection.incoming.split(wanted)))
    }
}
