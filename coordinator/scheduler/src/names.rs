//! Finds tasks and contents by their ids: numbers in a hash table, so that no id is kept twice.
use crate::State;
use crate::arena::{ContentIx, TaskIx};
use core::hash::BuildHasher as _;
use foldhash::quality::FixedState;
use hashbrown::HashTable;
use model::{ContentId, TaskId};

/// Places by the ids of what is there.
#[derive(Debug)]
pub(crate) struct Names<I> {
    places: HashTable<I>,
    hasher: FixedState,
}

impl<I: Copy + PartialEq> Names<I> {
    /// `seed` is secret where ids come from others: else they could choose some that all fall together.
    pub(crate) fn new(seed: u64) -> Self {
        Self { places: HashTable::new(), hasher: FixedState::with_seed(seed) }
    }

    /// Nothing twice: the id is not there yet.
    fn insert<'a>(&mut self, place: I, id_of: impl Fn(I) -> &'a ContentId) {
        let Self { places, hasher } = self;
        let hash = |place: &I| hasher.hash_one(id_of(*place));
        places.insert_unique(hash(&place), place, hash);
    }

    fn find<'a>(&self, id: &ContentId, id_of: impl Fn(I) -> &'a ContentId) -> Option<I> {
        self.places.find(self.hasher.hash_one(id), |place| id_of(*place) == id).copied()
    }

    fn remove(&mut self, id: &ContentId, place: I) {
        if let Ok(found) = self.places.find_entry(self.hasher.hash_one(id), |found| *found == place) {
            found.remove();
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// All places, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = I> {
        self.places.iter().copied()
    }
}

impl State {
    /// The task with this id.
    pub(crate) fn task_place(&self, id: &TaskId) -> Option<TaskIx> {
        self.task_names.find(id, |place| &self.tasks[place].id)
    }

    /// The content with this id, known or only named.
    pub(crate) fn content_place(&self, id: &ContentId) -> Option<ContentIx> {
        self.content_names.find(id, |place| &self.contents[place].id)
    }

    /// A task that was just put into its place can be found.
    pub(crate) fn name_task(&mut self, place: TaskIx) {
        self.task_names.insert(place, |place| &self.tasks[place].id);
    }

    /// Content that was just put into its place can be found.
    pub(crate) fn name_content(&mut self, place: ContentIx) {
        self.content_names.insert(place, |place| &self.contents[place].id);
    }

    /// A task that is about to leave its place cannot be found any more.
    pub(crate) fn unname_task(&mut self, place: TaskIx) {
        self.task_names.remove(&self.tasks[place].id, place);
    }

    /// Content that is about to leave its place cannot be found any more.
    pub(crate) fn unname_content(&mut self, place: ContentIx) {
        self.content_names.remove(&self.contents[place].id, place);
    }
}
