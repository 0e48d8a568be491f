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
