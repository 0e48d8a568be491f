//! A coordinator's shell, executors, and what happens to them.
use crate::common::*;
use crate::executor::{Executor, Job, Message};
use crate::graph::{Graph, Random};
use crate::resolution::Journal;
use model::{ContentId, ExecutorName, FailureClass, LeaseId, TaskId};
use scheduler::{
    Binding, Effect, Event, Fact, Grant, Holder, LeaseKey, NewPlan, News, PlanSummary, Settings, Settled,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const STEP_MS: u64 = 500;

pub struct World {
    random: Random,
    has_trouble: bool,
    /// Trouble was possible in this world from its beginning.
    is_troubled: bool,
    pub(crate) graph: Graph,
    pub(crate) core: Core,
    pub(crate) journal: Journal,
    store: BTreeSet<ContentId>,
    pulls: BTreeMap<ContentId, Vec<ExecutorName>>,
    executors: Vec<Executor>,
    plans: BTreeMap<u8, NewPlan>,
    cancelled: BTreeSet<u8>,
    plans_admitted: u8,
    /// Leases that nothing has happened to yet, by task.
    undisturbed: BTreeMap<TaskId, (LeaseKey, String)>,
    last_lease: LeaseId,
    grants: BTreeMap<TaskId, u32>,
    /// Answers to the core, before anything else.
    pub(crate) again: VecDeque<Event>,
}

impl World {
    pub fn new(seed: u64, has_trouble: bool) -> Self {
        let mut random = Random(seed);
        let graph = Graph::random(&mut random);
        let all = [native(), emulated(), cross()];
        let executors = (0..2 + random.below(3)).map(|number| {
            let offers: Vec<_> = all.iter().filter(|_| number < 1 || random.once_in(2)).cloned().collect();
            let slots = u32::try_from(1 + random.below(3)).unwrap();
            let capability = capability(slots, &offers);
            Executor { name: format!("x{number}"), boot: 1, capability, ..Executor::default() }
        });
        let executors = executors.collect();
        let mut world = Self {
            random,
            has_trouble,
            is_troubled: has_trouble,
            graph,
            core: Core::with(Settings { attempts_max: u32::MAX, ..SETTINGS }),
            journal: Journal::default(),
            store: BTreeSet::new(),
            pulls: BTreeMap::new(),
            executors,
            plans: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            plans_admitted: 0,
            undisturbed: BTreeMap::new(),
            last_lease: LeaseId(0),
            grants: BTreeMap::new(),
            again: VecDeque::new(),
        };
        world.journal.known.extend(world.graph.sources.iter().cloned());
        for source in world.graph.sources.clone() {
            world.store.insert(source.clone());
            world.journal.holders.entry(source).or_default().insert(Holder::ContentStore);
        }
        world
    }

    pub fn play(mut self) {
        for _ in 0..400 {
            self.step();
        }
        // From here on nothing bad happens: everybody comes, and every plan ends.
        self.has_trouble = false;
        while self.plans_admitted < 1 {
            self.admit();
        }
        for position in 0..self.executors.len() {
            if self.executors[position].is_draining {
                self.crash(position);
            }
        }
        for _ in 0..1_000 {
            if self.plans.is_empty() {
                return;
            }
            for position in 0..self.executors.len() {
                if !self.executors[position].is_linked {
                    self.executors[position].link();
                }
                for key in self.executors[position].running.keys().copied().collect::<Vec<_>>() {
                    self.finish(position, key);
                }
            }
            for content in self.pulls.keys().cloned().collect::<Vec<_>>() {
                self.pull(&content);
            }
            self.pass_time();
        }
        panic!(
            "plans do not end: {:#?}",
            self.plans.keys().map(|plan| self.core.states(*plan)).collect::<Vec<_>>()
        );
    }

    /// One thing that happens.
    fn step(&mut self) {
        let position = self.random.below(self.executors.len());
        match self.random.below(16) {
            0..=3 => self.deliver_out(position),
            4..=6 => self.deliver_in(position),
            7..=9 => {
                let keys: Vec<_> = self.executors[position].running.keys().copied().collect();
                if let Some(key) = self.random.pick(&keys).copied() {
                    self.finish(position, key);
                }
            }
            10 => {
                let pulls: Vec<_> = self.pulls.keys().cloned().collect();
                if let Some(content) = self.random.pick(&pulls).cloned() {
                    self.pull(&content);
                }
            }
            11 | 12 => self.pass_time(),
            13 if self.plans_admitted < 6 => self.admit(),
            14 if !self.executors[position].is_linked => self.executors[position].link(),
            15 if self.has_trouble => self.trouble(position),
            _ => {}
        }
    }

    fn trouble(&mut self, position: usize) {
        match self.random.below(9) {
            0 | 1 => self.unlink(position),
            2 => self.crash(position),
            3 => {
                // The disk forgets some of what it had.
                let random = &mut self.random;
                self.executors[position].disk.retain(|_| !random.once_in(3));
            }
            4 if !self.executors[position].is_draining => {
                let executor = &mut self.executors[position];
                executor.is_draining = true;
                if executor.is_linked {
                    executor.outbox.push_back(Event::ExecutorDraining(name(&executor.name)));
                }
            }
            5 => {
                // A repeated report.
                let keys: Vec<_> = self.executors[position].finished.keys().copied().collect();
                if let Some(key) = self.random.pick(&keys).copied() {
                    self.executors[position].say_result(key);
                }
            }
            6 if self.random.once_in(3) => {
                let plans: Vec<u8> = self.plans.keys().copied().collect();
                if let Some(plan) = self.random.pick(&plans).copied() {
                    self.cancelled.insert(plan);
                    self.send(Event::PlanCancelled(plan_id(plan)));
                }
            }
            7 if self.random.once_in(3) => self.restart(),
            8 => {
                // Long silence: everybody who is not linked is lost.
                for _ in 0..32 {
                    self.pass_time();
                }
            }
            _ => {}
        }
    }

    /// The leases of an executor may be lost from here on.
    fn disturb(&mut self, position: usize) {
        let name = &self.executors[position].name;
        self.undisturbed.retain(|_, (_, executor)| executor != name);
    }

    fn unlink(&mut self, position: usize) {
        if self.executors[position].is_linked {
            self.disturb(position);
            self.executors[position].unlink();
            self.send(Event::ExecutorDisconnected(name(&format!("x{position}"))));
        }
    }

    fn crash(&mut self, position: usize) {
        self.disturb(position);
        self.executors[position].crash();
        self.send(Event::ExecutorDisconnected(name(&format!("x{position}"))));
    }

    fn admit(&mut self) {
        self.plans_admitted += 1;
        let plan = self.graph.plan(&mut self.random, self.plans_admitted);
        self.plans.insert(self.plans_admitted, plan);
        self.submit(self.plans_admitted, false);
    }

    /// A plan as the shell gives it to the core: with what the journal knows of its contents.
    fn submit(&mut self, number: u8, is_restored: bool) {
        let mut plan = self.plans[&number].clone();
        let outputs = plan.tasks.iter().flat_map(|task| {
            task.outputs
                .iter()
                .map(|output| ContentId { domain: task.id.domain.clone(), path: output.path.clone() })
        });
        let mut named: Vec<ContentId> = self.graph.sources.iter().cloned().collect();
        for id in outputs {
            if !id.path.is_promise() {
                named.push(id);
                continue;
            }
            let steps = self.journal.bindings(&id);
            named.extend(steps.last().map(|last| last.to.clone()));
            plan.bindings.extend(steps);
        }
        for id in self.graph.closure(&named) {
            if self.journal.known.contains(&id) {
                let holders = self.journal.holders.get(&id).into_iter().flatten().cloned().collect();
                plan.contents.push(self.graph.known(&id, holders));
            }
        }
        if is_restored {
            let failed = plan.tasks.iter().filter_map(|task| {
                self.journal.failed.get(&task.id).map(|failure| (task.id.clone(), failure.clone()))
            });
            plan.failed = failed.collect();
        }
        self.send(Event::PlanAdmitted(plan));
    }

    /// The coordinator ends and begins again, with what the journal has.
    fn restart(&mut self) {
        for executor in &mut self.executors {
            executor.unlink();
        }
        self.undisturbed.clear();
        self.pulls.clear();
        let now_ms = self.core.now_ms;
        let first_lease = LeaseId(self.last_lease.0 + 1);
        let restart_grace_ms = if self.random.once_in(2) { 2_000 } else { 0 };
        let settings = Settings { attempts_max: u32::MAX, first_lease, restart_grace_ms, ..SETTINGS };
        self.core = Core::with(settings);
        self.core.now_ms = now_ms;
        self.send(Event::Remembered(self.journal.measured.clone()));
        for plan in self.plans.keys().copied().collect::<Vec<_>>() {
            self.submit(plan, true);
        }
    }

    fn pass_time(&mut self) {
        for position in 0..self.executors.len() {
            while !self.executors[position].inbox.is_empty() {
                self.deliver_in(position);
            }
            while !self.executors[position].outbox.is_empty() {
                self.deliver_out(position);
            }
            self.executors[position].beat();
        }
        self.core.now_ms += STEP_MS;
        self.send(Event::Tick);
    }

    fn deliver_out(&mut self, position: usize) {
        let Some(mut event) = self.executors[position].outbox.pop_front() else { return };
        if let Event::ExecutorHolds(held) = &mut event {
            held.contents.retain(|known| self.journal.known.contains(&known.id));
            for known in &mut held.contents {
                *known = self.graph.known(&known.id, vec![]);
            }
        }
        if let Event::ExecutorDraining(_) | Event::ExecutorConnected { .. } = &event {
            self.executors[position].may_leave = false;
        }
        self.send(event);
    }

    fn deliver_in(&mut self, position: usize) {
        match self.executors[position].inbox.pop_front() {
            Some(Message::Lease(grant)) => self.start(position, grant),
            Some(Message::Cancel(key)) => self.executors[position].cancel(key),
            Some(Message::Acknowledge(key)) => _ = self.executors[position].finished.remove(&key),
            Some(Message::MayLeave) => self.executors[position].may_leave = true,
            None => {}
        }
    }

    /// An executor fetches the inputs of a lease from where the lease says they are.
    fn start(&mut self, position: usize, grant: Grant) {
        let has = |holder: &Holder, id: &ContentId| match holder {
            Holder::ContentStore => self.store.contains(id),
            Holder::Executor(name) => {
                self.executors.iter().any(|executor| *executor.name == *name.0 && executor.disk.contains(id))
            }
        };
        let mut missing = vec![];
        let mut fetched = vec![];
        for input in &grant.inputs {
            let is_there = self.executors[position].disk.contains(&input.id);
            if is_there || input.holders.iter().any(|holder| has(holder, &input.id)) {
                fetched.push(input.id.clone());
            } else {
                missing.push(short(&input.id.path));
            }
        }
        let executor = &mut self.executors[position];
        executor.disk.extend(fetched);
        let mut outcome = None;
        if executor.is_draining {
            outcome = Some(failed(FailureClass::Infrastructure, &[]));
        } else if !missing.is_empty() {
            outcome = Some(failed(FailureClass::InputMissing, &refs(&missing)));
        }
        let job = Job { task: grant.task, platform: grant.platform, outcome };
        executor.running.insert(grant.lease, job);
    }

    fn finish(&mut self, position: usize, key: LeaseKey) {
        let job = self.executors[position].running[&key].clone();
        let has_trouble = self.has_trouble && self.random.once_in(8);
        let trouble = [FailureClass::Infrastructure, FailureClass::OutOfDisk, FailureClass::OutOfMemory];
        let class = trouble[self.random.below(3)];
        let outcome = job.outcome.unwrap_or_else(|| match has_trouble {
            true => failed(class, &[]),
            false => self.graph.result(&job.task),
        });
        self.executors[position].finish(key, outcome);
    }

    fn pull(&mut self, content: &ContentId) {
        let from = self.pulls.remove(content).unwrap();
        if self.has_trouble && self.random.once_in(6) {
            return self.send(Event::PullFailed { content: content.clone(), from: vec![] });
        }
        let gives = |name: &ExecutorName| {
            self.executors.iter().any(|other| *other.name == *name.0 && other.disk.contains(content))
        };
        if from.iter().any(gives) {
            self.store.insert(content.clone());
            self.send(Event::Stored(content.clone()));
        } else {
            self.send(Event::PullFailed { content: content.clone(), from });
        }
    }

    fn send(&mut self, event: Event) {
        if let Event::LeaseReported { executor, lease, .. } = &event {
            let ended = (*lease, executor.0.to_string());
            self.undisturbed.retain(|_, undisturbed| *undisturbed != ended);
        }
        let effects = self.core.apply(event);
        for effect in effects {
            self.perform(effect);
        }
        if let Some(answer) = self.again.pop_front() {
            self.send(answer);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Record(fact) => self.record(fact),
            Effect::Resolve { task, number, bound } => self.resolve(task, number, &bound),
            Effect::Grant(grant) => {
                self.check_grant(&grant);
                let executor = grant.executor.clone();
                self.reach(&executor, Message::Lease(grant));
            }
            Effect::Cancel { executor, lease } => {
                self.undisturbed.retain(|_, (key, _)| *key != lease);
                self.reach(&executor, Message::Cancel(lease));
            }
            Effect::Acknowledge { executor, lease } => {
                self.reach(&executor, Message::Acknowledge(lease));
            }
            Effect::MayLeave(executor) => self.reach(&executor, Message::MayLeave),
            Effect::Evict(executor) => {
                self.undisturbed.retain(|_, (_, other)| **other != *executor.0);
                let position = self.executors.iter().position(|other| *other.name == *executor.0).unwrap();
                self.executors[position].unlink();
            }
            Effect::Pull { content, from, .. } => {
                assert!(!from.is_empty() && !self.store.contains(&content), "{content:?} from {from:?}");
                assert!(self.pulls.insert(content, from).is_none(), "pulled twice");
                assert!(self.pulls.len() <= 8);
            }
            Effect::Tell { plan, news } => {
                let number = plan.0[0];
                assert!(self.plans.contains_key(&number), "news of a plan that ended: {news:?}");
                if let News::Finished(summary) = news {
                    self.check_finished(number, &summary);
                    self.plans.remove(&number);
                }
            }
            Effect::Admitted { .. }
            | Effect::Ended { .. }
            | Effect::Differs { .. }
            | Effect::SetAside { .. } => {}
        }
    }

    fn reach(&mut self, name: &ExecutorName, message: Message) {
        let executor = self.executors.iter_mut().find(|executor| *executor.name == *name.0).unwrap();
        if executor.is_linked {
            executor.inbox.push_back(message);
        }
    }

    fn record(&mut self, fact: Fact) {
        match fact {
            Fact::TaskSettled { task, settled: Settled::Built { outputs, .. } } => {
                assert!(!self.graph.bad.contains(&task), "{task:?} cannot have been built");
                self.journal.known.extend(outputs.into_iter().map(|output| output.id));
                self.journal.failed.remove(&task);
            }
            Fact::TaskSettled { task, settled: Settled::Failed(failure) } => {
                assert!(self.graph.bad.contains(&task), "{task:?} failed by {failure:?}");
                self.journal.failed.insert(task, failure);
            }
            Fact::Bound(Binding { promise, to }) => {
                assert_eq!(self.graph.real.get(&to).unwrap_or(&to), self.journal_truth(&promise));
                self.journal.bindings.insert(promise, to);
            }
            Fact::Held(id, holder) => {
                assert!(self.journal.known.contains(&id), "{id:?} is held and unknown");
                self.journal.holders.entry(id).or_default().insert(holder);
            }
            Fact::NotHeld(id, holder) => {
                assert!(self.journal.holders.entry(id).or_default().remove(&holder), "not held anyway");
            }
            Fact::PlanEnded(..) => {}
            Fact::Measured(measured) => self.journal.measured.push(measured),
        }
    }

    fn check_grant(&mut self, grant: &Grant) {
        let spec = self.graph.task(&grant.task);
        let executor = self.executors.iter().find(|other| *other.name == *grant.executor.0).unwrap();
        assert!(spec.requirement.is_met_by(&grant.platform), "{grant:?}");
        let offers = &executor.capability.offers;
        assert!(offers.iter().any(|offer| offer.platform == grant.platform), "{grant:?}");
        let mut seen = BTreeSet::new();
        for input in &grant.inputs {
            assert!(!input.holders.is_empty(), "{input:?}");
            assert!(self.graph.references[&input.id].iter().all(|reference| seen.contains(reference)));
            assert!(seen.insert(input.id.clone()));
        }
        assert_eq!(seen, self.graph.closure(&self.graph.inputs(spec)), "exactly the closure of the inputs");
        assert!(grant.lease.id > self.last_lease, "a lease's name is used again");
        self.last_lease = grant.lease.id;
        if grant.is_speculative {
            return;
        }
        let lease = (grant.lease, executor.name.clone());
        let former = self.undisturbed.insert(grant.task.clone(), lease);
        assert!(former.is_none(), "{:?} runs already: {former:?}", grant.task);
        // A plan that comes after a failure tries again.
        let is_bad = self.graph.bad.contains(&grant.task);
        let built = self.graph.built(&grant.task);
        let grants = self.grants.entry(built).or_default();
        *grants += 1;
        assert!(self.is_troubled || is_bad || *grants == 1, "built twice: {grant:?}");
    }

    fn check_finished(&self, number: u8, summary: &PlanSummary) {
        let plan = &self.plans[&number];
        assert_eq!(summary.cancelled, self.cancelled.contains(&number));
        if summary.cancelled {
            return;
        }
        let is_possible = plan.roots.iter().all(|root| self.graph.is_possible(&root.task));
        assert_eq!(summary.succeeded, is_possible, "plan {number}: {summary:?}");
        for root in plan.roots.iter().filter(|_| summary.succeeded) {
            let wanted: Vec<_> =
                root.outputs.iter().map(|output| self.graph.output(&root.task, output)).collect();
            let closure = self.graph.closure(&wanted);
            assert!(closure.is_subset(&self.store), "plan {number} succeeded without all of its closure");
        }
    }
}
