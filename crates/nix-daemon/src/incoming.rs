//! The daemon's side of the stream: a bounded buffer from which whole values are taken.
use crate::CHUNK_BYTES_MAX;
use crate::wire::{Cursor, Fault};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Largest reply that is decoded as a whole, in bytes (path information with 20,000 references takes 2 MB).
const REPLY_BYTES_MAX: usize = 8 << 20;

/// Why a value could not be read.
pub(crate) enum ReadError {
    Stream(io::Error),
    Malformed(String),
}

pub(crate) struct Incoming<R> {
    reader: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: BytesMut::new() }
    }

    /// Bytes that were read and not taken.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Reads once. Can be dropped at any moment without losing bytes.
    pub(crate) async fn fill(&mut self) -> Result<(), ReadError> {
        self.buffer.reserve(CHUNK_BYTES_MAX / 2);
        match self.reader.read_buf(&mut self.buffer).await {
            Ok(0) => Err(ReadError::Stream(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(ReadError::Stream(error)),
        }
    }

    /// Takes a value if the buffer holds all of it.
    pub(crate) fn try_take<T>(
        &mut self,
        decode: impl Fn(&mut Cursor<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, ReadError> {
        let mut cursor = Cursor::new(&self.buffer);
        match decode(&mut cursor) {
            Ok(value) => {
                let read = cursor.position();
                drop(self.buffer.split_to(read));
                Ok(Some(value))
            }
            Err(Fault::Malformed(problem)) => Err(ReadError::Malformed(problem)),
            Err(Fault::Incomplete) if self.buffer.len() >= REPLY_BYTES_MAX => {
                Err(ReadError::Malformed(format!("a reply of more than {REPLY_BYTES_MAX} bytes")))
            }
            Err(Fault::Incomplete) => Ok(None),
        }
    }

    /// Reads as much as a value needs, and leaves it there.
    pub(crate) async fn look<T>(
        &mut self,
        decode: impl Fn(&mut Cursor<'_>) -> Result<T, Fault>,
    ) -> Result<T, ReadError> {
        loop {
            match decode(&mut Cursor::new(&self.buffer)) {
                Ok(value) => return Ok(value),
                Err(Fault::Malformed(problem)) => return Err(ReadError::Malformed(problem)),
                Err(Fault::Incomplete) => self.fill().await?,
            }
        }
    }

    /// Takes a value, reading as much as it needs.
    pub(crate) async fn take<T>(
        &mut self,
        decode: impl Fn(&mut Cursor<'_>) -> Result<T, Fault>,
    ) -> Result<T, ReadError> {
        loop {
            if let Some(value) = self.try_take(&decode)? {
                return Ok(value);
            }
            self.fill().await?;
        }
    }

    /// Raw bytes that are there already, or the next ones: at least one, at most a chunk.
    pub(crate) async fn peek(&mut self) -> Result<&[u8], ReadError> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(&self.buffer[..self.buffer.len().min(CHUNK_BYTES_MAX)])
    }

    /// Removes raw bytes that were peeked at.
    pub(crate) fn split(&mut self, count: usize) -> Bytes {
        self.buffer.split_to(count).freeze()
    }
}
