//! Who has what, and which content is whole: known, held, and everything that it refers to as well.
use crate::arena::{ContentIx, ExecutorIx, Marks};
use crate::state::{Content, Facts};
use crate::{Fact, Holder, State};
use alloc::{boxed::Box, collections::BTreeSet, vec, vec::Vec};
use core::mem;
use model::ContentId;

impl State {
    /// The place of content, new if nobody has named it yet.
    pub(crate) fn content(&mut self, id: &ContentId) -> ContentIx {
        if let Some(place) = self.content_place(id) {
            return place;
        }
        let place = self.contents.insert(Content { id: id.clone(), ..Content::default() });
        self.name_content(place);
        place
    }

    /// Content may have lost the last reason to be remembered.
    pub(crate) fn forget_if_unused(&mut self, content: ContentIx) {
        self.queues.unused.push(content);
    }

    /// Forgets content that nobody has, names or wants any more; should a later plan name it, the shell says again what is known of
    /// it. All at once, since thousands may refer to the same.
    pub(crate) fn forget_unused(&mut self) {
        let mut candidates = mem::take(&mut self.queues.unused);
        while !candidates.is_empty() {
            candidates.sort_unstable();
            candidates.dedup();
            candidates.retain(|content| self.is_unused(*content));
            let mut references = BTreeSet::new();
            for content in &candidates {
                references.extend(self.contents[*content].references());
            }
            for reference in &references {
                let referrers = &mut self.contents[*reference].referrers;
                referrers.retain(|referrer| candidates.binary_search(referrer).is_err());
            }
            for content in candidates {
                self.unname_content(content);
                self.contents.remove(content);
                self.pulls.behind.remove(&content);
            }
            candidates = references.into_iter().collect();
        }
    }

    fn is_unused(&self, content: ContentIx) -> bool {
        let item = &self.contents[content];
        let is_named = !(item.makers.is_empty() && item.users.is_empty() && item.referrers.is_empty());
        // What stands for an output is nowhere.
        let is_stored = item.in_store && !item.id.path.is_promise();
        // Who was lost may come back with it.
        let mut executors = self.executors.places();
        let was_held = |executor| self.executors[executor].held_once.contains(&content);
        !(is_named || is_stored || self.pulls.has(content))
            && item.roots.is_empty()
            && item.holders.is_empty()
            && self.content_place(&item.id) == Some(content)
            && !executors.any(was_held)
    }

    /// Sets what is known of content's bytes.
    pub(crate) fn learn(&mut self, content: ContentIx, mut facts: Facts) {
        let mut references = facts.references.into_vec();
        references.sort_unstable();
        references.dedup();
        references.retain(|reference| *reference != content);
        facts.references = references.into();
        if let Some(former) = self.contents[content].facts.take() {
            for reference in &former.references {
                self.contents[*reference].referrers.retain(|referrer| *referrer != content);
                self.forget_if_unused(*reference);
            }
        }
        let (mut missing, mut unstored) = (0, 0);
        for reference in &facts.references {
            let item = &mut self.contents[*reference];
            item.referrers.push(content);
            missing += u32::from(!item.is_whole);
            unstored += u32::from(!item.is_stored);
        }
        let item = &mut self.contents[content];
        item.facts = Some(Box::new(facts));
        (item.references_missing, item.references_unstored) = (missing, unstored);
        self.refresh_content(content);
    }

    /// An executor that is not lost has content. Says whether that is new to the journal.
    pub(crate) fn hold(&mut self, content: ContentIx, executor: ExecutorIx) -> bool {
        let holder = &mut self.executors[executor];
        let was_recorded = holder.held_once.remove(&content);
        if let Some(unnamed) = &mut holder.unnamed {
            unnamed.remove(&content);
        }
        let is_new = holder.holds.insert(content);
        let item = &mut self.contents[content];
        if let Err(position) = item.holders.binary_search(&executor) {
            item.holders.insert(position, executor);
        }
        self.refresh_content(content);
        // A ready task may have waited for a holder in reach.
        self.placement_due = true;
        is_new && !was_recorded
    }

    /// As [`State::hold`], and records it.
    pub(crate) fn hold_and_record(&mut self, content: ContentIx, executor: ExecutorIx) {
        if self.hold(content, executor) {
            self.record_held(content, executor);
        }
    }

    pub(crate) fn record_held(&mut self, content: ContentIx, executor: ExecutorIx) {
        let holder = Holder::Executor(self.executors[executor].name.clone());
        self.out.record(Fact::Held(self.contents[content].id.clone(), holder));
    }

    /// An executor does not have content; recorded if it was thought to.
    pub(crate) fn unhold(&mut self, content: ContentIx, executor: ExecutorIx) {
        let holder = &mut self.executors[executor];
        let was_held = holder.holds.remove(&content) | holder.held_once.remove(&content);
        if let Some(unnamed) = &mut holder.unnamed {
            unnamed.remove(&content);
        }
        if was_held {
            let name = holder.name.clone();
            self.contents[content].holders.retain(|other| *other != executor);
            let id = self.contents[content].id.clone();
            self.out.record(Fact::NotHeld(id, Holder::Executor(name)));
            self.refresh_content(content);
            self.forget_if_unused(content);
        }
    }

    /// The content store has content. Says whether that is new.
    pub(crate) fn store(&mut self, content: ContentIx) -> bool {
        let is_new = !mem::replace(&mut self.contents[content].in_store, true);
        self.contents[content].pulls_failed = 0;
        self.refresh_content(content);
        self.placement_due = true;
        is_new
    }

    /// Brings `is_whole` and `is_stored` up to date, here and in all that depends on it.
    pub(crate) fn refresh_content(&mut self, content: ContentIx) {
        let mut work = vec![content];
        while let Some(content) = work.pop() {
            let item = &mut self.contents[content];
            let is_available = item.is_available();
            let is_whole = is_available && item.references_missing == 0;
            let is_stored = item.facts.is_some() && item.in_store && item.references_unstored == 0;
            let whole_changed = mem::replace(&mut item.is_whole, is_whole) != is_whole;
            let stored_changed = mem::replace(&mut item.is_stored, is_stored) != is_stored;
            if mem::replace(&mut item.was_available, is_available) != is_available || whole_changed {
                self.queues.turned.push(content);
            }
            if whole_changed || stored_changed {
                let referrers = mem::take(&mut item.referrers);
                for referrer in &referrers {
                    let item = &mut self.contents[*referrer];
                    step(&mut item.references_missing, whole_changed, is_whole);
                    step(&mut item.references_unstored, stored_changed, is_stored);
                }
                work.extend_from_slice(&referrers);
                self.contents[content].referrers = referrers;
            }
            if whole_changed {
                let users = mem::take(&mut self.contents[content].users);
                for user in &users {
                    step(&mut self.tasks[*user].inputs_missing, true, is_whole);
                }
                self.contents[content].users = users;
            }
            if stored_changed && is_stored {
                self.queues.stored.push(content);
            }
        }
    }

    /// Everything that these contents refer to, themselves included, references first.
    pub(crate) fn closure(&mut self, contents: &[ContentIx]) -> Vec<ContentIx> {
        let mut marks = mem::take(&mut self.content_marks);
        let closure = self.closure_with(&mut marks, contents);
        self.content_marks = marks;
        closure
    }

    /// The same, for those who keep the marks.
    pub(crate) fn closure_with(&self, marks: &mut Marks, contents: &[ContentIx]) -> Vec<ContentIx> {
        marks.begin(self.contents.places_len());
        let mut closure = Vec::new();
        let mut path: Vec<(ContentIx, usize)> = Vec::new();
        for start in contents {
            if marks.enter(*start) {
                path.push((*start, 0));
            }
            while let Some((content, next)) = path.last_mut() {
                match self.contents[*content].references().get(*next) {
                    Some(reference) => {
                        *next += 1;
                        if marks.enter(*reference) {
                            path.push((*reference, 0));
                        }
                    }
                    None => {
                        closure.push(*content);
                        path.pop();
                    }
                }
            }
        }
        closure
    }
}

/// One less is missing where something is there now, one more where it is gone.
fn step(missing: &mut u32, has_changed: bool, is_there: bool) {
    if has_changed {
        *missing = if is_there { missing.saturating_sub(1) } else { missing.saturating_add(1) };
    }
}
