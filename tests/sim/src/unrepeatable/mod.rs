//! Worlds in which builds give other bits each time, and all copies of some get lost: what referred to those is made anew, and every
//! plan succeeds, with what belongs together.
mod executor;
mod shell;

use crate::common::*;
use crate::random::Random;
use executor::{Executor, Job, Message};
use model::{
    BuiltOutput, ContentId, ExecutorName, Failure, FailureClass, LeaseId, Outcome, Output, StorePath, TaskId,
    TaskSpec,
};
use scheduler::{
    Effect, Event, Grant, Holder, KnownContent, LeaseKey, NewPlan, News, Resolution, Root, Settings,
    TaskState,
};
use shell::Shell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const STEP_MS: u64 = 500;

/// Paths for what stands for the inputs of a build.
type Bound = Vec<(StorePath, StorePath)>;

/// What came of many worlds.
#[derive(Debug, Default)]
pub struct Tally {
    pub plans: usize,
    pub builds: usize,
    /// Outputs that turned out to be something else than before.
    pub renewed: usize,
}

/// A derivation of this world. Its outputs have no path before its inputs have.
struct Made {
    spec: TaskSpec,
    /// Its own name, or that of another that comes to the same.
    family: String,
    /// Addressed by its content; otherwise by its inputs.
    is_floating: bool,
    /// Other bits each time.
    is_moody: bool,
}

pub struct World {
    random: Random,
    has_trouble: bool,
    made: Vec<Made>,
    core: Core,
    shell: Shell,
    store: BTreeSet<ContentId>,
    pulls: BTreeMap<ContentId, Vec<ExecutorName>>,
    executors: Vec<Executor>,
    bound: BTreeMap<LeaseKey, Bound>,
    plans: BTreeMap<u8, NewPlan>,
    /// Why tasks failed, as it was told.
    failures: BTreeMap<u8, Vec<Failure>>,
    last_lease: LeaseId,
    again: VecDeque<Event>,
    tally: Tally,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let executor = |number: usize| Executor {
            name: format!("x{number}"),
            boot: 1,
            capability: capability(2, &[native()]),
            ..Executor::default()
        };
        let executors = (0..2 + random.below(2)).map(executor).collect();
        let mut world = Self {
            random,
            has_trouble: true,
            made: vec![],
            core: Core::with(Settings { attempts_max: u32::MAX, ..SETTINGS }),
            shell: Shell::default(),
            store: BTreeSet::new(),
            pulls: BTreeMap::new(),
            executors,
            bound: BTreeMap::new(),
            plans: BTreeMap::new(),
            failures: BTreeMap::new(),
            last_lease: LeaseId(0),
            again: VecDeque::new(),
            tally: Tally::default(),
        };
        for number in 0..3 + world.random.below(8) {
            world.add(number);
        }
        world
    }

    fn add(&mut self, number: usize) {
        let name = format!("t{number:02}");
        let random = &mut self.random;
        let candidates: Vec<usize> = (0..self.made.len()).collect();
        let twin = if random.once_in(6) { random.pick(&candidates).copied() } else { None };
        if let Some(twin) = twin.map(|twin| &self.made[twin]).filter(|twin| twin.spec.needs_resolution) {
            let mut spec = TaskSpec { id: task_id(&name), name, ..twin.spec.clone() };
            for output in &mut spec.outputs {
                output.path = StorePath::promised(&spec.id.path, &output.name);
            }
            let Made { family, is_floating, is_moody, .. } = twin;
            let (family, is_floating, is_moody) = (family.clone(), *is_floating, *is_moody);
            self.made.push(Made { spec, family, is_floating, is_moody });
            return;
        }
        let mut inputs: BTreeSet<String> = BTreeSet::new();
        for _ in 0..random.below(3).max(usize::from(!random.once_in(3))) {
            inputs.extend(random.pick(&candidates).map(|input| self.made[*input].spec.name.clone()));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut spec = task(&name, &inputs);
        let names = if random.once_in(3) { &["dev", "out"] as &[&str] } else { &["out"] };
        let promised = |name: &&str| StorePath::promised(&spec.id.path, name);
        spec.outputs =
            names.iter().map(|name| Output { name: (*name).into(), path: promised(name) }).collect();
        for input in &mut spec.input_derivations {
            let below = self.made.iter().find(|made| made.spec.id == input.task).unwrap();
            if below.spec.outputs.len() > 1 && !random.once_in(3) {
                input.outputs =
                    if random.once_in(2) { vec!["dev".into()] } else { vec!["dev".into(), "out".into()] };
            }
        }
        spec.needs_resolution = !inputs.is_empty();
        let is_floating = inputs.is_empty() || random.once_in(2);
        self.made.push(Made { spec, family: name, is_floating, is_moody: random.once_in(2) });
    }

    fn made(&self, task: &TaskId) -> &Made {
        self.made.iter().find(|made| made.spec.id == *task).unwrap()
    }

    /// The derivation that a task comes to with these inputs.
    fn resolved(&self, task: &TaskId, bound: &Bound) -> StorePath {
        let made = self.made(task);
        if !made.spec.needs_resolution {
            return task.path.clone();
        }
        let inputs: Vec<String> = bound.iter().map(|(_, path)| short(path)).collect();
        let digest =
            hash(&inputs.join(" ")).iter().fold(0_u64, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte));
        path(&format!("{}-{digest}.drv", made.family))
    }

    /// What one of its outputs is then, as far as that follows from the inputs.
    fn output(&self, task: &TaskId, name: &str, bound: &Bound) -> ContentId {
        let resolved = self.resolved(task, bound);
        if self.made(task).is_floating {
            return ContentId { path: StorePath::promised(&resolved, name), ..task.clone() };
        }
        content(&short(&resolved).replace(".drv", &format!("-{name}")))
    }

    /// What a build gives this time; `out` refers to `dev`, both to all inputs.
    fn build(&mut self, task: &TaskId, bound: &Bound) -> Outcome {
        self.tally.builds += 1;
        let turn = if self.made(task).is_moody { self.tally.builds } else { 0 };
        let resolved = self.resolved(task, bound);
        let mut references: BTreeSet<String> = bound.iter().map(|(_, path)| short(path)).collect();
        let mut outputs = vec![];
        for Output { name, .. } in self.made(task).spec.outputs.clone() {
            let output = self.output(task, &name, bound);
            let built = short(&resolved).replace(".drv", &format!("-{name}-built{turn}"));
            let path = if output.path.is_promise() { path(&built) } else { output.path };
            let all: Vec<String> = references.iter().cloned().collect();
            let facts = model::PathFacts { deriver: Some(resolved.clone()), ..facts(&built, &refs(&all)) };
            references.insert(short(&path));
            outputs.push(BuiltOutput { name, path, facts });
        }
        Outcome::Built(outputs)
    }

    /// Plays a world to its end.
    pub fn play(mut self) -> Tally {
        for number in 1..=2 {
            self.admit(number);
        }
        for _ in 0..300 {
            self.step();
        }
        // From here on nothing is lost any more.
        self.has_trouble = false;
        self.calm();
        // Whatever was lost: the same plans, handed over again, are built.
        for number in 11..=12 {
            self.admit(number);
        }
        self.calm();
        self.tally
    }

    fn admit(&mut self, number: u8) {
        let tasks: Vec<TaskSpec> = self.made.iter().map(|made| made.spec.clone()).collect();
        let last = tasks.len() - 1;
        let wanted = [last, self.random.below(tasks.len())];
        let wanted: BTreeSet<usize> = wanted.into_iter().collect();
        let names = |task: usize| tasks[task].outputs.iter().map(|output| output.name.clone()).collect();
        let root = |task: usize| Root { task: tasks[task].id.clone(), outputs: names(task) };
        let roots = wanted.into_iter().map(root).collect();
        let (contents, bindings, failed) = (vec![], vec![], vec![]);
        self.plans.insert(number, NewPlan { id: plan_id(number), tasks, roots, contents, bindings, failed });
        self.tally.plans += 1;
        self.submit(number, false);
    }

    fn submit(&mut self, number: u8, is_restored: bool) {
        let mut plan = self.plans[&number].clone();
        let mut named = BTreeSet::new();
        for task in &plan.tasks {
            for output in &task.outputs {
                let steps = self.shell.steps(&ContentId { path: output.path.clone(), ..task.id.clone() });
                for known in steps.last().map(|last| self.shell.closure(&last.to)).unwrap_or_default() {
                    if named.insert(known.id.clone()) {
                        plan.contents.push(known);
                    }
                }
                plan.bindings.extend(steps);
            }
            let failure = self.shell.failed.get(&task.id).filter(|_| is_restored);
            plan.failed.extend(failure.map(|failure| (task.id.clone(), failure.clone())));
        }
        self.send(Event::PlanAdmitted(plan));
    }

    fn calm(&mut self) {
        for _ in 0..500 {
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

    fn step(&mut self) {
        let position = self.random.below(self.executors.len());
        match self.random.below(14) {
            0..=3 => self.deliver_out(position),
            4..=6 => self.deliver_in(position),
            7 | 8 => {
                let keys: Vec<_> = self.executors[position].running.keys().copied().collect();
                if let Some(key) = self.random.pick(&keys).copied() {
                    self.finish(position, key);
                }
            }
            9 => {
                let pulls: Vec<_> = self.pulls.keys().cloned().collect();
                if let Some(content) = self.random.pick(&pulls).cloned() {
                    self.pull(&content);
                }
            }
            10 => self.pass_time(),
            11 if !self.executors[position].is_linked => self.executors[position].link(),
            12 => self.lose(position),
            13 if self.random.once_in(20) => self.restart(),
            _ => {}
        }
    }

    /// What only one disk has is gone for good.
    fn lose(&mut self, position: usize) {
        match self.random.below(4) {
            0 => {
                let random = &mut self.random;
                self.executors[position].disk.retain(|_| !random.once_in(3));
            }
            1 => {
                self.executors[position].crash();
                self.executors[position].disk.clear();
                self.send(Event::ExecutorDisconnected(name(&format!("x{position}"))));
            }
            2 if self.random.once_in(4) => {
                for _ in 0..32 {
                    self.pass_time();
                }
            }
            _ => {}
        }
    }

    fn restart(&mut self) {
        self.executors.iter_mut().for_each(Executor::unlink);
        self.pulls.clear();
        let now_ms = self.core.now_ms;
        let first_lease = LeaseId(self.last_lease.0 + 1);
        self.core = Core::with(Settings { attempts_max: u32::MAX, first_lease, ..SETTINGS });
        self.core.now_ms = now_ms;
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
            held.contents.retain(|known| self.shell.contents.contains_key(&known.id));
            for known in &mut held.contents {
                *known = KnownContent { holders: vec![], ..self.shell.contents[&known.id].clone() };
            }
        }
        self.send(event);
    }

    fn deliver_in(&mut self, position: usize) {
        match self.executors[position].inbox.pop_front() {
            Some(Message::Lease(grant)) => self.start(position, grant),
            Some(Message::Cancel(key)) => self.executors[position].cancel(key),
            Some(Message::Acknowledge(key)) => _ = self.executors[position].finished.remove(&key),
            None => {}
        }
    }

    fn start(&mut self, position: usize, grant: Grant) {
        let has = |holder: &Holder, id: &ContentId| match holder {
            Holder::ContentStore => self.store.contains(id),
            Holder::Executor(name) => {
                self.executors.iter().any(|executor| *executor.name == *name.0 && executor.disk.contains(id))
            }
        };
        let (mut missing, mut fetched) = (vec![], vec![]);
        for input in grant.inputs.iter().filter(|input| !input.id.path.is_promise()) {
            let is_there = self.executors[position].disk.contains(&input.id);
            if is_there || input.holders.iter().any(|holder| has(holder, &input.id)) {
                fetched.push(input.id.clone());
            } else {
                missing.push(short(&input.id.path));
            }
        }
        let executor = &mut self.executors[position];
        executor.disk.extend(fetched);
        let outcome = (!missing.is_empty()).then(|| failed(FailureClass::InputMissing, &refs(&missing)));
        self.bound.insert(grant.lease, grant.bound);
        executor.running.insert(grant.lease, Job { task: grant.task, platform: grant.platform, outcome });
    }

    fn finish(&mut self, position: usize, key: LeaseKey) {
        let job = self.executors[position].running[&key].clone();
        let bound = self.bound[&key].clone();
        let outcome = match job.outcome {
            Some(outcome) => outcome,
            None => self.build(&job.task, &bound),
        };
        self.executors[position].finish(key, outcome);
    }

    fn pull(&mut self, content: &ContentId) {
        let from = self.pulls.remove(content).unwrap();
        if self.has_trouble && self.random.once_in(3) {
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
        for effect in self.core.apply(event) {
            self.perform(effect);
        }
        if let Some(answer) = self.again.pop_front() {
            self.send(answer);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Record(fact) => self.tally.renewed += usize::from(self.shell.record(fact)),
            Effect::Resolve { task, number, bound } => self.resolve(task, number, &bound),
            Effect::Grant(grant) => {
                self.last_lease = grant.lease.id;
                let executor = grant.executor.clone();
                self.reach(&executor, Message::Lease(grant));
            }
            Effect::Cancel { executor, lease } => self.reach(&executor, Message::Cancel(lease)),
            Effect::Acknowledge { executor, lease } => self.reach(&executor, Message::Acknowledge(lease)),
            Effect::Evict(executor) => {
                self.executors.iter_mut().find(|other| *other.name == *executor.0).unwrap().unlink();
            }
            Effect::Pull { content, from, .. } => _ = self.pulls.insert(content, from),
            Effect::Tell { plan, news: News::Task(change) } if change.state == TaskState::Failed => {
                self.failures.entry(plan.0[0]).or_default().extend(change.failure);
            }
            Effect::Tell { plan, news: News::Finished(summary) } => {
                self.check(plan.0[0], summary.succeeded);
                self.plans.remove(&plan.0[0]);
            }
            _ => {}
        }
    }

    fn reach(&mut self, name: &ExecutorName, message: Message) {
        let executor = self.executors.iter_mut().find(|executor| *executor.name == *name.0).unwrap();
        if executor.is_linked {
            executor.inbox.push_back(message);
        }
    }

    fn resolve(&mut self, task: TaskId, number: u64, bound: &Bound) {
        let (mut outputs, mut contents, mut bindings) = (vec![], vec![], vec![]);
        for Output { name, .. } in &self.made(&task).spec.outputs {
            let id = self.output(&task, name, bound);
            let steps = self.shell.steps(&id);
            let real = steps.last().map_or(&id, |last| &last.to).clone();
            contents.extend(self.shell.closure(&real));
            bindings.extend(steps);
            outputs.push((name.clone(), id));
        }
        let resolution = Ok(Resolution { outputs, contents, bindings });
        self.again.push_back(Event::Resolved { task, number, resolution });
    }

    fn check(&self, number: u8, succeeded: bool) {
        assert!(succeeded, "plan {number}: {:#?}", self.failures.get(&number));
        for root in &self.plans[&number].roots {
            for name in &root.outputs {
                let path = StorePath::promised(&root.task.path, name);
                let steps = self.shell.steps(&ContentId { path, ..root.task.clone() });
                for known in self.shell.closure(&steps.last().unwrap().to) {
                    assert!(self.store.contains(&known.id), "plan {number} succeeded without {:?}", known.id);
                }
            }
        }
    }
}
