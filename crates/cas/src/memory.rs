//! A content store in memory: for tests, and for what may be lost.
use crate::id::BlobId;
use crate::store::{Announced, CasError, ContentStore, Reader, Stored, Writer};
use crate::verify::Verifier;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Held = HashMap<BlobId, (Stored, Arc<[u8]>)>;

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryStore {
    held: Arc<Mutex<Held>>,
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    // The map is whole after every statement that changes it.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds content, unless some is held.
fn keep(held: &Mutex<Held>, id: &BlobId, stored: Stored, nar: Arc<[u8]>) -> Result<Stored, CasError> {
    let mut held = lock(held);
    let (there, _) = held.entry(id.clone()).or_insert((stored, nar));
    if *there == stored {
        return Ok(stored);
    }
    Err(CasError::Conflict { id: id.clone(), held: there.nar_sha256, came: stored.nar_sha256 })
}

impl ContentStore for MemoryStore {
    fn get(&self, id: &BlobId) -> Option<Stored> {
        lock(&self.held).get(id).map(|(stored, _)| *stored)
    }

    fn ids(&self) -> Vec<BlobId> {
        lock(&self.held).keys().cloned().collect()
    }

    fn begin(&self, id: &BlobId, announced: Announced) -> Result<Box<dyn Writer>, CasError> {
        let verifier = Verifier::new(id, announced)?;
        Ok(Box::new(MemoryWriter { held: self.held.clone(), verifier, nar: Vec::new() }))
    }

    fn open(&self, id: &BlobId) -> Result<Box<dyn Reader>, CasError> {
        match lock(&self.held).get(id) {
            Some((stored, nar)) => Ok(Box::new(MemoryReader { stored: *stored, nar: nar.clone() })),
            None => Err(CasError::NotHeld { id: id.clone() }),
        }
    }

    fn share(&self, from: &BlobId, to: &BlobId) -> Result<Stored, CasError> {
        let content = lock(&self.held).get(from).cloned();
        let (stored, nar) = content.ok_or_else(|| CasError::NotHeld { id: from.clone() })?;
        keep(&self.held, to, stored, nar)
    }

    fn remove(&self, id: &BlobId) -> Result<bool, CasError> {
        Ok(lock(&self.held).remove(id).is_some())
    }
}

struct MemoryWriter {
    held: Arc<Mutex<Held>>,
    verifier: Verifier,
    nar: Vec<u8>,
}

impl Writer for MemoryWriter {
    fn write(&mut self, chunk: &[u8]) -> Result<(), CasError> {
        self.verifier.push(chunk)?;
        self.nar.extend_from_slice(chunk);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Stored, CasError> {
        let id = self.verifier.id().clone();
        let stored = self.verifier.finish()?;
        keep(&self.held, &id, stored, self.nar.into())
    }
}

struct MemoryReader {
    stored: Stored,
    nar: Arc<[u8]>,
}

impl Reader for MemoryReader {
    fn stored(&self) -> Stored {
        self.stored
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, CasError> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.nar.len());
        let count = buffer.len().min(self.nar.len() - offset);
        buffer[..count].copy_from_slice(&self.nar[offset..offset + count]);
        Ok(count)
    }
}
