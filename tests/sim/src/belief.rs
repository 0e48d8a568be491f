//! What a coordinator must believe by what it was told since it began, and checks that what it does follows from that.
use crate::bits::Bits;
use crate::graph::Graph;
use crate::world::{STEP_MS, World};
use model::{ExecutorName, FailureClass, LeaseId, Outcome};
use scheduler::{
    Effect, Event, Fact, Grant, GrantedInput, Holder, KnownContent, LeaseKey, News, PlanSummary,
};
use std::collections::BTreeSet;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Unknown,
    /// Perhaps mentioned, perhaps not.
    Unsure,
    Connected,
    Disconnected,
    Lost,
}

pub struct Belief {
    /// Plans that the core knows.
    plans: BTreeSet<u8>,
    /// Contents that the core knows.
    knows: Bits,
    /// Contents that the core may know or not.
    is_unsure: Bits,
    store: Bits,
    held: Vec<Bits>,
    /// What executors held when they were lost.
    once: Vec<Bits>,
    links: Vec<Link>,
    heard_ms: Vec<u64>,
    /// By their last heartbeat.
    are_full: Vec<bool>,
    /// Leases that nothing has happened to yet, by task.
    undisturbed: Vec<Vec<(LeaseKey, usize)>>,
    /// Of the last lease of each task.
    epochs: Vec<u64>,
    last_lease: LeaseId,
}

impl Belief {
    pub fn new(executors: usize, tasks: usize) -> Self {
        Self {
            plans: BTreeSet::new(),
            knows: Bits::default(),
            is_unsure: Bits::default(),
            store: Bits::default(),
            held: vec![Bits::default(); executors],
            once: vec![Bits::default(); executors],
            links: vec![Link::Unknown; executors],
            heard_ms: vec![0; executors],
            are_full: vec![false; executors],
            undisturbed: vec![vec![]; tasks],
            epochs: vec![0; tasks],
            last_lease: LeaseId(0),
        }
    }

    /// The leases of an executor may be lost from here on.
    pub fn disturb(&mut self, position: usize) {
        self.undisturbed.iter_mut().for_each(|leases| leases.retain(|(_, executor)| *executor != position));
    }

    fn mention(&mut self, position: usize, now_ms: u64) {
        if self.links[position] == Link::Unknown {
            (self.links[position], self.heard_ms[position]) = (Link::Disconnected, now_ms);
        }
    }

    /// Contents that a plan or a resolution comes with.
    fn learn(&mut self, graph: &Graph, known: &KnownContent, executors: &[usize], now_ms: u64) {
        let content = graph.content_places[&known.id];
        let is_new = self.knows.add(content);
        for position in executors.iter().copied().filter(|_| is_new) {
            self.mention(position, now_ms);
            let is_lost = self.links[position] == Link::Lost;
            let held = if is_lost { &mut self.once } else { &mut self.held };
            held[position].add(content);
        }
        let is_held = self.held.iter().chain(&self.once).any(|contents| contents.has(content));
        if !is_new && !is_held && !self.store.has(content) {
            // It may have been forgotten, and is learned anew then.
            self.unsure_of(content, executors);
        }
        if known.holders.contains(&Holder::ContentStore) {
            self.store.add(content);
        }
    }

    /// The core may count on these executors for content, or not.
    fn unsure_of(&mut self, content: usize, executors: &[usize]) {
        for position in executors {
            self.is_unsure.add(content);
            let link = &mut self.links[*position];
            *link = if *link == Link::Unknown { Link::Unsure } else { *link };
        }
    }

    fn lose(&mut self, position: usize) {
        if self.links[position] != Link::Lost {
            self.links[position] = Link::Lost;
            let held = std::mem::take(&mut self.held[position]);
            self.once[position].add_all(&held);
        }
        self.disturb(position);
    }

    /// Whether the content store or an executor has it, as far as the core knows.
    pub fn has_holder(&self, content: usize) -> bool {
        self.store.has(content) || self.held.iter().any(|held| held.has(content))
    }

    /// Whether somebody has all of this, as far as the core can know for certain.
    fn is_there(&self, contents: &Bits) -> bool {
        let mut there = self.store;
        self.held.iter().for_each(|held| there.add_all(held));
        contents.is_within(&there.and(&self.knows).without(&self.is_unsure))
    }
}

impl World {
    fn learn_contents(&mut self, contents: &[KnownContent]) {
        for known in contents {
            let executors = self.holders(known);
            self.belief.learn(&self.graph, known, &executors, self.now_ms);
        }
    }

    /// What an event tells the core.
    pub fn before(&mut self, event: &Event) {
        let now_ms = self.now_ms;
        match event {
            Event::PlanAdmitted(plan) => {
                self.belief.plans.insert(plan.id.0[0]);
                self.dropped.admitted(plan.id.0[0]);
                self.learn_contents(&plan.contents);
            }
            Event::PlanArrives(part) => self.learn_contents(&part.contents),
            Event::Resolved { resolution: Ok(resolution), .. } => {
                for known in &resolution.contents {
                    let content = self.graph.content_places[&known.id];
                    if !self.belief.knows.has(content) {
                        self.belief.is_unsure.add(content);
                        let executors = self.holders(known);
                        self.belief.unsure_of(content, &executors);
                    }
                }
            }
            Event::ExecutorConnected { executor, running, .. } => {
                let position = self.position(executor);
                // What it does not say it runs, it does not run.
                for leases in &mut self.belief.undisturbed {
                    let is_named = |key: &LeaseKey| running.iter().any(|running| running.lease == *key);
                    leases.retain(|(key, executor)| *executor != position || is_named(key));
                }
                self.belief.links[position] = Link::Connected;
                self.belief.heard_ms[position] = now_ms;
                self.belief.are_full[position] = false;
            }
            Event::ExecutorHolds(held) => {
                let position = self.position(&held.executor);
                if self.belief.links[position] == Link::Connected {
                    for known in &held.contents {
                        let content = self.graph.content_places[&known.id];
                        self.belief.knows.add(content);
                        self.belief.held[position].add(content);
                        self.belief.once[position].remove(content);
                    }
                }
            }
            Event::Heartbeat { executor, is_full, .. } => {
                let position = self.position(executor);
                self.belief.are_full[position] = *is_full;
                let link = &mut self.belief.links[position];
                if matches!(*link, Link::Connected | Link::Disconnected) {
                    *link = Link::Connected;
                    self.belief.heard_ms[position] = now_ms;
                }
            }
            Event::ExecutorDisconnected(executor) => {
                let position = self.position(executor);
                if self.belief.links[position] == Link::Connected {
                    self.belief.links[position] = Link::Disconnected;
                }
                self.belief.disturb(position);
            }
            Event::LeaseReported { lease, task, outcome, .. } => {
                if let (Outcome::Failed(failure), false) = (outcome, self.options.has_trouble) {
                    // Its source was allowed to drop an input just then: it did not begin.
                    let truth = &self.graph.truths[self.graph.task_places[task]];
                    self.leased[truth.first] -= u32::from(failure.class == FailureClass::InputMissing);
                }
                let tasks = &mut self.belief.undisturbed;
                tasks.iter_mut().for_each(|leases| leases.retain(|(key, _)| key != lease));
            }
            Event::Stored(id) => _ = self.belief.store.add(self.graph.content_places[id]),
            _ => {}
        }
    }

    fn holders(&self, known: &KnownContent) -> Vec<usize> {
        let name = |holder: &Holder| match holder {
            Holder::Executor(name) => Some(self.position(name)),
            Holder::ContentStore => None,
        };
        known.holders.iter().filter_map(name).collect()
    }

    /// What the core wants done follows from what it knows.
    pub fn check_effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Record(fact) => self.check_fact(fact),
            Effect::Grant(grant) => self.check_grant(grant),
            Effect::Cancel { lease, .. } => {
                let tasks = &mut self.belief.undisturbed;
                tasks.iter_mut().for_each(|leases| leases.retain(|(key, _)| key != lease));
            }
            Effect::Evict(executor) => {
                let position = self.position(executor);
                let silent_ms = self.now_ms - self.belief.heard_ms[position];
                let is_lost = matches!(self.belief.links[position], Link::Lost | Link::Unsure);
                assert!(
                    is_lost || silent_ms >= self.settings.eviction_after_ms,
                    "{executor} was heard {silent_ms} ms ago and is lost"
                );
                self.belief.lose(position);
            }
            Effect::Pull { content, from, .. } => {
                let place = self.graph.content_places[content];
                assert!(!from.is_empty() && !self.belief.store.has(place), "{content:?} from {from:?}");
            }
            Effect::Tell { plan, news } => self.check_news(plan.0[0], news),
            Effect::Prefetch { executor, inputs, .. } => self.check_prefetch(executor, inputs),
            Effect::MayDrop { contents, .. } => self.check_drops(contents),
            Effect::Differs { executor, output, .. } => {
                let has_lied = self.executors[self.position(executor)].has_lied;
                assert!(has_lied, "{executor} has built {output} like everybody");
            }
            _ => {}
        }
    }

    fn check_fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Held(id, Holder::Executor(name)) => {
                let (place, position) = (self.graph.content_places[id], self.position(name));
                self.belief.knows.add(place);
                self.belief.held[position].add(place);
                self.belief.once[position].remove(place);
            }
            Fact::NotHeld(id, Holder::Executor(name)) => {
                let (place, position) = (self.graph.content_places[id], self.position(name));
                let was_held = self.belief.held[position].remove(place);
                let was_once = self.belief.once[position].remove(place);
                let is_unsure = self.belief.is_unsure.has(place);
                assert!(was_held || was_once || is_unsure, "{name} did not hold {id:?} anyway");
            }
            Fact::PlanEnded(plan, _) => {
                // A task that no plan wants any more is forgotten with its epochs.
                self.belief.plans.remove(&plan.0[0]);
                let living = self.belief.plans.iter();
                let mut wanted = Bits::default();
                living.for_each(|number| wanted.add_all(&self.plans[number].tasks));
                for task in self.plans[&plan.0[0]].tasks.without(&wanted).iter() {
                    self.belief.epochs[task] = 0;
                    self.belief.undisturbed[task].clear();
                }
            }
            _ => {}
        }
    }

    fn check_news(&self, number: u8, news: &News) {
        assert!(!self.ended.contains(&number), "news of plan {number} that ended: {news:?}");
        if let News::RootAvailable { task, output, path } = news {
            let spec = &self.graph.tasks[self.graph.task_places[task]];
            let output = spec.outputs.iter().find(|other| other.name == *output).unwrap();
            let content = &self.graph.contents[self.graph.output(spec, output)];
            assert_eq!(*path, content.id.path, "{task:?}");
            assert!(content.closure.is_within(&self.store), "{path} is available and not stored");
        }
    }

    fn check_prefetch(&mut self, executor: &ExecutorName, inputs: &[GrantedInput]) {
        let position = self.position(executor);
        assert_eq!(self.belief.links[position], Link::Connected, "{executor} is told what it may fetch");
        assert!(!self.belief.are_full[position], "{executor} has no room");
        for input in inputs {
            assert!(!input.holders.is_empty(), "{input:?}");
            assert!(
                input.holders.iter().all(|holder| *holder != Holder::Executor(executor.clone())),
                "{input:?}"
            );
        }
        self.tally.hints += 1;
    }

    fn check_grant(&mut self, grant: &Grant) {
        let task = self.graph.task_places[&grant.task];
        let (spec, truth) = (&self.graph.tasks[task], &self.graph.truths[task]);
        let position = self.position(&grant.executor);
        let executor = &self.executors[position];
        assert!(spec.requirement.is_met_by(&grant.platform), "{grant:?}");
        let offers = &executor.capability.offers;
        assert!(offers.iter().any(|offer| offer.platform == grant.platform), "{grant:?}");
        assert_eq!(self.belief.links[position], Link::Connected, "{grant:?}");
        assert!(!self.belief.are_full[position], "{} has no room", grant.executor);
        let mut seen = Bits::default();
        for input in &grant.inputs {
            let place = self.graph.content_places[&input.id];
            assert!(!input.holders.is_empty(), "{input:?}");
            let references = &self.graph.contents[place].references;
            assert!(references.is_within(&seen) && seen.add(place), "{input:?} is out of order");
        }
        assert_eq!(seen, truth.inputs_closure, "{:?}: exactly the closure of the inputs", grant.task);
        let bound = grant.bound.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(bound, truth.bound, "{:?}", grant.task);
        assert!(grant.lease.id > self.belief.last_lease, "a lease's name is used again");
        assert!(grant.lease.id >= self.first_lease(), "a lease's name of an earlier run is used again");
        self.belief.last_lease = grant.lease.id;
        assert!(grant.lease.epoch.0 > self.belief.epochs[task], "{:?}: an epoch again", grant.task);
        self.belief.epochs[task] = grant.lease.epoch.0;
        let is_needless = !truth.is_bad && self.belief.is_there(&truth.outputs_closure);
        assert!(!is_needless, "{:?} is built again, and all of its outputs are there", grant.task);
        let others = &self.belief.undisturbed[task];
        let is_alone = others.iter().all(|(_, executor)| *executor != position);
        let is_right = is_alone && others.len() <= usize::from(grant.is_speculative);
        assert!(is_right, "{:?} runs already: {others:?}", grant.task);
        if executor.is_sound(self.now_ms) && self.crash.is_none() {
            self.belief.undisturbed[task].push((grant.lease, position));
        }
        // What takes long may be tried by two.
        if grant.is_speculative {
            self.tally.speculative += 1;
            return;
        }
        // A plan that comes after a failure tries again.
        let first = truth.first;
        self.leased[first] += 1;
        let is_first = self.leased[first] == 1;
        let may_be_built =
            self.options.has_trouble || truth.is_bad || is_first || self.is_for_a_later_plan(task);
        assert!(may_be_built, "{:?} is built twice", grant.task);
    }

    /// After each tick: everybody who was silent for too long is lost.
    pub fn check_detection(&self) {
        for (position, executor) in self.executors.iter().enumerate() {
            let silent_ms = self.now_ms - self.belief.heard_ms[position];
            let is_heard = matches!(self.belief.links[position], Link::Unknown | Link::Unsure | Link::Lost)
                || silent_ms < self.settings.eviction_after_ms;
            assert!(is_heard, "{} is silent for {silent_ms} ms, steps of {STEP_MS}", executor.name);
        }
    }

    /// A plan ended as it must, whatever happened.
    pub fn check_ended(&self, number: u8, summary: &PlanSummary) {
        let plan = &self.plans[&number];
        assert!(!summary.cancelled || plan.is_cancelled, "plan {number} is cancelled by nobody");
        if summary.cancelled {
            return;
        }
        let is_possible = plan.roots.iter().all(|root| self.graph.truths[*root].is_possible);
        assert_eq!(summary.succeeded, is_possible, "plan {number}: {summary:?}");
        for root in plan.roots.iter().filter(|_| summary.succeeded) {
            let closure = &self.graph.truths[*root].outputs_closure;
            assert!(closure.is_within(&self.store), "plan {number} succeeded without all of its closure");
        }
    }
}

impl crate::executor::Executor {
    /// Whether nothing is wrong that could lose a lease which is granted now.
    fn is_sound(&self, now_ms: u64) -> bool {
        let beats = self.outbox.iter().filter(|event| matches!(event, Event::Heartbeat { .. })).count();
        self.is_reachable(now_ms) && self.is_up && !self.is_frozen && !self.is_draining && beats < 2
    }
}
