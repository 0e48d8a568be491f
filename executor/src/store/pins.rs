//! Paths in use: they are not dropped meanwhile, whether they are held already or still come.
use super::Store;
use crate::lease::LeaseKey;
use model::ContentId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Keeps paths in use for as long as it lives.
#[derive(Debug)]
pub struct Pins {
    store: Arc<Store>,
    ids: Mutex<Vec<ContentId>>,
}

impl Pins {
    /// Of these paths.
    pub fn new<'a>(store: &Arc<Store>, ids: impl IntoIterator<Item = &'a ContentId>) -> Self {
        let pins = Self { store: store.clone(), ids: Mutex::default() };
        pins.add(ids);
        pins
    }

    /// These, too.
    pub fn add<'a>(&self, ids: impl IntoIterator<Item = &'a ContentId>) {
        let mut own = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = self.store.index();
        for id in ids {
            index.pin(id);
            own.push(id.clone());
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let own = self.ids.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut index = self.store.index();
        own.iter().for_each(|id| index.unpin(id));
    }
}

/// Keeps what results are made of until they are acknowledged.
#[derive(Debug, Default)]
pub struct Unacknowledged {
    by_lease: Mutex<HashMap<LeaseKey, Pins>>,
}

impl Unacknowledged {
    /// The result of a lease is made of these.
    pub fn keep(&self, key: LeaseKey, pins: Pins) {
        drop(self.by_lease.lock().unwrap_or_else(PoisonError::into_inner).insert(key, pins));
    }

    /// The coordinator has the result of a lease.
    pub fn release(&self, key: LeaseKey) {
        drop(self.by_lease.lock().unwrap_or_else(PoisonError::into_inner).remove(&key));
    }
}
