//! Reports: which counts, which result is believed, what is tried again and what has failed.
use crate::arena::{ContentIx, ExecutorIx, TaskIx};
use crate::estimate::is_emulated;
use crate::state::{Facts, Lease, Link, Phase, TaskOutput};
use crate::{Effect, Fact, LeaseKey, Measurement, Settled, SettledOutput, State};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use model::{BuiltOutput, ContentId, ExecutorName, Failure, FailureClass, Outcome, StorePath, TaskId};

/// Attempts that may end for want of room, as a multiple of those that may end by other trouble.
const WITHOUT_ROOM_TIMES: u32 = 4;

impl State {
    /// An attempt ended.
    pub(crate) fn report(&mut self, name: &ExecutorName, key: LeaseKey, task: &TaskId, outcome: Outcome) {
        // An executor that is lost will connect and report again: if this were acknowledged now, it would forget a
        // result that cannot be counted as held yet.
        let Some(executor) = self.executor_places.get(name).copied() else { return };
        if self.executors[executor].link == Link::Lost {
            return;
        }
        self.out.push(Effect::Acknowledge { executor: name.clone(), lease: key });
        let current = self.leases.get(&key.id).filter(|lease| (lease.executor, lease.key) == (executor, key));
        if let Some(task_of_lease) = current.map(|lease| lease.task) {
            if self.tasks[task_of_lease].id == *task {
                let Some(lease) = self.end_lease(key.id) else { return };
                self.current_report(&lease, outcome);
                if self.tasks[task_of_lease].phase == Phase::Done {
                    self.did_well(lease.executor);
                    self.measure(&lease);
                }
            }
        } else if let Some(place) = self.task_place(task)
            && let Outcome::Built(outputs) = outcome
        {
            self.late_result(place, executor, key, &outputs);
        }
    }

    /// Learns from a lease that ended with a result.
    fn measure(&mut self, lease: &Lease) {
        let took_ms = self.now.0.saturating_sub(lease.granted.0);
        self.count_for_bound(lease, took_ms);
        let speed = self.executors[lease.executor].speed();
        let on = (lease.executor, speed, is_emulated(&lease.platform));
        let task = &self.tasks[lease.task];
        let measured = Measurement {
            derivation: task.id.path.clone(),
            name: String::from(name_of(&task.id.path)),
            kind: task.described.kind(),
            is_emulated: on.2,
            work_ms: self.estimates.learn(task.described, on, took_ms),
            memory_bytes: lease.memory_bytes,
        };
        self.estimates.needed_memory(task.described, lease.memory_bytes);
        self.out.record(Fact::Measured(measured));
        let outputs = self.made_by(lease.task);
        self.save(&outputs, took_ms);
    }

    fn current_report(&mut self, lease: &Lease, outcome: Outcome) {
        let (place, executor) = (lease.task, lease.executor);
        match outcome {
            Outcome::Built(outputs) => match self.check(place, &outputs) {
                Ok(outputs) => {
                    // Who was slower stops.
                    self.cancel_leases(place);
                    self.built(place, executor, outputs);
                }
                Err(problem) => {
                    let message = format!("the result was refused: {problem}");
                    self.attempt_failed(lease, infrastructure(message));
                }
            },
            Outcome::Failed(failure) => self.attempt_failed(lease, failure),
        }
    }

    /// A result of a lease that is over: used if nobody else was first.
    fn late_result(&mut self, place: TaskIx, executor: ExecutorIx, key: LeaseKey, outputs: &[BuiltOutput]) {
        if !self.may_have_had(place, key, executor) {
            return;
        }
        let phase = &self.tasks[place].phase;
        if *phase == Phase::Done {
            return self.compare(place, executor, outputs);
        }
        if !(phase.is_open() || *phase == Phase::Idle) {
            return;
        }
        let Ok(outputs) = self.check(place, outputs) else { return };
        self.cancel_leases(place);
        let attempt = crate::state::Attempt { executor, platform: None, duration_ms: 0, memory_bytes: 0 };
        self.tasks[place].past_mut().last = Some(attempt);
        self.built(place, executor, outputs);
    }

    /// A second result with the bytes of the one that counts is as good; with other bytes, that is said.
    fn compare(&mut self, place: TaskIx, executor: ExecutorIx, outputs: &[BuiltOutput]) {
        let task = self.tasks[place].id.clone();
        let made = self.made_by(place);
        for output in outputs {
            let id = ContentId { domain: task.domain.clone(), path: output.path.clone() };
            // It may name whatever it likes.
            let known = self.content_place(&id).filter(|known| made.contains(known));
            let Some(known) = known else { continue };
            let Some(facts) = &self.contents[known].facts else { continue };
            if facts.nar_sha256 != output.facts.nar_sha256 {
                let executor = self.executors[executor].name.clone();
                return self.out.push(Effect::Differs { task, output: id.path, executor });
            }
            self.hold_and_record(known, executor);
        }
    }

    /// Whether a result is exactly what the task makes, and refers only to what the build could see.
    fn check(&mut self, place: TaskIx, outputs: &[BuiltOutput]) -> Result<Vec<SettledOutput>, String> {
        let made = &self.tasks[place].outputs;
        let mut by_name: BTreeMap<&str, &BuiltOutput> = BTreeMap::new();
        for output in outputs {
            if by_name.insert(&output.name, output).is_some() {
                return Err(format!("output {} is named twice", output.name));
            }
        }
        if by_name.len() != made.len() {
            return Err(format!("{} outputs instead of {}", by_name.len(), made.len()));
        }
        let mut visible: BTreeMap<StorePath, ContentId> = BTreeMap::new();
        let inputs = self.tasks[place].inputs.clone();
        let closure = self.closure(&inputs);
        for content in closure {
            let id = &self.contents[content].id;
            visible.insert(id.path.clone(), id.clone());
        }
        let mut own = Vec::new();
        for made in &self.tasks[place].outputs {
            let Some(output) = by_name.get(&*made.name) else {
                return Err(format!("output {} is missing", made.name));
            };
            let id = self.content_built(made, output)?;
            visible.insert(id.path.clone(), id.clone());
            own.push((made, *output, id));
        }
        let mut settled = Vec::new();
        for (made, output, id) in own {
            let mut references = BTreeSet::new();
            for path in output.facts.references.iter().filter(|path| **path != id.path) {
                let reference = visible.get(path).ok_or_else(|| format!("{path} is not an input"))?;
                references.insert(reference.clone());
            }
            let references = references.into_iter().collect();
            settled.push(SettledOutput {
                name: made.name.clone().into(),
                id,
                facts: output.facts.clone(),
                references,
            });
        }
        if has_cycle(&settled) {
            return Err(String::from("the outputs refer to each other in a circle"));
        }
        Ok(settled)
    }

    /// The content that an output of a build is. One whose path was not known is what the build says: the shell has computed its
    /// path again. It must come from the derivation that the task was resolved to last.
    fn content_built(&self, made: &TaskOutput, output: &BuiltOutput) -> Result<ContentId, String> {
        let id = &self.contents[made.made].id;
        match id.path.as_promise() {
            None if output.path == id.path => Ok(id.clone()),
            None => Err(format!("output {} is {}, not {}", made.name, output.path, id.path)),
            Some(_) if output.path.is_promise() => Err(format!("output {} has no path", made.name)),
            Some((derivation, _)) => match &output.facts.deriver {
                Some(deriver) if deriver.as_str() == derivation => {
                    Ok(ContentId { domain: id.domain.clone(), path: output.path.clone() })
                }
                _ => Err(format!("output {} was not built from {derivation}", made.name)),
            },
        }
    }

    /// A result is believed: its outputs exist, and the task is done.
    fn built(&mut self, place: TaskIx, executor: ExecutorIx, outputs: Vec<SettledOutput>) {
        self.done(place, false);
        let mut held = Vec::new();
        let mut known = Vec::new();
        let mut bound = Vec::new();
        for output in outputs {
            let content = self.content(&output.id);
            bound.extend(self.promise_of(place, &output.name).map(|promise| (promise, content)));
            let item = &self.contents[content];
            let is_same =
                item.facts.as_ref().is_some_and(|facts| facts.nar_sha256 == output.facts.nar_sha256);
            if item.is_available() && !is_same {
                // Somebody has other bytes of an earlier build, and that is what others refer to.
                continue;
            }
            if !is_same {
                self.forget_lost_holders(content);
            }
            let references = output.references.iter().map(|reference| self.content(reference)).collect();
            let (nar_sha256, nar_size) = (output.facts.nar_sha256, output.facts.nar_size);
            self.learn(content, Facts { nar_sha256, nar_size, references });
            held.push(content);
            known.push(output);
        }
        let name = self.executors[executor].name.clone();
        let settled = Settled::Built { executor: name, outputs: known };
        self.out.record(Fact::TaskSettled { task: self.tasks[place].id.clone(), settled });
        for content in held {
            self.hold_and_record(content, executor);
        }
        for (promise, content) in bound {
            self.bind_and_record(promise, content);
        }
        self.release(self.tasks[place].inputs.to_vec());
        // What an output refers to may have been lost meanwhile.
        for content in self.made_by(place) {
            self.demand_if_needed(content);
        }
    }

    /// Executors that were lost had other bytes of this content: should they come back, they have nothing.
    fn forget_lost_holders(&mut self, content: ContentIx) {
        for executor in self.executors.places() {
            if self.executors[executor].held_once.contains(&content) {
                self.unhold(content, executor);
            }
        }
    }

    /// An attempt gave no outputs: the cause decides what follows.
    fn attempt_failed(&mut self, lease: &Lease, failure: Failure) {
        let (place, executor) = (lease.task, lease.executor);
        let is_tried_elsewhere = self.has_lease(place);
        let counts = match failure.class {
            FailureClass::Cancelled => false,
            FailureClass::InputMissing => self.inputs_missing(lease, &failure.missing_inputs),
            FailureClass::OutOfMemory => {
                let used_bytes = self.tasks[place].past().last.as_ref().map_or(0, |last| last.memory_bytes);
                self.ran_out_of_memory(place, executor, used_bytes)
            }
            FailureClass::OutOfDisk => {
                self.fill(executor, true);
                false
            }
            class if class.is_retryable() => true,
            _ => {
                self.cancel_leases(place);
                return self.fail_task(place, failure);
            }
        };
        // One that is too small for a task is as good as any for others.
        if counts && failure.class != FailureClass::OutOfMemory {
            self.did_badly(executor, &failure);
        }
        // Of two leases the last one that ends is the attempt: a second one costs a task none.
        if counts && !is_tried_elsewhere {
            let task = &mut self.tasks[place];
            task.attempts_counted = task.attempts_counted.saturating_add(1);
            if task.attempts_counted >= self.settings.attempts_max.max(1) {
                return self.fail_task(place, failure);
            }
        }
        if failure.class == FailureClass::OutOfDisk && self.has_no_room_anywhere(place) {
            return self.fail_task(place, failure);
        }
        if counts || matches!(failure.class, FailureClass::Cancelled | FailureClass::OutOfDisk) {
            let task = &mut self.tasks[place];
            if !task.past().avoided.contains(&executor) {
                task.past_mut().avoided.push(executor);
            }
        }
        if !is_tried_elsewhere {
            self.requeue(place);
        }
    }

    /// One more attempt of a task ended for want of room. It waits for room, and is not tried for ever where what it
    /// takes is more than there is.
    fn has_no_room_anywhere(&mut self, place: TaskIx) -> bool {
        let attempts_max = self.settings.attempts_max.max(1).saturating_mul(WITHOUT_ROOM_TIMES);
        let task = &mut self.tasks[place];
        task.attempts_without_room = task.attempts_without_room.saturating_add(1);
        task.attempts_without_room >= attempts_max && !self.has_lease(place)
    }

    /// Inputs that no source gave: holders that are out of reach lose them, and at the second time all executors do.
    /// Says whether the attempt counts as the executor's trouble, since somebody still has all of them, and had when it was leased.
    fn inputs_missing(&mut self, lease: &Lease, missing: &[StorePath]) -> bool {
        let (place, executor) = (lease.task, lease.executor);
        let missing: BTreeSet<&StorePath> = missing.iter().collect();
        let inputs = self.tasks[place].inputs.clone();
        let is_repeated = self.tasks[place].attempts_counted > 0;
        let mut counts = true;
        for content in self.closure(&inputs) {
            let item = &self.contents[content];
            if !missing.contains(&item.id.path) {
                continue;
            }
            // The lease may have named only one that was allowed to drop it since.
            let was_dropped = item.dropped.is_some_and(|dropped| dropped >= lease.granted);
            for holder in item.holders.clone() {
                let is_near = self.executors[holder].link == Link::Connected && holder != executor;
                if !is_near || (is_repeated && !was_dropped) {
                    self.unhold(content, holder);
                }
            }
            counts &= !was_dropped && (is_repeated || self.contents[content].is_available());
        }
        counts
    }
}

/// The name of a derivation: without directory, hash and extension.
fn name_of(derivation: &StorePath) -> &str {
    let base = derivation.as_str().rsplit('/').next().unwrap_or_default();
    let name = base.split_once('-').map_or(base, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name)
}

fn infrastructure(message: String) -> Failure {
    Failure { class: FailureClass::Infrastructure, message, exit_status: None, missing_inputs: Vec::new() }
}

/// Whether outputs of one build refer to each other in a circle.
fn has_cycle(outputs: &[SettledOutput]) -> bool {
    let mut left: Vec<&SettledOutput> = outputs.iter().collect();
    loop {
        let ids: BTreeSet<&ContentId> = left.iter().map(|output| &output.id).collect();
        let before = left.len();
        left.retain(|output| output.references.iter().any(|reference| ids.contains(reference)));
        if left.len() == before {
            return before > 0;
        }
    }
}
