//! What only draining executors have and somebody needs: it is pulled before they may leave.
use crate::arena::{ContentIx, ExecutorIx};
use crate::state::{Link, Phase};
use crate::{Effect, State};
use alloc::{vec, vec::Vec};

impl State {
    /// Saves what draining executors alone have, and lets those leave that have nothing of the kind.
    pub(crate) fn drains(&mut self) {
        if !core::mem::take(&mut self.drains_changed) {
            return;
        }
        for place in self.executors.places() {
            let executor = &self.executors[place];
            if !executor.is_draining || executor.link != Link::Connected {
                continue;
            }
            let needed = self.needed_only_there(place);
            let executor = &mut self.executors[place];
            if needed.is_empty() && executor.leases.is_empty() && !executor.was_told_to_leave {
                executor.was_told_to_leave = true;
                let name = executor.name.clone();
                self.out.push(Effect::MayLeave(name));
            }
            for content in needed {
                self.want_pull(content);
            }
        }
    }

    /// What an executor has, nobody else who stays has, and a task or a plan waits for.
    fn needed_only_there(&mut self, place: ExecutorIx) -> Vec<ContentIx> {
        let stays = |holder: &ExecutorIx| self.executors[*holder].stays();
        let is_only_there = |content: &&ContentIx| {
            let item = &self.contents[**content];
            !item.in_store && !item.holders.iter().any(stays)
        };
        let only_there: Vec<_> = self.executors[place].holds.iter().filter(is_only_there).copied().collect();
        let mut needed = Vec::new();
        for content in only_there {
            self.content_marks.begin(self.contents.places_len());
            if self.is_carried(content) {
                needed.push(content);
            }
        }
        needed
    }

    /// Whether a task that is still to be done, or a plan, needs content or something that refers to it. What is marked
    /// already was found to be needed by nobody: whoever gets a yes begins the marks again.
    pub(crate) fn is_carried(&mut self, content: ContentIx) -> bool {
        if !self.content_marks.enter(content) {
            return false;
        }
        let mut work = vec![content];
        while let Some(content) = work.pop() {
            let item = &self.contents[content];
            let is_open = |phase: &Phase| phase.is_open();
            if self.has_pending_root(content)
                || item.users.iter().any(|user| is_open(&self.tasks[*user].phase))
            {
                return true;
            }
            for referrer in &item.referrers {
                if self.contents[*referrer].is_available() && self.content_marks.enter(*referrer) {
                    work.push(*referrer);
                }
            }
        }
        false
    }
}
