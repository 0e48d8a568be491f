//! What executors would like to drop: what stays elsewhere, or what nobody needs, they may; anything else is pulled first.
use crate::arena::{ContentIx, ExecutorIx};
use crate::{Effect, State};
use alloc::vec::Vec;
use model::{ContentId, ExecutorName, limits::DROPS_ASKED_MAX};

impl State {
    /// An executor asks what it may drop. It asks again for what it was not told of: once that is in the content store, it may.
    pub(crate) fn would_drop(&mut self, name: &ExecutorName, number: u64, asked: Vec<ContentId>) {
        let Some(executor) = self.connected(name) else { return };
        // What was not found to be needed for one content is not for the next either.
        self.content_marks.begin(self.contents.places_len());
        let mut contents = Vec::new();
        for id in asked.into_iter().take(DROPS_ASKED_MAX) {
            let known = self.content_place(&id);
            // Nobody counts on it there.
            let Some(content) = known.filter(|known| self.executors[executor].holds.contains(known)) else {
                contents.push(id);
                continue;
            };
            if !self.stays_without(content, executor) && self.is_to_be_kept(content) {
                self.pulls.behind.remove(&content);
                self.want_pull(content);
                self.content_marks.begin(self.contents.places_len());
                continue;
            }
            self.unhold(content, executor);
            self.contents[content].dropped = Some(self.now);
            contents.push(id);
        }
        self.out.push(Effect::MayDrop { executor: name.clone(), number, contents });
    }

    /// Whether somebody else has content, and stays.
    fn stays_without(&self, content: ContentIx, executor: ExecutorIx) -> bool {
        let item = &self.contents[content];
        let stays = |holder: &ExecutorIx| *holder != executor && self.executors[*holder].stays();
        item.in_store || item.holders.iter().any(stays)
    }

    /// Whether somebody needs content, or would miss it: it took long to build and has no second copy yet.
    fn is_to_be_kept(&mut self, content: ContentIx) -> bool {
        self.pulls.behind.contains(&content)
            || self.pulls.in_flight.contains(&content)
            || self.is_carried(content)
    }
}
