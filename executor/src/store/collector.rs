//! Keeps the store within its limits: what it would like to drop, and the dropping of what it may. Nothing goes without a word
//! of the coordinator (decision 011).
use super::Store;
use crate::blocking::blocking;
use model::{ContentId, PathFacts, limits::DROPS_ASKED_MAX};
use node::exit::chain;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer may take before the question is asked again.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// What the store leaves free, of the disk and of its own limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of all archives that are held. Room is made from nine tenths of it on, until eight tenths are left.
    pub bytes_max: Option<u64>,
    /// Free bytes of the disk below which room is made, until there is an eighth more.
    pub free_bytes_min: u64,
    /// Free bytes of the disk below which no build begins; again when there is an eighth more.
    pub reserve_bytes: u64,
}

/// Asks for room and makes it.
#[derive(Debug)]
pub struct Collector {
    store: Arc<Store>,
    limits: Limits,
    /// Room was wanted and is not there yet.
    is_collecting: AtomicBool,
    was_full: AtomicBool,
    /// Portions that are being removed: the disk tells nothing meanwhile.
    pub(super) removing: AtomicUsize,
    questions: Mutex<Questions>,
}

/// One question at a time: an answer to an earlier one may say less than was told since.
#[derive(Debug, Default)]
struct Questions {
    last: u64,
    /// When the last one was asked, until it is answered.
    asked: Option<Instant>,
}

impl Collector {
    /// Of a store.
    pub fn new(store: Arc<Store>, limits: Limits) -> Self {
        Self {
            store,
            limits,
            is_collecting: AtomicBool::new(false),
            was_full: AtomicBool::new(false),
            removing: AtomicUsize::new(0),
            questions: Mutex::default(),
        }
    }

    /// Whether no build should begin here now.
    pub fn is_full(&self) -> bool {
        let was_full = self.was_full.load(Ordering::Relaxed);
        let is_full = self.limits.is_full(self.store.bytes(), self.store.free_disk_bytes(), was_full);
        if is_full != was_full {
            self.was_full.store(is_full, Ordering::Relaxed);
            tracing::warn!(is_full, "room for builds on the disk");
        }
        is_full
    }

    /// The next question, if there is one: what should go to make room. It is asked again until that may go, or there is room.
    pub fn question(&self) -> Option<(u64, Vec<ContentId>)> {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = questions.asked.is_some_and(|asked| asked.elapsed() < ANSWER_WAIT);
        if waits || self.removing.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let is_collecting = self.is_collecting.load(Ordering::Relaxed);
        let excess = self.limits.excess(self.store.bytes(), self.store.free_disk_bytes(), is_collecting);
        self.is_collecting.store(excess > 0, Ordering::Relaxed);
        let ids = self.store.index().oldest(excess, DROPS_ASKED_MAX);
        if ids.is_empty() {
            return None;
        }
        questions.last += 1;
        questions.asked = Some(Instant::now());
        Some((questions.last, ids))
    }

    /// A connection ended: nothing that it asked is answered.
    pub fn disconnect(&self) {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).asked = None;
    }

    /// The answer to a question: the coordinator counts on these no more. They are not held from here on, and their files go in
    /// the background. Gives those that somebody uses meanwhile: they stay, and the coordinator must hear of it.
    pub fn answer(self: &Arc<Self>, number: u64, ids: Vec<ContentId>) -> Vec<(ContentId, Arc<PathFacts>)> {
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        {
            let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
            if questions.last != number || questions.asked.take().is_none() {
                return kept;
            }
        }
        {
            let mut index = self.store.index();
            for id in ids {
                match index.remove_unused(&id) {
                    Ok(true) => gone.push(id),
                    Ok(false) => {}
                    Err(facts) => kept.push((id, facts)),
                }
            }
        }
        if !gone.is_empty() {
            self.removing.fetch_add(1, Ordering::Relaxed);
            let collector = self.clone();
            node::task::spawn("collect", async move {
                let store = collector.store.clone();
                blocking(move || remove(&store, &gone)).await;
                collector.removing.fetch_sub(1, Ordering::Relaxed);
            });
        }
        kept
    }
}

fn remove(store: &Store, gone: &[ContentId]) {
    for id in gone {
        if let Err(error) = store.remove_if_gone(id) {
            tracing::warn!(path = %id.path, error = chain(&error), "files of a dropped path stay until the next start");
        }
    }
    tracing::info!(paths = gone.len(), bytes_held = store.bytes(), "dropped to make room");
}

impl Limits {
    /// Whether a store should make room.
    pub fn are_reached(&self, store: &Store) -> bool {
        self.excess(store.bytes(), store.free_disk_bytes(), false) > 0
    }

    fn is_full(&self, bytes: u64, free_bytes: u64, was_full: bool) -> bool {
        let enough = if was_full { an_eighth_more(self.reserve_bytes) } else { self.reserve_bytes };
        free_bytes < enough || self.bytes_max.is_some_and(|max| bytes > max)
    }

    /// Bytes to make room for.
    fn excess(&self, bytes: u64, free_bytes: u64, is_collecting: bool) -> u64 {
        let free_wanted =
            if is_collecting { an_eighth_more(self.free_bytes_min) } else { self.free_bytes_min };
        let tenths = if is_collecting { 8 } else { 9 };
        let over = self.bytes_max.map_or(0, |max| bytes.saturating_sub(max / 10 * tenths));
        let lacking = free_wanted.saturating_sub(free_bytes);
        match over.max(lacking) {
            0 => 0,
            _ if !is_collecting => self.excess(bytes, free_bytes, true),
            excess => excess,
        }
    }
}

fn an_eighth_more(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_beyond_what_started_it() {
        let limits = Limits { bytes_max: Some(100), free_bytes_min: 800, reserve_bytes: 400 };
        // Bytes held, bytes free, whether room is being made; what it lacks.
        let cases = [
            (90, 800, false, 0),
            (91, 800, false, 100),
            (81, 900, true, 1),
            (80, 900, true, 0),
            (0, 799, false, 101),
            (0, 899, true, 1),
            (95, 1_000, false, 15),
            (u64::MAX, 0, false, u64::MAX - 80),
        ];
        for (bytes, free, is_collecting, excess) in cases {
            assert_eq!(limits.excess(bytes, free, is_collecting), excess, "{bytes} {free} {is_collecting}");
        }
        let unlimited = Limits { bytes_max: None, ..limits };
        assert_eq!(unlimited.excess(u64::MAX, 800, false), 0);
    }

    #[test]
    fn full_is_what_lacks_the_reserve_and_until_a_little_more_is_there() {
        let limits = Limits { bytes_max: Some(100), free_bytes_min: 800, reserve_bytes: 400 };
        let cases = [
            (0, 400, false, false),
            (0, 399, false, true),
            (0, 449, true, true),
            (0, 450, true, false),
            (100, 1_000, false, false),
            (101, 1_000, false, true),
        ];
        for (bytes, free, was_full, is_full) in cases {
            assert_eq!(limits.is_full(bytes, free, was_full), is_full, "{bytes} {free} {was_full}");
        }
    }
}
