//! Memory: what a task is expected to need, which executors are big enough for it, and when one has room.
//!
//! Executors say how much memory all their builds share, and how much one of them may have. What nobody has measured is
//! given no room of its own: should it need more than there is, it ends for want of memory, and that is learned.
use crate::arena::{ClassIx, ExecutorIx, TaskIx};
use crate::{LeaseKey, State};
use alloc::{collections::BTreeMap, vec::Vec};

/// A build that ended for want of memory, and had this part of what it may have, had all of it.
const ALL_PARTS: u64 = 8;
/// What an executor that does not say how much it has may say of a build, in bytes.
const BELIEVED_MAX: u64 = 1 << 40;

impl State {
    /// How much memory an attempt needed, before it is reported how that ended: no more than its executor has.
    pub(crate) fn used(&mut self, key: LeaseKey, executor: ExecutorIx, memory_bytes: u64) {
        let has_bytes = match self.executors[executor].capability.memory_bytes {
            0 => BELIEVED_MAX,
            bytes => bytes,
        };
        if let Some(lease) = self.leases.get_mut(&key.id) {
            lease.memory_bytes = memory_bytes.min(has_bytes);
        }
    }

    /// What a task is expected to need, in bytes; 0 when nobody knows.
    pub(crate) fn memory_bytes(&self, place: TaskIx) -> u64 {
        let task = &self.tasks[place];
        self.estimates.memory_bytes(task.described).max(task.past().memory_bytes_min)
    }

    /// What one build may have on an executor.
    pub(crate) fn build_memory_bytes(&self, executor: ExecutorIx) -> u64 {
        match self.executors[executor].capability.build_memory_bytes {
            0 => u64::MAX,
            bytes => bytes,
        }
    }

    /// Whether an executor gives a task the memory that it needs. Where nobody does, those do that give most.
    pub(crate) fn is_big_enough(&self, task: TaskIx, class: ClassIx, executor: ExecutorIx) -> bool {
        // Most say nothing of what a build may have: what it needs is not looked up then.
        let has = self.build_memory_bytes(executor);
        has == u64::MAX || has >= self.memory_bytes(task).min(self.classes[class].memory_bytes_max)
    }

    /// A task ended on an executor for want of memory. It needs more from now on: room of its own, then a bigger executor.
    /// Says whether that was an attempt: it was, if nobody has more to give.
    pub(crate) fn ran_out_of_memory(&mut self, place: TaskIx, executor: ExecutorIx, used_bytes: u64) -> bool {
        let had = self.build_memory_bytes(executor);
        let expected = self.memory_bytes(place);
        if had == u64::MAX {
            // It does not say what it has: who has more, nobody can tell.
            return true;
        }
        let needs = needs_after(had, used_bytes, expected);
        self.tasks[place].past_mut().memory_bytes_min = needs;
        self.estimates.needs_memory(self.tasks[place].described, needs);
        let class = self.tasks[place].class;
        self.refresh_class(class);
        self.classes[class].memory_bytes_max < needs
    }
}

/// What a build needs that ended for want of memory: that had so much to have, used so much of it as far as that is known, and
/// was expected to need so much.
fn needs_after(had: u64, used: u64, expected: u64) -> u64 {
    match used >= had - had / ALL_PARTS || expected >= had {
        true => had.saturating_add(1),
        false if used == 0 => had,
        false => used.max(expected).saturating_mul(2).min(had),
    }
}

/// What executors have promised of their memory, and until when.
pub(crate) struct Rooms {
    /// For those that say how much they have.
    rooms: BTreeMap<ExecutorIx, Room>,
}

struct Room {
    total_bytes: u64,
    /// When it is given back, in milliseconds from now, and how much.
    taken: Vec<(u64, u64)>,
}

impl Rooms {
    /// With what runs now.
    pub(crate) fn of(state: &State) -> Self {
        let mut rooms = BTreeMap::new();
        for executor in state.executors.places() {
            let item = &state.executors[executor];
            if item.may_get_leases() && item.capability.memory_bytes > 0 {
                let running = item.leases.iter().filter_map(|lease| state.leases.get(lease));
                let taken =
                    running.map(|lease| (state.left_ms(lease), state.memory_bytes(lease.task))).collect();
                rooms.insert(executor, Room { total_bytes: item.capability.memory_bytes, taken });
            }
        }
        Self { rooms }
    }

    /// When an executor has so much, in milliseconds from now: at the latest when it has nothing else to do.
    pub(crate) fn free_ms(&self, executor: ExecutorIx, bytes: u64) -> u64 {
        let Some(room) = self.rooms.get(&executor).filter(|_| bytes > 0) else { return 0 };
        // What needs more than there is gets all of it.
        let bytes = bytes.min(room.total_bytes);
        let mut used: u64 = room.taken.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let mut taken = room.taken.clone();
        taken.sort_unstable();
        let mut free_ms = 0;
        for (until_ms, given_back) in taken {
            if used.saturating_add(bytes) <= room.total_bytes {
                break;
            }
            used = used.saturating_sub(given_back);
            free_ms = until_ms;
        }
        free_ms
    }

    /// An executor promises memory until then.
    pub(crate) fn take(&mut self, executor: ExecutorIx, until_ms: u64, bytes: u64) {
        if let Some(room) = self.rooms.get_mut(&executor).filter(|_| bytes > 0) {
            room.taken.push((until_ms, bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_out_of_memory_gets_twice_as_much_or_goes_where_there_is_more() {
        // What it had, what it used and was expected to; what it needs.
        let cases = [
            (800, 700, 0, 801),
            (800, 699, 0, 800),
            (800, 300, 0, 600),
            (800, 100, 250, 500),
            (800, 0, 250, 800),
            (800, 0, 799, 800),
            (800, 1, 799, 800),
            (800, 1, 800, 801),
            (0, 0, 0, 1),
            (u64::MAX, u64::MAX, 0, u64::MAX),
        ];
        for (had, used, expected, needs) in cases {
            assert_eq!(needs_after(had, used, expected), needs, "{had} {used} {expected}");
        }
    }
}
