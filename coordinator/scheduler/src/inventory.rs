//! What executors say they hold.
use crate::arena::{ContentIx, ExecutorIx};
use crate::state::Facts;
use crate::{Held, Holder, KnownContent, State};

impl State {
    /// A part of an inventory. After the last part, what was not named is not there.
    pub(crate) fn inventory(&mut self, held: Held) {
        let Some(executor) = self.connected(&held.executor) else { return };
        self.drains_changed = true;
        for known in held.contents {
            let content = self.content(&known.id);
            if self.accept_facts(content, &known) {
                self.hold_and_record(content, executor);
            } else {
                self.unhold(content, executor);
                self.forget_if_unused(content);
            }
        }
        if held.is_last {
            for content in self.executors[executor].unnamed.take().unwrap_or_default() {
                self.unhold(content, executor);
            }
        }
    }

    /// Learns content that a plan came with. Where the core knows it already, it also knows who has it; only the
    /// content store may have got it without the core's doing.
    pub(crate) fn learn_known(&mut self, known: &KnownContent) {
        let content = self.content(&known.id);
        self.forget_if_unused(content);
        let was_known = self.contents[content].facts.is_some();
        if !self.accept_facts(content, known) {
            return;
        }
        for holder in &known.holders {
            match holder {
                Holder::ContentStore => _ = self.store(content),
                Holder::Executor(name) if !was_known => {
                    let executor = self.executor(name);
                    self.held_says_the_journal(content, executor);
                }
                Holder::Executor(_) => {}
            }
        }
    }

    fn held_says_the_journal(&mut self, content: ContentIx, executor: ExecutorIx) {
        if self.executors[executor].link == crate::state::Link::Lost {
            self.executors[executor].held_once.insert(content);
        } else {
            self.hold(content, executor);
        }
    }

    /// Whether bytes with these facts are the content that is known. Learns them if it is not known, or if nobody
    /// has what was known.
    fn accept_facts(&mut self, content: ContentIx, known: &KnownContent) -> bool {
        let item = &self.contents[content];
        if let Some(facts) = &item.facts
            && (facts.nar_sha256 == known.nar_sha256 || item.is_available())
        {
            return facts.nar_sha256 == known.nar_sha256;
        }
        let references = known.references.iter().map(|reference| self.content(reference)).collect();
        let facts = Facts { nar_sha256: known.nar_sha256, nar_size: known.nar_size, references };
        self.learn(content, facts);
        true
    }
}
