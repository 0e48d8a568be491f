//! One task at a time works on one path; the others wait for it and then look again.
use model::ContentId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A lock for each path that is being worked on.
#[derive(Debug, Default)]
pub struct SingleFlight {
    flights: Mutex<HashMap<ContentId, Arc<tokio::sync::Mutex<()>>>>,
}

/// Held while the path is worked on.
#[derive(Debug)]
pub struct Turn<'a> {
    owner: &'a SingleFlight,
    id: ContentId,
    lock: Arc<tokio::sync::Mutex<()>>,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl SingleFlight {
    /// Waits until nobody else works on the path.
    pub async fn turn(&self, id: &ContentId) -> Turn<'_> {
        let lock = self.flights().entry(id.clone()).or_default().clone();
        let mut turn = Turn { owner: self, id: id.clone(), lock: lock.clone(), guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }

    /// Whether nobody works on anything.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.flights().is_empty()
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<ContentId, Arc<tokio::sync::Mutex<()>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut flights = self.owner.flights();
        // The map's own and this one: nobody else waits.
        if Arc::strong_count(&self.lock) == 2 {
            flights.remove(&self.id);
        }
    }
}
