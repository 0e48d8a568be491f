//! From and to async code: every piece of disk work on a blocking thread, one chunk in memory, no thread held while waiting.
use crate::id::BlobId;
use crate::store::{Announced, CasError, ContentStore, Reader, Stored, Writer};
use bytes::Bytes;
use std::sync::Arc;

/// Runs blocking work elsewhere; a panic there goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is ending: nobody will ask for the result.
        Err(_) => std::future::pending().await,
    }
}

/// One NAR on its way into a store.
pub struct Upload {
    id: BlobId,
    /// Away while a chunk is written; gone after an error, or when a write was interrupted.
    writer: Option<Box<dyn Writer>>,
}

impl Upload {
    /// Begins to write.
    ///
    /// # Errors
    /// See [`ContentStore::begin`].
    pub async fn begin(
        store: Arc<dyn ContentStore>,
        id: BlobId,
        announced: Announced,
    ) -> Result<Self, CasError> {
        blocking(move || {
            let writer = store.begin(&id, announced)?;
            Ok(Self { id, writer: Some(writer) })
        })
        .await
    }

    fn take(&mut self) -> Result<Box<dyn Writer>, CasError> {
        self.writer.take().ok_or_else(|| CasError::Over { id: self.id.clone() })
    }

    /// The next bytes.
    ///
    /// # Errors
    /// See [`Writer::write`].
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), CasError> {
        let mut writer = self.take()?;
        let writer = blocking(move || writer.write(&chunk).map(|()| writer)).await?;
        self.writer = Some(writer);
        Ok(())
    }

    /// Verifies, and makes it visible.
    ///
    /// # Errors
    /// See [`Writer::commit`].
    pub async fn commit(mut self) -> Result<Stored, CasError> {
        let writer = self.take()?;
        blocking(move || writer.commit()).await
    }
}

impl Drop for Upload {
    /// Removing a large file takes time.
    fn drop(&mut self) {
        if let (Some(writer), Ok(runtime)) = (self.writer.take(), tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn_blocking(move || drop(writer)));
        }
    }
}

/// One NAR on its way out of a store, from an offset.
pub struct Chunks {
    id: BlobId,
    stored: Stored,
    reader: Option<Box<dyn Reader>>,
    offset: u64,
    chunk_bytes_max: usize,
}

impl Chunks {
    /// Opens a NAR.
    ///
    /// # Errors
    /// See [`ContentStore::open`].
    pub async fn open(
        store: Arc<dyn ContentStore>,
        id: BlobId,
        offset: u64,
        chunk_bytes_max: usize,
    ) -> Result<Self, CasError> {
        let (opened, reader) = (id.clone(), blocking(move || store.open(&id)).await?);
        Ok(Self { id: opened, stored: reader.stored(), reader: Some(reader), offset, chunk_bytes_max })
    }

    /// What is read.
    pub fn stored(&self) -> Stored {
        self.stored
    }

    /// The next bytes; nothing at the end.
    ///
    /// # Errors
    /// See [`Reader::read_at`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, CasError> {
        let Some(mut reader) = self.reader.take() else { return Ok(None) };
        let left = self.stored.nar_size.saturating_sub(self.offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.chunk_bytes_max);
        if wanted == 0 {
            return Ok(None);
        }
        let (id, offset) = (self.id.clone(), self.offset);
        let (reader, chunk) = blocking(move || {
            let mut buffer = vec![0; wanted];
            let count = reader.read_at(offset, &mut buffer)?;
            if count == 0 {
                return Err(CasError::Shortened { id, offset });
            }
            buffer.truncate(count);
            Ok::<_, CasError>((reader, Bytes::from(buffer)))
        })
        .await?;
        self.reader = Some(reader);
        self.offset += chunk.len() as u64;
        Ok(Some(chunk))
    }
}
