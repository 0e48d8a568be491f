//! Sets of small numbers: contents of a world, and who has them.

const WORDS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Bits([u64; WORDS]);

impl Bits {
    /// Numbers below this fit.
    pub const MAX: usize = WORDS * 64;

    pub fn has(&self, number: usize) -> bool {
        self.0[number / 64] >> (number % 64) & 1 == 1
    }

    /// Says whether it is new.
    pub fn add(&mut self, number: usize) -> bool {
        let is_new = !self.has(number);
        self.0[number / 64] |= 1 << (number % 64);
        is_new
    }

    /// Says whether it was there.
    pub fn remove(&mut self, number: usize) -> bool {
        let was_there = self.has(number);
        self.0[number / 64] &= !(1 << (number % 64));
        was_there
    }

    pub fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
    }

    pub fn and(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }

    pub fn without(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub fn is_within(&self, other: &Self) -> bool {
        self.without(other).is_empty()
    }

    pub fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(place, word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(place * 64 + bit)
            })
        })
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut bits = Self::default();
        numbers.into_iter().for_each(|number| _ = bits.add(number));
        bits
    }
}
