//! Room on the disk: a part of it stays free, and builds are ended for it, the youngest first (decision 007).
use super::run::Ended;
use crate::store::Store;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a build looks at the disk.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Watches the disk of the builds.
#[derive(Debug)]
pub struct Disk {
    store: Arc<Store>,
    reserve_bytes: u64,
    builds: Mutex<Builds>,
}

#[derive(Debug, Default)]
struct Builds {
    next: u64,
    /// In the order of their start.
    present: BTreeSet<u64>,
}

/// A build that has files on the disk.
#[derive(Debug)]
pub struct Present {
    disk: Arc<Disk>,
    number: u64,
}

impl Disk {
    /// Of the builds beside a store.
    pub fn new(store: Arc<Store>, reserve_bytes: u64) -> Self {
        Self { store, reserve_bytes, builds: Mutex::default() }
    }

    /// How a build would end that wanted to begin now, if there is no room for it.
    pub fn refuses(&self) -> Option<Ended> {
        let free_bytes = self.store.free_disk_bytes();
        let reserve_bytes = self.reserve_bytes;
        (free_bytes < reserve_bytes).then_some(Ended::OutOfDisk { free_bytes, reserve_bytes })
    }

    /// A build begins. Keep what this returns until its files are removed.
    pub fn enter(self: &Arc<Self>) -> Present {
        let mut builds = self.builds();
        let number = builds.next;
        builds.next += 1;
        builds.present.insert(number);
        Present { disk: self.clone(), number }
    }

    fn builds(&self) -> MutexGuard<'_, Builds> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    /// Waits until this build must make room.
    pub async fn must_go(&self) -> Ended {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            // One that was ended stays the youngest until its files are gone: then the others look again.
            let is_youngest = self.disk.builds().present.last() == Some(&self.number);
            if let (true, Some(ended)) = (is_youngest, self.disk.refuses()) {
                return ended;
            }
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.disk.builds().present.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_youngest_goes_first_and_the_next_only_when_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path(), false).unwrap());
        let disk = Arc::new(Disk::new(store, u64::MAX));
        assert!(disk.refuses().is_some());
        let (old, young) = (disk.enter(), disk.enter());
        let soon = LOOK_INTERVAL * 3;
        assert!(
            tokio::time::timeout(soon, old.must_go()).await.is_err(),
            "the old one goes before the young"
        );
        let ended = tokio::time::timeout(soon, young.must_go()).await.unwrap();
        assert!(matches!(ended, Ended::OutOfDisk { reserve_bytes: u64::MAX, .. }), "{ended:?}");
        drop(young);
        tokio::time::timeout(soon, old.must_go()).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_goes_while_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path(), false).unwrap());
        let disk = Arc::new(Disk::new(store, 0));
        assert_eq!(disk.refuses(), None);
        assert!(tokio::time::timeout(LOOK_INTERVAL * 3, disk.enter().must_go()).await.is_err());
    }
}
