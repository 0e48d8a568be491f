//! Vectors that are indexed by their own kind of number, with places that are used again.
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// A place in an [`Arena`].
pub trait Place: Copy {
    /// From the position in the vector.
    fn at(position: usize) -> Self;
    /// To the position in the vector.
    fn position(self) -> usize;
}

macro_rules! place {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub struct $name(u32);

        impl Place for $name {
            fn at(position: usize) -> Self {
                // Four thousand million of them do not fit into memory.
                Self(u32::try_from(position).unwrap_or(u32::MAX))
            }

            fn position(self) -> usize {
                usize::try_from(self.0).unwrap_or(usize::MAX)
            }
        }
    };
}

place!(
    /// A task.
    TaskIx
);
place!(
    /// Content, known or only named.
    ContentIx
);
place!(
    /// An executor that was ever heard of.
    ExecutorIx
);
place!(
    /// A requirement that some task has.
    ClassIx
);
/// Items at places; a place is used again when its item was removed.
///
/// Items lie in pages: growing moves none but those of the last page, and leaves no room unused.
#[derive(Debug)]
pub struct Arena<I, T> {
    pages: Vec<Vec<T>>,
    free: Vec<I>,
}

/// Items of a full page.
const PAGE_ITEMS: usize = 1024;

impl<I: Place, T: Default> Arena<I, T> {
    /// An empty one.
    pub fn new() -> Self {
        Self { pages: Vec::new(), free: Vec::new() }
    }

    /// Adds an item.
    pub fn insert(&mut self, item: T) -> I {
        if let Some(place) = self.free.pop() {
            self[place] = item;
            return place;
        }
        let place = I::at(self.places_len());
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE_ITEMS => page.push(item),
            _ => self.pages.push(alloc::vec![item]),
        }
        place
    }

    /// Removes an item; its place holds an empty one until it is used again.
    pub fn remove(&mut self, place: I) {
        self[place] = T::default();
        self.free.push(place);
    }

    /// Places that were ever used.
    pub fn places_len(&self) -> usize {
        let full = self.pages.len().saturating_sub(1) * PAGE_ITEMS;
        full + self.pages.last().map_or(0, Vec::len)
    }

    /// All places, those without an item too.
    pub fn places(&self) -> impl Iterator<Item = I> + use<I, T> {
        (0..self.places_len()).map(I::at)
    }
}

impl<I: Place, T> Index<I> for Arena<I, T> {
    type Output = T;

    fn index(&self, place: I) -> &T {
        let position = place.position();
        &self.pages[position / PAGE_ITEMS][position % PAGE_ITEMS]
    }
}

impl<I: Place, T> IndexMut<I> for Arena<I, T> {
    fn index_mut(&mut self, place: I) -> &mut T {
        let position = place.position();
        &mut self.pages[position / PAGE_ITEMS][position % PAGE_ITEMS]
    }
}

/// Where a walk was: one walk after another without clearing.
#[derive(Debug, Default)]
pub struct Marks {
    walk: u32,
    marks: Vec<(u32, bool)>,
}

impl Marks {
    /// Begins another walk over so many places.
    pub fn begin(&mut self, places_len: usize) {
        if self.walk == u32::MAX {
            self.marks.clear();
            self.walk = 0;
        }
        self.walk += 1;
        if self.marks.len() < places_len {
            self.marks.resize(places_len, (0, false));
        }
    }

    /// Whether this walk entered a place, and if so whether it has left it.
    pub fn get<I: Place>(&self, place: I) -> Option<bool> {
        let (walk, left) = self.marks.get(place.position()).copied()?;
        (walk == self.walk).then_some(left)
    }

    /// Enters a place; false if this walk was there already.
    pub fn enter<I: Place>(&mut self, place: I) -> bool {
        let is_new = self.get(place).is_none();
        if is_new {
            self.set(place, false);
        }
        is_new
    }

    /// Leaves a place.
    pub fn leave<I: Place>(&mut self, place: I) {
        self.set(place, true);
    }

    fn set<I: Place>(&mut self, place: I, left: bool) {
        let position = place.position();
        if self.marks.len() <= position {
            self.marks.resize(position + 1, (0, false));
        }
        self.marks[position] = (self.walk, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_and_was_empty_meanwhile() {
        let mut arena = Arena::<TaskIx, u64>::new();
        let places = [7, 8].map(|item| arena.insert(item));
        arena.remove(places[0]);
        assert_eq!((arena[places[0]], arena[places[1]], arena.places_len()), (0, 8, 2));
        assert_eq!((arena.insert(9), arena[places[0]]), (places[0], 9));
        assert_eq!(arena.places().count(), 2);
    }

    #[test]
    fn items_beyond_a_page_are_where_they_were_put() {
        let mut arena = Arena::<TaskIx, usize>::new();
        let places: Vec<_> = (0..2 * PAGE_ITEMS + 3).map(|item| arena.insert(item)).collect();
        assert!(places.iter().enumerate().all(|(item, place)| arena[*place] == item));
        assert_eq!((arena.places_len(), arena.pages.len()), (2 * PAGE_ITEMS + 3, 3));
        arena[places[PAGE_ITEMS]] = 0;
        assert_eq!((arena[places[PAGE_ITEMS - 1]], arena[places[PAGE_ITEMS]]), (PAGE_ITEMS - 1, 0));
    }

    #[test]
    fn each_walk_begins_with_nothing_entered() {
        let mut marks = Marks::default();
        let [first, far] = [0, 9].map(TaskIx::at);
        marks.begin(1);
        assert!(marks.enter(first) && !marks.enter(first) && marks.get(first) == Some(false));
        marks.leave(first);
        assert_eq!((marks.get(first), marks.get(far)), (Some(true), None));
        assert!(marks.enter(far), "a place that came after the walk began");
        assert_eq!(marks.marks.len(), 10);
        marks.begin(4);
        assert!(marks.get(first).is_none() && marks.enter(first) && marks.marks.len() == 10);
        marks.begin(12);
        assert_eq!((marks.marks.len(), marks.get(first)), (12, None));
        // The last walk that has a number of its own; the next one begins with none.
        marks.walk = u32::MAX - 1;
        marks.begin(12);
        assert!(marks.enter(first));
        marks.begin(12);
        assert_eq!((marks.walk, marks.get(first)), (1, None));
    }
}
