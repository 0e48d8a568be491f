//! Effects of the event that is being applied, and what is to be told at its end.
use crate::arena::TaskIx;
use crate::{Effect, Fact, News};
use alloc::{collections::BTreeSet, vec::Vec};
use model::PlanId;

/// Effects, facts apart from the others.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    facts: Vec<Effect>,
    effects: Vec<Effect>,
    /// Tasks whose last state is to be told: a task that goes through several in one event is told once.
    pub(crate) changed: BTreeSet<TaskIx>,
    /// A plan that was just admitted: all its tasks are told.
    pub(crate) admitted: Option<PlanId>,
    /// Plans whose ready tasks changed.
    pub(crate) waiting: BTreeSet<PlanId>,
    /// The same, to be told at a later tick.
    pub(crate) waiting_later: BTreeSet<PlanId>,
    /// Told after the tasks.
    pub(crate) roots: Vec<(PlanId, News)>,
}

impl Outbox {
    /// Adds a fact.
    pub(crate) fn record(&mut self, fact: Fact) {
        self.facts.push(Effect::Record(fact));
    }

    /// Adds another effect.
    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Adds news.
    pub(crate) fn tell(&mut self, plan: PlanId, news: News) {
        self.effects.push(Effect::Tell { plan, news });
    }

    /// Everything, facts first; empty afterwards.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        let mut effects = core::mem::take(&mut self.facts);
        effects.append(&mut self.effects);
        effects
    }
}
