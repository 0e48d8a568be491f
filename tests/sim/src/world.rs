//! A world: a coordinator, executors, clients, and what happens to them until every plan has ended.
use crate::belief::Belief;
use crate::bits::Bits;
use crate::collect::Dropped;
use crate::common::{SETTINGS, capability, cross, emulated, failed, name, native, plan_id};
use crate::coverage::Tally;
use crate::engine::Engine;
use crate::executor::{Executor, Message};
use crate::fault::Fault;
use crate::graph::{Graph, Scale};
use crate::journal::Journal;
use crate::random::Random;
use model::{ExecutorName, FailureClass, LeaseId, Outcome, StorePath};
use scheduler::{Event, Grant, GrantedInput, Holder, LeaseKey, NewPlan, Settings};
use std::collections::{BTreeMap, BTreeSet};

pub const STEP_MS: u64 = 500;
/// Steps after which a world must have had all its events, or its plans must have ended.
const STEPS_MAX: usize = 40_000;
const CALM_STEPS_MAX: usize = 1_000;
/// A large world has so many events, and most have the last of them when all is calm.
pub const EVENTS_MIN: u64 = 1_000;
const CALM_EVENTS: u64 = 100;

/// What a world is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How large.
    pub scale: Scale,
    /// Whether anything bad happens.
    pub has_trouble: bool,
    /// Whether it is measured what the core and its checks take.
    pub is_timed: bool,
    /// Whether everything is checked after every event, and not by turns.
    pub is_thorough: bool,
    /// Who is told of every event and fault.
    pub trace: Option<fn(&str)>,
}

/// A client's plan.
pub struct Plan {
    pub new: NewPlan,
    pub roots: Vec<usize>,
    /// All that is below them, they included.
    pub tasks: Bits,
    pub is_cancelled: bool,
}

pub struct World {
    pub options: Options,
    pub random: Random,
    /// Something bad may happen now.
    pub has_trouble: bool,
    pub graph: Graph,
    pub now_ms: u64,
    pub settings: Settings,
    pub engine: Engine,
    pub belief: Belief,
    pub journal: Journal,
    /// The content store.
    pub store: Bits,
    pub pulls: BTreeMap<usize, Vec<ExecutorName>>,
    pub executors: Vec<Executor>,
    /// Plans by number.
    pub plans: BTreeMap<u8, Plan>,
    /// Plans that the coordinator does not know yet, or was killed before it could remember.
    pub unborn: Vec<u8>,
    pub ended: BTreeSet<u8>,
    /// Tasks of plans that were admitted.
    pub admitted: Bits,
    /// How often each task was leased; by the first task that comes to the same.
    pub leased: Vec<u32>,
    /// What executors were allowed to drop.
    pub dropped: Dropped,
    pub crash: Option<Fault>,
    pub tally: Tally,
}

impl World {
    pub fn new(seed: u64, options: Options) -> Self {
        let mut random = Random(seed);
        let graph = Graph::random(&mut random, options.scale);
        let all = [native(), emulated(), cross()];
        let few = if options.scale == Scale::Small { 2 } else { 3 };
        let executors = (0..few + random.below(3)).map(|number| {
            let offers: Vec<_> = all.iter().filter(|_| number < 1 || random.once_in(2)).cloned().collect();
            let slots = u32::try_from(1 + random.below(3)).unwrap();
            let speed = [0, 400, 1_000, 2_500][random.below(4)];
            let memory_bytes = [0, 4 << 30, 16 << 30][random.below(3)];
            let build_memory_bytes = memory_bytes / [1, 2][random.below(2)];
            let capability =
                model::Capability { speed, memory_bytes, build_memory_bytes, ..capability(slots, &offers) };
            let disk_max = [usize::MAX, 4, 16][random.below(3)];
            Executor { disk_max, ..Executor::new(name(&format!("x{number}")), capability) }
        });
        let executors: Vec<Executor> = executors.collect();
        let eviction_after_ms = [4_000, 6_000, 15_000][random.below(3)];
        let settings = Settings { attempts_max: u32::MAX, eviction_after_ms, ..SETTINGS };
        let mut world = Self {
            options,
            has_trouble: options.has_trouble,
            now_ms: 1_000_000,
            engine: Engine::new(settings.clone(), executors.len(), 1_000_000),
            belief: Belief::new(executors.len(), graph.tasks.len()),
            journal: Journal { held: vec![Bits::default(); executors.len()], ..Journal::default() },
            store: graph.sources,
            pulls: BTreeMap::new(),
            plans: BTreeMap::new(),
            unborn: vec![],
            ended: BTreeSet::new(),
            admitted: Bits::default(),
            leased: vec![0; graph.tasks.len()],
            dropped: Dropped::default(),
            crash: None,
            tally: Tally::default(),
            random,
            graph,
            settings,
            executors,
        };
        world.journal.known = world.graph.sources;
        world.submit_plans();
        world
    }

    /// Clients want everything, in a few plans; others want a task here and there.
    fn submit_plans(&mut self) {
        let mut wanted = match self.options.scale {
            Scale::Small => vec![],
            Scale::Large => self.graph.last_tasks(),
        };
        let each = wanted.len().div_ceil(1 + self.random.below(2));
        let mut plans = vec![];
        while !wanted.is_empty() {
            plans.push(wanted.split_off(wanted.len().saturating_sub(each)));
        }
        for _ in 0..if plans.is_empty() { 6 } else { 2 } {
            let roots = 0..1 + self.random.below(3);
            plans.push(roots.map(|_| self.random.below(self.graph.tasks.len())).collect());
        }
        plans.into_iter().for_each(|roots| self.submit(roots));
    }

    /// A client wants these tasks, after all that was wanted before.
    pub fn submit(&mut self, roots: Vec<usize>) {
        let number = u8::try_from(self.plans.len() + 1).unwrap();
        let new = self.graph.plan(&roots, number);
        let tasks = new.tasks.iter().map(|task| self.graph.task_places[&task.id]).collect();
        self.plans.insert(number, Plan { new, roots, tasks, is_cancelled: false });
        self.unborn.insert(0, number);
    }

    pub fn play(mut self) -> Tally {
        let (steps, events) = match self.options.scale {
            Scale::Small => (400, 0),
            Scale::Large => (0, EVENTS_MIN - CALM_EVENTS),
        };
        for step in 0.. {
            assert!(step < STEPS_MAX, "too little happens: {:?}", self.tally);
            if step >= steps && self.tally.events_total() >= events && self.has_had_trouble() {
                break;
            }
            self.step();
        }
        self.calm();
        self.tally
    }

    fn has_had_trouble(&self) -> bool {
        let few = if self.options.scale == Scale::Large { 5 } else { 0 };
        !self.options.has_trouble || self.tally.faults_total() >= few
    }

    /// From here on nothing bad happens: everybody comes, and every plan ends.
    fn calm(&mut self) {
        self.has_trouble = false;
        while let Some(event) = self.engine.pending.pop_front() {
            self.tell(event);
        }
        for position in 0..self.executors.len() {
            if self.executors[position].is_draining {
                let was_linked = self.executors[position].is_linked;
                self.disturb(position);
                self.executors[position].die();
                if was_linked {
                    self.tell(Event::ExecutorDisconnected(self.executors[position].name.clone()));
                }
            }
            self.heal(position);
        }
        for _ in 0..CALM_STEPS_MAX {
            self.settle();
            if self.is_all_admitted() && self.journal.living.is_empty() {
                self.check_nothing_runs();
                while self.options.scale == Scale::Large && self.tally.events_total() < EVENTS_MIN {
                    self.pass_time();
                }
                return;
            }
            while !self.is_all_admitted() {
                self.admit();
            }
            self.go_on();
        }
        let living = self.journal.living.iter().map(|plan| self.engine.state.snapshot(plan_id(*plan)));
        let (living, unborn) = (living.collect::<Vec<_>>(), &self.unborn);
        panic!("plans do not end: {living:#?}, nor begin: {unborn:?}");
    }

    /// Half a second in which everybody does what there is to do.
    fn go_on(&mut self) {
        for position in 0..self.executors.len() {
            if !self.executors[position].is_linked {
                self.link(position);
            }
            for (key, _) in self.executors[position].running.clone() {
                self.finish(position, key);
            }
        }
        for content in self.pulls.keys().copied().collect::<Vec<_>>() {
            self.pull(content);
        }
        self.pass_time();
    }

    /// What no plan wants is cancelled, however often the word of it was lost.
    fn check_nothing_runs(&mut self) {
        for position in 0..self.executors.len() {
            if !self.executors[position].is_linked {
                self.link(position);
            }
        }
        for _ in 0..4 {
            self.pass_time();
        }
        for executor in &self.executors {
            for (key, job) in &executor.running {
                assert!(job.outcome.is_some(), "{} still runs {key:?} of {:?}", executor.name, job.task);
            }
        }
    }

    /// Everything that was wrong with an executor is over.
    fn heal(&mut self, position: usize) {
        let executor = &mut self.executors[position];
        (executor.is_up, executor.is_frozen, executor.is_cut) = (true, false, false);
        (executor.late_until_ms, executor.slow_until_ms, executor.full_until_ms) = (0, 0, 0);
    }

    /// One thing that happens.
    fn step(&mut self) {
        if let Some(event) = self.engine.pending.pop_front() {
            return self.tell(event);
        }
        let position = self.random.below(self.executors.len());
        match self.random.below(20) {
            0..=3 => _ = self.deliver_out(position),
            4..=6 => _ = self.deliver_in(position),
            7..=10 => {
                let executor = &self.executors[position];
                let is_slow = executor.slow_until_ms > self.now_ms && !self.random.once_in(12);
                let keys: Vec<LeaseKey> = executor.running.iter().map(|(key, _)| *key).collect();
                if !is_slow && let Some(key) = self.random.pick(&keys).copied() {
                    self.finish(position, key);
                }
            }
            11 | 12 => {
                let pulls: Vec<usize> = self.pulls.keys().copied().collect();
                if let Some(content) = self.random.pick(&pulls).copied() {
                    self.pull(content);
                }
            }
            13 | 14 => self.pass_time(),
            15 => {
                self.beat(position);
                self.ask_for_room(position);
            }
            16 if self.journal.living.is_empty() || self.random.once_in(8) => self.admit(),
            17 | 18 => self.come_back(position),
            _ if self.executors[position].may_leave => self.leave(position),
            _ => {}
        }
    }

    /// A heartbeat waits to be delivered.
    fn beat(&mut self, position: usize) {
        if self.executors[position].is_reachable(self.now_ms) {
            self.executors[position].beat(self.now_ms);
        }
    }

    /// An executor that was away comes back.
    fn come_back(&mut self, position: usize) {
        let executor = &mut self.executors[position];
        if !executor.is_up || executor.is_frozen || executor.is_cut {
            if self.random.once_in(6) {
                (executor.is_up, executor.is_frozen, executor.is_cut) = (true, false, false);
            }
        } else if !executor.is_linked {
            self.link(position);
        }
    }

    fn link(&mut self, position: usize) {
        let part_len = [2, 10, 100][self.random.below(3)];
        let claims = std::mem::take(&mut self.engine.claims[position]);
        let executor = &mut self.executors[position];
        executor.link(&self.graph, part_len, &claims);
        self.engine.is_silent[position] = false;
    }

    /// It drained, and the coordinator needs nothing that only it has.
    fn leave(&mut self, position: usize) {
        let executor = &mut self.executors[position];
        if executor.running.is_empty() && executor.finished.is_empty() && executor.is_linked {
            executor.die();
            self.tell(Event::ExecutorDisconnected(self.executors[position].name.clone()));
        }
    }

    fn is_all_admitted(&self) -> bool {
        self.unborn.is_empty() && self.engine.arriving.is_none()
    }

    fn admit(&mut self) {
        // Some come in parts, and much may happen between two.
        if self.engine.arriving.is_none() && self.random.once_in(2) {
            self.engine.arriving = self.unborn.pop();
            if let Some(number) = self.engine.arriving {
                let event = self.part(number);
                return self.tell(event);
            }
        }
        if let Some(number) = self.engine.arriving.take().or_else(|| self.unborn.pop()) {
            let event = self.submission(number, false);
            self.engine.admit(number);
            self.tell(event);
        }
    }

    pub fn pass_time(&mut self) {
        for position in 0..self.executors.len() {
            while !self.executors[position].inbox.is_empty() && self.deliver_in(position) {}
            while self.deliver_out(position) {}
            if self.now_ms.is_multiple_of(SETTINGS.heartbeat_interval_ms) {
                self.executors[position].beat(self.now_ms);
            }
            self.ask_for_room(position);
        }
        self.now_ms += STEP_MS;
        self.tell(Event::Tick);
    }

    fn deliver_out(&mut self, position: usize) -> bool {
        if !self.executors[position].is_reachable(self.now_ms) {
            return false;
        }
        let Some(mut event) = self.executors[position].outbox.pop_front() else { return false };
        if let Event::ExecutorHolds(held) = &mut event {
            // The shell compares it with the hashes that are recorded.
            let known = &self.journal.known;
            held.contents.retain(|content| known.has(self.graph.content_places[&content.id]));
            self.engine.inventory(position, held, &self.graph);
        }
        if let Event::ExecutorDraining(_) | Event::ExecutorConnected { .. } = &event {
            self.executors[position].may_leave = false;
        }
        self.tell(event);
        true
    }

    fn deliver_in(&mut self, position: usize) -> bool {
        let executor = &mut self.executors[position];
        if !executor.is_reachable(self.now_ms) || executor.is_frozen {
            return false;
        }
        match executor.inbox.pop_front() {
            Some(Message::Lease(grant)) => self.start(position, &grant),
            Some(Message::Cancel(key)) => executor.cancel(key),
            Some(Message::Acknowledge(key)) => executor.acknowledge(key),
            Some(Message::Prefetch(inputs)) => {
                self.fetch(position, &inputs);
            }
            Some(Message::MayLeave) => executor.may_leave = true,
            Some(Message::MayDrop(number, contents)) => self.answered(position, number, &contents),
            None => {}
        }
        true
    }

    /// An executor fetches the inputs of a lease from where the lease says they are.
    fn start(&mut self, position: usize, grant: &Grant) {
        let missing = self.fetch(position, &grant.inputs);
        let outcome = (!missing.is_empty()).then(|| match failed(FailureClass::InputMissing, &[]) {
            Outcome::Failed(failure) => {
                Outcome::Failed(model::Failure { missing_inputs: missing, ..failure })
            }
            built => built,
        });
        let now_ms = self.now_ms;
        self.executors[position].lease(grant, outcome, now_ms);
    }

    /// Fetches inputs from where they are said to be; gives those that nobody gave.
    fn fetch(&mut self, position: usize, inputs: &[GrantedInput]) -> Vec<StorePath> {
        let gives = |holder: &Holder, content: usize| match holder {
            Holder::ContentStore => self.store.has(content),
            Holder::Executor(name) => {
                self.executors.iter().any(|other| other.name == *name && other.gives(content))
            }
        };
        let (mut missing, mut fetched) = (vec![], Bits::default());
        for input in inputs {
            let content = self.graph.content_places[&input.id];
            let is_there = self.executors[position].disk.has(content);
            if is_there || input.holders.iter().any(|holder| gives(holder, content)) {
                fetched.add(content);
            } else {
                missing.push(input.id.path.clone());
            }
        }
        let executor = &mut self.executors[position];
        let new = fetched.without(&executor.disk);
        executor.disk.add_all(&fetched);
        executor.say_fetched(&new, &self.graph);
        missing
    }

    /// A build ends as it must.
    pub fn finish(&mut self, position: usize, key: LeaseKey) {
        let executor = &mut self.executors[position];
        if !executor.is_up || executor.is_frozen {
            return;
        }
        let Some((_, job)) = executor.running.iter().find(|(other, _)| *other == key) else { return };
        let truth = &self.graph.truths[self.graph.task_places[&job.task]];
        let outcome = job.outcome.clone().unwrap_or_else(|| truth.outcome.clone());
        let made: &[usize] = if let Outcome::Built(_) = &outcome { &truth.outputs } else { &[] };
        executor.finish(key, outcome, made);
    }

    fn pull(&mut self, content: usize) {
        let Some(from) = self.pulls.remove(&content) else { return };
        let id = self.graph.contents[content].id.clone();
        let is_given = self.executors.iter().any(|other| from.contains(&other.name) && other.gives(content));
        if is_given {
            self.store.add(content);
            self.tell(Event::Stored(id));
        } else {
            self.tell(Event::PullFailed { content: id, from });
        }
    }

    /// The leases of an executor may be lost from here on.
    pub fn disturb(&mut self, position: usize) {
        self.belief.disturb(position);
    }

    pub fn position(&self, name: &ExecutorName) -> usize {
        self.executors.iter().position(|executor| executor.name == *name).unwrap()
    }

    pub fn first_lease(&self) -> LeaseId {
        self.settings.first_lease
    }
}
