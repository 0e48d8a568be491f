//! The coordinator's shell: events in batches, their facts into the journal at once, then their effects one by one; and its
//! end and new beginning between any two of these. As `coordinator/src/engine/` does it.
use crate::bits::Bits;
use crate::coverage;
use crate::executor::Message;
use crate::fault::Fault;
use crate::graph::Graph;
use crate::journal::Entry;
use crate::world::World;
use model::{ContentId, ExecutorName, LeaseId, StorePath, TaskId};
use scheduler::{
    Effect, Event, Held, Holder, KnownContent, NewPlan, News, PlanPart, Resolution, Settings, State,
    Timestamp, apply,
};
use std::collections::VecDeque;
use std::time::Instant;

/// What a coordinator has in memory.
pub struct Engine {
    pub state: State,
    pub started_ms: u64,
    /// Facts that are not in the journal yet, and effects that wait for that.
    entries: Vec<Entry>,
    steps: Vec<Effect>,
    /// What effects gave rise to: before anything that comes from outside.
    again: VecDeque<Event>,
    /// What is to be told next.
    pub pending: VecDeque<Event>,
    /// A plan of which the core has a part.
    pub arriving: Option<u8>,
    /// What the journal said that executors hold, of those that have not said it themselves.
    last_run: Vec<Bits>,
    /// Executors whose end nobody was told of.
    pub is_silent: Vec<bool>,
    /// What executors will say that they hold, and do not.
    pub claims: Vec<Bits>,
}

impl Engine {
    pub fn new(settings: Settings, executors: usize, now_ms: u64) -> Self {
        Self {
            state: State::new(settings),
            started_ms: now_ms,
            entries: vec![],
            steps: vec![],
            again: VecDeque::new(),
            pending: VecDeque::new(),
            arriving: None,
            last_run: vec![Bits::default(); executors],
            is_silent: vec![false; executors],
            claims: vec![Bits::default(); executors],
        }
    }

    /// A plan is remembered with its batch.
    pub fn admit(&mut self, number: u8) {
        self.entries.push(Entry::PlanAdmitted(number));
    }

    /// A part of an inventory: after the last one, what the journal said and the executor did not say is gone.
    pub fn inventory(&mut self, position: usize, held: &Held, graph: &Graph) {
        for content in &held.contents {
            self.last_run[position].remove(graph.content_places[&content.id]);
        }
        if held.is_last {
            let holder = Holder::Executor(held.executor.clone());
            for content in std::mem::take(&mut self.last_run[position]).iter() {
                let id = graph.contents[content].id.clone();
                self.entries.push(Entry::Fact(scheduler::Fact::NotHeld(id, holder.clone())));
            }
        }
    }
}

impl World {
    /// The coordinator hears something. Several events may share a batch.
    pub fn tell(&mut self, event: Event) {
        self.apply(event);
        if self.crash.is_some() || !self.random.once_in(4) {
            self.settle();
        }
    }

    fn apply(&mut self, event: Event) {
        let kind = coverage::kind(&event);
        if let Some(trace) = self.options.trace {
            trace(&format!("{:>9} {}", self.now_ms, crate::show::event(&event)));
        }
        self.tally.event(kind);
        self.tally.idle += u64::from(self.journal.living.is_empty());
        self.before(&event);
        let is_tick = event == Event::Tick;
        let begin = self.options.is_timed.then(Instant::now);
        let effects = apply(&mut self.engine.state, event, Timestamp(self.now_ms));
        let applied = self.options.is_timed.then(Instant::now);
        let checked = self.check_invariants(effects.is_empty());
        if let Err(problem) = checked {
            panic!("{problem}\nafter {}\n{effects:#?}", coverage::EVENTS[kind]);
        }
        if let (Some(begin), Some(applied)) = (begin, applied) {
            self.tally.took[0] += applied - begin;
            self.tally.took[1] += applied.elapsed();
        }
        let mut is_after_facts = false;
        for effect in effects {
            self.check_effect(&effect);
            match effect {
                Effect::Record(fact) => {
                    assert!(!is_after_facts, "facts come first");
                    self.engine.entries.push(Entry::Fact(fact));
                }
                other => {
                    is_after_facts = true;
                    self.engine.steps.push(other);
                }
            }
        }
        if is_tick {
            self.check_detection();
        }
        if self.has_trouble {
            self.strike_after(kind);
        }
    }

    /// In a thorough world everything after every event. In others, after every event: leases, executors, pulls, and that no task waits beside a free slot. After every event that had an effect also
    /// a quarter of tasks and contents, by turns; after every twelfth event all of them, their sums, and that what is kept at
    /// both ends agrees. What is wrong stays wrong: it is found so much later at most.
    fn check_invariants(&self, is_brief: bool) -> Result<(), String> {
        let (state, events) = (&self.engine.state, self.tally.events_total());
        match events % 12 {
            _ if self.options.is_thorough => state.check_invariants(),
            0 => state.check_invariants(),
            _ if is_brief => state.check_briefly(),
            turn => state.check_some(|place| (place as u64 ^ turn).is_multiple_of(4)),
        }
    }

    /// Makes what happened durable, performs it, goes on with what follows from that; or ends at the moment that was chosen.
    pub fn settle(&mut self) {
        while !self.is_settled() {
            self.restart();
        }
    }

    fn is_settled(&mut self) -> bool {
        loop {
            if self.crash.take_if(|crash| *crash == Fault::CrashBeforeAppend).is_some() {
                return false;
            }
            for entry in std::mem::take(&mut self.engine.entries) {
                self.append(entry);
            }
            if self.crash.take_if(|crash| *crash == Fault::CrashAfterAppend).is_some() {
                return false;
            }
            let steps = std::mem::take(&mut self.engine.steps);
            let is_cut_short = self.crash.take().is_some();
            let done = if is_cut_short { self.random.below(steps.len() + 1) } else { steps.len() };
            for step in steps.into_iter().take(done) {
                self.perform(step);
            }
            if is_cut_short {
                return false;
            }
            if self.engine.again.is_empty() {
                return true;
            }
            while let Some(event) = self.engine.again.pop_front() {
                self.apply(event);
            }
        }
    }

    fn append(&mut self, entry: Entry) {
        match entry {
            Entry::PlanAdmitted(number) => {
                self.journal.living.insert(number);
                self.admitted.add_all(&self.plans[&number].tasks);
                self.tally.tasks = self.admitted.iter().count() as u64;
            }
            Entry::Fact(fact) => {
                if let scheduler::Fact::PlanEnded(plan, summary) = &fact {
                    self.check_ended(plan.0[0], summary);
                    self.ended.insert(plan.0[0]);
                }
                let executors = &self.executors;
                let position = |name: &ExecutorName| executors.iter().position(|other| other.name == *name);
                self.journal.append(&self.graph, fact, |name| position(name).unwrap());
            }
        }
    }

    /// The coordinator ends, and begins again with what the journal has.
    fn restart(&mut self) {
        if let Some(trace) = self.options.trace {
            trace("          the coordinator begins again");
        }
        self.executors.iter_mut().for_each(crate::executor::Executor::unlink);
        self.pulls.clear();
        let is_known = |number: &u8| self.journal.living.contains(number) || self.ended.contains(number);
        let (known, unknown): (Vec<u8>, Vec<u8>) = self.plans.keys().copied().partition(is_known);
        drop(known);
        self.unborn = unknown;
        self.settings.first_lease = LeaseId(((self.settings.first_lease.0 >> 32) + 1) << 32 | 1);
        self.settings.restart_grace_ms = if self.random.once_in(2) { 2_000 } else { 0 };
        let claims = std::mem::take(&mut self.engine.claims);
        self.engine = Engine::new(self.settings.clone(), self.executors.len(), self.now_ms);
        (self.engine.claims, self.engine.last_run) = (claims, self.journal.held.clone());
        self.belief = crate::belief::Belief::new(self.executors.len(), self.graph.tasks.len());
        self.apply(Event::Remembered(self.journal.measured.clone()));
        for number in self.journal.living.iter().copied().collect::<Vec<_>>() {
            let event = self.submission(number, true);
            self.apply(event);
        }
    }

    /// A plan as the shell gives it to the core: with what is known of its contents.
    pub fn submission(&self, number: u8, is_restored: bool) -> Event {
        let mut plan = self.plans[&number].new.clone();
        let mut named = self.graph.sources;
        for task in &plan.tasks {
            for output in &task.outputs {
                let id = ContentId { domain: task.id.domain.clone(), path: output.path.clone() };
                if id.path.is_promise() {
                    let steps = self.journal.bindings(&id);
                    if let Some(last) = steps.last() {
                        named.add(self.graph.content_places[&last.to]);
                    }
                    plan.bindings.extend(steps);
                } else {
                    named.add(self.graph.content_places[&id]);
                }
            }
            if is_restored && let Some(failure) = self.journal.failed.get(&task.id) {
                plan.failed.push((task.id.clone(), failure.clone()));
            }
        }
        plan.contents = self.known(&named);
        Event::PlanAdmitted(plan)
    }

    /// Half of a plan's tasks, those that need no others first.
    pub fn part(&self, number: u8) -> Event {
        let Event::PlanAdmitted(plan) = self.submission(number, false) else { unreachable!() };
        let NewPlan { id, mut tasks, contents, bindings, .. } = plan;
        tasks.truncate(tasks.len() / 2);
        Event::PlanArrives(PlanPart { id, tasks, contents, bindings })
    }

    /// What is known of contents and what they refer to, and who should have them.
    fn known(&self, contents: &Bits) -> Vec<KnownContent> {
        let is_recent = self.now_ms - self.engine.started_ms < self.settings.eviction_after_ms;
        self.journal.contents(&self.graph, contents, |content| {
            let mut holders = vec![];
            if self.store.has(content) {
                holders.push(Holder::ContentStore);
            }
            for (executor, held) in self.executors.iter().zip(&self.engine.last_run) {
                if is_recent && held.has(content) {
                    holders.push(Holder::Executor(executor.name.clone()));
                }
            }
            holders
        })
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Record(_)
            | Effect::Admitted { .. }
            | Effect::Ended { .. }
            | Effect::Differs { .. }
            | Effect::SetAside { .. } => {}
            Effect::Resolve { task, number, bound } => self.resolve(task, number, &bound),
            Effect::Grant(grant) => {
                self.tally.leases += 1;
                let executor = grant.executor.clone();
                self.send(&executor, Message::Lease(grant));
            }
            Effect::Cancel { executor, lease } => self.send(&executor, Message::Cancel(lease)),
            Effect::Acknowledge { executor, lease } => self.send(&executor, Message::Acknowledge(lease)),
            Effect::Prefetch { executor, inputs, .. } => self.send(&executor, Message::Prefetch(inputs)),
            Effect::MayLeave(executor) => self.send(&executor, Message::MayLeave),
            Effect::MayDrop { executor, number, contents } => {
                self.send(&executor, Message::MayDrop(number, contents));
            }
            Effect::Evict(executor) => {
                let position = self.position(&executor);
                self.executors[position].unlink();
            }
            Effect::Pull { content, from, .. } => {
                let content = self.graph.content_places[&content];
                assert!(self.pulls.insert(content, from).is_none(), "pulled twice");
                assert!(self.pulls.len() <= 8, "too many pulls at once");
            }
            Effect::Tell { plan, news } => self.heard(plan.0[0], &news),
        }
    }

    /// What a client hears.
    fn heard(&self, number: u8, news: &News) {
        if let News::Finished(_) = news {
            assert!(self.ended.contains(&number), "plan {number} ended and nobody will remember it");
        }
    }

    fn send(&mut self, name: &ExecutorName, message: Message) {
        let position = self.position(name);
        let executor = &mut self.executors[position];
        if executor.is_linked {
            executor.inbox.push_back(message);
        } else if !self.engine.is_silent[position] {
            self.engine.again.push_back(Event::ExecutorDisconnected(name.clone()));
        }
    }

    /// What the shell says of a derivation whose inputs are there.
    fn resolve(&mut self, task: TaskId, number: u64, bound: &[(StorePath, StorePath)]) {
        let truth = &self.graph.truths[self.graph.task_places[&task]];
        assert_eq!(bound.iter().cloned().collect::<std::collections::BTreeSet<_>>(), truth.bound, "{task:?}");
        let mut resolution =
            Resolution { outputs: truth.resolved.clone(), contents: vec![], bindings: vec![] };
        let mut named = Bits::default();
        for ((_, id), real) in truth.resolved.iter().zip(&truth.outputs) {
            let steps = self.journal.bindings(id);
            if !id.path.is_promise() || !steps.is_empty() {
                named.add(*real);
            }
            resolution.bindings.extend(steps);
        }
        let named = named.and(&self.journal.known);
        resolution.contents = self.known(&named);
        self.engine.again.push_back(Event::Resolved { task, number, resolution: Ok(resolution) });
    }
}
