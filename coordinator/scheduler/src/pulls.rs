//! Pulls: closures of wanted outputs, and what only draining executors have, into the content store.
use crate::arena::ContentIx;
use crate::state::{Link, Phase, Pulls};
use crate::{Effect, Fact, Holder, State};
use alloc::{collections::BTreeSet, format, vec::Vec};
use core::mem;
use model::{ContentId, ExecutorName, Failure, FailureClass, PlanId};

/// Pulls that are asked for at once.
const PULLS_MAX: usize = 8;
/// Of those, so many that nobody waits for.
const BEHIND_MAX: usize = 2;
/// Builds that took at least so long are saved, if a second copy costs a hundredth of that at most: so many bytes a millisecond.
const SAVED_BUILD_MS: u64 = 60_000;
const SAVED_BYTES_PER_MS: u64 = 1_000;

impl Pulls {
    /// Whether content is wanted in the content store, or on its way there.
    pub(crate) fn has(&self, content: ContentIx) -> bool {
        [&self.wanted, &self.in_flight, &self.later].iter().any(|pulls| pulls.contains(&content))
    }
}

impl State {
    /// Wants the closure of content in the content store.
    pub(crate) fn pull_closure(&mut self, content: ContentIx) {
        for content in self.closure(&[content]) {
            self.want_pull(content);
        }
        self.forget_walks();
    }

    pub(crate) fn want_pull(&mut self, content: ContentIx) {
        let is_under_way = self.pulls.in_flight.contains(&content) || self.pulls.later.contains(&content);
        if !self.contents[content].in_store && !is_under_way {
            self.pulls.wanted.insert(content);
        }
    }

    /// What one executor has of a build that took so long gets a second copy, behind all that somebody waits for.
    pub(crate) fn save(&mut self, contents: &[ContentIx], took_ms: u64) {
        if took_ms < SAVED_BUILD_MS {
            return;
        }
        for content in contents {
            let item = &self.contents[*content];
            let size = item.facts.as_ref().map_or(u64::MAX, |facts| facts.nar_size);
            if !item.in_store && size <= took_ms.saturating_mul(SAVED_BYTES_PER_MS) {
                self.pulls.behind.insert(*content);
            }
        }
    }

    /// A plan ended before it had everything: only what others want is still pulled.
    pub(crate) fn reconsider_pulls(&mut self) {
        let mut no_more = mem::take(&mut self.pulls.wanted);
        no_more.append(&mut self.pulls.later);
        no_more.into_iter().for_each(|content| self.forget_if_unused(content));
        let mut roots = BTreeSet::new();
        for plan in self.plans.values() {
            let pending = plan.roots.iter().filter(|root| root.state == crate::plan::RootState::Pending);
            roots.extend(pending.map(|root| root.content));
        }
        for content in roots {
            if self.contents[content].is_whole {
                self.pull_closure(content);
            }
        }
        self.drains_changed = true;
    }

    /// Asks for as much as may be under way.
    pub(crate) fn start_pulls(&mut self) {
        loop {
            let under_way = self.pulls.in_flight.len();
            let wanted = if under_way < PULLS_MAX { self.pulls.wanted.pop_first() } else { return };
            let behind = || if under_way < BEHIND_MAX { self.pulls.behind.pop_first() } else { None };
            let Some(content) = wanted.or_else(behind) else { return };
            let item = &self.contents[content];
            // Without a holder it is demanded, and wanted again once it is there.
            let is_under_way = self.pulls.in_flight.contains(&content);
            if item.in_store || item.holders.is_empty() || is_under_way {
                self.forget_if_unused(content);
                continue;
            }
            let holders = item.holders.iter().map(|holder| &self.executors[*holder]);
            let near = holders.filter(|holder| holder.link == Link::Connected);
            let from: Vec<_> = near.map(|holder| holder.name.clone()).collect();
            if from.is_empty() {
                // They come back soon, or are lost.
                self.pulls.later.insert(content);
                continue;
            }
            let id = item.id.clone();
            self.pulls.in_flight.insert(content);
            let plan = self.plan_of(content);
            self.out.push(Effect::Pull { content: id, from, plan });
        }
    }

    /// A plan that wants content, or the task that makes it.
    fn plan_of(&self, content: ContentIx) -> Option<PlanId> {
        let item = &self.contents[content];
        let wanted = item.roots.first().map(|(plan, _)| *plan);
        let mut made = item.makers.iter().filter_map(|maker| self.tasks[*maker].plans.first().copied());
        wanted.or_else(|| made.next())
    }

    /// Pulls that failed without a holder's fault are tried again.
    pub(crate) fn retry_pulls(&mut self) {
        for content in mem::take(&mut self.pulls.later) {
            self.want_pull(content);
        }
    }

    /// The content store has it.
    pub(crate) fn stored(&mut self, id: &ContentId) {
        let known = self.content_place(id);
        let is_new = known.is_none_or(|content| {
            self.pulls.in_flight.remove(&content);
            self.pulls.wanted.remove(&content);
            self.pulls.later.remove(&content);
            self.store(content)
        });
        if is_new {
            self.out.record(Fact::Held(id.clone(), Holder::ContentStore));
        }
        self.drains_changed = true;
    }

    /// These executors did not give it. One whose connection ended was only out of reach.
    pub(crate) fn pull_failed(&mut self, id: &ContentId, from: &[ExecutorName]) {
        let Some(content) = self.content_place(id) else { return };
        let was_under_way = self.pulls.in_flight.remove(&content);
        self.forget_if_unused(content);
        self.drains_changed = true;
        if self.contents[content].in_store {
            return;
        }
        let holders_before = self.contents[content].holders.len();
        for name in from {
            let executor = self.executor_places.get(name).copied();
            if let Some(executor) = executor.filter(|place| self.executors[*place].link != Link::Disconnected)
            {
                self.unhold(content, executor);
            }
        }
        let item = &mut self.contents[content];
        if item.holders.is_empty() {
            if holders_before > 0 {
                item.pulls_failed = item.pulls_failed.saturating_add(1);
            }
            if item.pulls_failed >= self.settings.attempts_max.max(1) {
                self.give_up(content);
            }
        } else if was_under_way && item.holders.len() < holders_before {
            self.pulls.wanted.insert(content);
        } else if was_under_way {
            self.pulls.later.insert(content);
        }
    }

    /// Content was made again and again, and nobody could give it to the content store.
    fn give_up(&mut self, content: ContentIx) {
        let path = &self.contents[content].id.path;
        let message = format!("no executor that had {path} gave it to the coordinator");
        let failure = Failure {
            class: FailureClass::Infrastructure,
            message,
            exit_status: None,
            missing_inputs: Vec::new(),
        };
        for maker in self.contents[content].makers.clone() {
            if matches!(self.tasks[maker].phase, Phase::Done | Phase::Idle) {
                self.fail_task(maker, failure.clone());
            }
        }
    }
}
