//! Slots: how many builds run at once, and the host ids that each runs as. No two builds share an id.
use crate::config::Config;
use sandbox::spec::Ids;
use sandbox::subordinate::{self, SubordinateError};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// First id of builds where the executor is root and nobody configured another: far from users and from `/etc/subuid`'s
/// customary ranges.
const ROOT_FIRST_ID: u32 = 0x3400_0000;

/// The host ids of each slot, in order.
///
/// # Errors
/// An unprivileged user without enough subordinate ids.
pub fn host_ids(config: &Config, user_id: u32) -> Result<Vec<Ids>, SubordinateError> {
    let count = config.slot_count();
    let from = |first: u32| {
        (0..count)
            .map(|slot| first.saturating_add(slot))
            .map(|id| Ids { user: id, group: id })
            .collect::<Vec<_>>()
    };
    match config.sandbox.first_id {
        Some(first) => Ok(from(first)),
        None if user_id == 0 => Ok(from(ROOT_FIRST_ID)),
        None => subordinate::lookup(&user_name(user_id), user_id, count),
    }
}

/// The name of a user, as `/etc/passwd` has it; its number when it has none.
fn user_name(user_id: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of_user = |line: &&str| line.split(':').nth(2) == Some(user_id.to_string().as_str());
    let line = passwd.lines().find(of_user);
    line.and_then(|line| line.split(':').next()).map_or_else(|| user_id.to_string(), str::to_owned)
}

/// One build's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Its number; names its directory.
    pub number: usize,
    /// What its build runs as.
    pub ids: Ids,
}

/// All slots.
#[derive(Debug)]
pub struct Slots {
    free: Arc<Mutex<Vec<Slot>>>,
    semaphore: Arc<Semaphore>,
}

/// A slot while it is taken.
#[derive(Debug)]
pub struct Taken {
    /// Which.
    pub slot: Slot,
    free: Arc<Mutex<Vec<Slot>>>,
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    /// One slot for each pair of ids.
    pub fn new(ids: &[Ids]) -> Self {
        let slots: Vec<_> =
            ids.iter().enumerate().map(|(number, ids)| Slot { number, ids: *ids }).rev().collect();
        let semaphore = Arc::new(Semaphore::new(slots.len()));
        Self { free: Arc::new(Mutex::new(slots)), semaphore }
    }

    /// Waits for a free slot, in the order of asking; `None` when there are no slots at all.
    pub async fn take(&self) -> Option<Taken> {
        let permit = self.semaphore.clone().acquire_owned().await.ok()?;
        let slot = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Taken { slot, free: self.free.clone(), _permit: permit })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Before the permit goes: whoever gets it finds a slot.
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn no_two_builds_have_the_same_ids() {
        let ids = [Ids { user: 10, group: 20 }, Ids { user: 11, group: 21 }];
        let slots = Slots::new(&ids);
        let (first, second) = (slots.take().await.unwrap(), slots.take().await.unwrap());
        assert_eq!([first.slot.ids, second.slot.ids], ids);
        assert!(
            tokio::time::timeout(Duration::from_millis(20), slots.take()).await.is_err(),
            "both are taken"
        );
        drop(second);
        assert_eq!(slots.take().await.unwrap().slot.ids, ids[1]);
    }
}
