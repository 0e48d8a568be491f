//! Vectors that are indexed by their own kind of number, with places that are used again.
use alloc::vec::Vec;
use core::marker::PhantomData;
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
#[derive(Debug)]
pub struct Arena<I, T> {
    items: Vec<T>,
    free: Vec<usize>,
    places: PhantomData<I>,
}

impl<I: Place, T: Default> Arena<I, T> {
    /// An empty one.
    pub fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new(), places: PhantomData }
    }

    /// Adds an item.
    pub fn insert(&mut self, item: T) -> I {
        if let Some(position) = self.free.pop() {
            self.items[position] = item;
            return I::at(position);
        }
        self.items.push(item);
        I::at(self.items.len() - 1)
    }

    /// Removes an item; its place holds an empty one until it is used again.
    pub fn remove(&mut self, place: I) {
        self.items[place.position()] = T::default();
        self.free.push(place.position());
    }

    /// Places that were ever used.
    pub fn places_len(&self) -> usize {
        self.items.len()
    }

    /// All places, those without an item too.
    pub fn places(&self) -> impl Iterator<Item = I> + use<I, T> {
        (0..self.items.len()).map(I::at)
    }
}

impl<I: Place, T> Index<I> for Arena<I, T> {
    type Output = T;

    fn index(&self, place: I) -> &T {
        &self.items[place.position()]
    }
}

impl<I: Place, T> IndexMut<I> for Arena<I, T> {
    fn index_mut(&mut self, place: I) -> &mut T {
        &mut self.items[place.position()]
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
