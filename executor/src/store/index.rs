//! What is held, in the order of last use, and what is in use now. Pure.
use model::{ContentId, PathFacts};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Paths by domain and name. Times of use are counted, not measured: a clock may jump.
#[derive(Debug, Default)]
pub struct Index {
    held: HashMap<ContentId, Entry>,
    /// How many use a path, which may not be held yet.
    pins: HashMap<ContentId, usize>,
    /// Of all archives that are held.
    bytes: u64,
    uses: u64,
    /// Used since [`Index::take_unrecorded`].
    unrecorded: HashSet<ContentId>,
    /// Fetched since [`Index::take_untold`].
    untold: HashSet<ContentId>,
}

#[derive(Debug)]
struct Entry {
    facts: Arc<PathFacts>,
    used: u64,
}

impl Index {
    /// A path is held; it counts as used now.
    pub fn insert(&mut self, id: ContentId, facts: Arc<PathFacts>) {
        self.uses += 1;
        self.bytes = self.bytes.saturating_add(facts.nar_size);
        let entry = Entry { facts, used: self.uses };
        if let Some(former) = self.held.insert(id, entry) {
            self.bytes = self.bytes.saturating_sub(former.facts.nar_size);
        }
    }

    /// A path is not held any more.
    pub fn remove(&mut self, id: &ContentId) -> Option<Arc<PathFacts>> {
        let entry = self.held.remove(id)?;
        self.bytes = self.bytes.saturating_sub(entry.facts.nar_size);
        self.unrecorded.remove(id);
        self.untold.remove(id);
        Some(entry.facts)
    }

    /// A path that nobody uses is not held any more; gives its facts if somebody does.
    pub fn remove_unused(&mut self, id: &ContentId) -> Result<bool, Arc<PathFacts>> {
        match self.held.get(id) {
            Some(entry) if self.pins.contains_key(id) => Err(entry.facts.clone()),
            _ => Ok(self.remove(id).is_some()),
        }
    }

    /// What is known about a path, when it is held.
    pub fn get(&self, id: &ContentId) -> Option<&Arc<PathFacts>> {
        self.held.get(id).map(|entry| &entry.facts)
    }

    /// All that is held.
    pub fn held(&self) -> impl Iterator<Item = (&ContentId, &Arc<PathFacts>)> {
        self.held.iter().map(|(id, entry)| (id, &entry.facts))
    }

    /// A path was fetched: nobody else knows yet that it is held.
    pub fn fetched(&mut self, id: &ContentId) {
        if self.held.contains_key(id) {
            self.untold.insert(id.clone());
        }
    }

    /// What was fetched since the last call, and is still held; so many at most.
    pub fn take_untold(&mut self, paths_max: usize) -> Vec<(ContentId, Arc<PathFacts>)> {
        let ids: Vec<ContentId> = self.untold.iter().take(paths_max).cloned().collect();
        ids.iter().for_each(|id| _ = self.untold.remove(id));
        ids.into_iter().filter_map(|id| Some((id.clone(), self.get(&id)?.clone()))).collect()
    }

    /// Bytes of all archives that are held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Somebody uses a path until [`Index::unpin`].
    pub fn pin(&mut self, id: &ContentId) {
        *self.pins.entry(id.clone()).or_default() += 1;
    }

    /// One user less; that was its last use.
    pub fn unpin(&mut self, id: &ContentId) {
        match self.pins.get_mut(id) {
            Some(users) if *users > 1 => *users -= 1,
            _ => _ = self.pins.remove(id),
        }
        if let Some(entry) = self.held.get_mut(id) {
            self.uses += 1;
            entry.used = self.uses;
            self.unrecorded.insert(id.clone());
        }
    }

    /// Paths that nobody uses, least recently used first: so many bytes of them, and so many at most.
    pub fn oldest(&self, bytes: u64, paths_max: usize) -> Vec<ContentId> {
        let unused = self.held.iter().filter(|(id, _)| !self.pins.contains_key(*id));
        let mut unused: Vec<_> = unused.collect();
        if unused.len() > paths_max && paths_max > 0 {
            unused.select_nth_unstable_by_key(paths_max - 1, |(_, entry)| entry.used);
        }
        unused.truncate(paths_max);
        unused.sort_unstable_by_key(|(_, entry)| entry.used);
        let mut sum = 0u64;
        let wanted = unused.into_iter().take_while(|(_, entry)| {
            let is_enough = sum >= bytes;
            sum = sum.saturating_add(entry.facts.nar_size);
            !is_enough
        });
        wanted.map(|(id, _)| id.clone()).collect()
    }

    /// What was used since the last call, in the order of last use.
    pub fn take_unrecorded(&mut self) -> Vec<ContentId> {
        let taken = std::mem::take(&mut self.unrecorded);
        let used = |id: &ContentId| self.held.get(id).map(|entry| entry.used);
        let mut taken: Vec<_> = taken.into_iter().filter_map(|id| Some((used(&id)?, id))).collect();
        taken.sort_unstable_by_key(|(used, _)| *used);
        taken.into_iter().map(|(_, id)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{StorePath, TrustDomain};

    fn id(name: &str) -> ContentId {
        let path = StorePath::from_validated(&format!("/nix/store/{name}"));
        ContentId { domain: TrustDomain::Shared, path }
    }

    /// Holds a, b and c of 10 bytes each, used in this order.
    fn index() -> Index {
        let mut index = Index::default();
        for name in ["a", "b", "c"] {
            let facts = PathFacts {
                nar_sha256: [0; 32],
                nar_size: 10,
                references: vec![],
                deriver: None,
                content_address: None,
            };
            index.insert(id(name), Arc::new(facts));
        }
        index
    }

    #[test]
    fn what_was_not_used_for_longest_comes_first_and_what_is_in_use_never() {
        let mut index = index();
        assert_eq!((index.bytes(), index.oldest(u64::MAX, 9)), (30, [id("a"), id("b"), id("c")].into()));
        assert_eq!(index.oldest(11, 9), [id("a"), id("b")], "so many bytes");
        assert_eq!(index.oldest(u64::MAX, 1), [id("a")], "so many paths");
        assert_eq!((index.oldest(0, 9), index.oldest(9, 0)), (vec![], vec![]));
        index.pin(&id("a"));
        index.pin(&id("a"));
        assert_eq!(index.oldest(u64::MAX, 9), [id("b"), id("c")]);
        index.unpin(&id("a"));
        assert!(index.remove_unused(&id("a")).is_err(), "somebody still uses it");
        index.unpin(&id("a"));
        assert_eq!(index.oldest(u64::MAX, 9), [id("b"), id("c"), id("a")]);
        assert_eq!(index.remove_unused(&id("b")), Ok(true));
        assert_eq!((index.remove_unused(&id("b")), index.bytes()), (Ok(false), 20));
    }

    #[test]
    fn what_was_fetched_is_told_once_and_while_it_is_held() {
        let mut index = index();
        ["a", "b", "c", "d", "a"].iter().for_each(|name| index.fetched(&id(name)));
        index.remove(&id("b"));
        let told = |index: &mut Index| index.take_untold(1).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        let mut all = [told(&mut index), told(&mut index)].concat();
        all.sort();
        assert_eq!((all, told(&mut index)), ([id("a"), id("c")].into(), vec![]));
    }

    #[test]
    fn what_is_not_held_yet_is_in_use_when_it_comes_and_uses_are_recorded_in_order() {
        let mut index = index();
        index.pin(&id("d"));
        let facts = index.get(&id("a")).unwrap().clone();
        index.insert(id("d"), facts);
        assert!(!index.oldest(u64::MAX, 9).contains(&id("d")));
        assert_eq!(index.take_unrecorded(), []);
        for name in ["c", "a", "d", "c", "never-held"] {
            index.pin(&id(name));
            index.unpin(&id(name));
        }
        index.remove(&id("d"));
        assert_eq!(index.take_unrecorded(), [id("a"), id("c")]);
        assert_eq!(index.take_unrecorded(), []);
    }
}
