//! What must be built: follows demand from wanted content down to the tasks that can make it, and failure up again.
use crate::arena::{ContentIx, TaskIx};
use crate::plan::RootState;
use crate::state::{Content, Phase, Task};
use crate::{Fact, Settled, State};
use alloc::{boxed::Box, collections::BTreeSet, format, string::ToString, vec, vec::Vec};
use core::mem;
use model::{Failure, FailureClass};

/// A step of the walk down.
enum Step {
    Content(ContentIx),
    ContentDone(ContentIx),
    TaskDone(TaskIx),
}

fn failure(class: FailureClass, message: alloc::string::String) -> Failure {
    Failure { class, message, exit_status: None, missing_inputs: Vec::new() }
}

impl State {
    /// Draws all consequences of what changed.
    pub(crate) fn flush(&mut self) {
        self.forget_walks();
        loop {
            if let Some(content) = self.queues.turned.pop() {
                self.turned(content);
            } else if let Some(content) = self.queues.stored.pop() {
                self.settle_roots(content, RootState::Available);
            } else if let Some(content) = self.queues.demanded.pop() {
                self.demand(content);
            } else if let Some(content) = self.queues.doomed.pop() {
                self.doom(content);
            } else {
                return;
            }
        }
    }

    /// What was walked before may look different now.
    pub(crate) fn forget_walks(&mut self) {
        self.content_marks.begin(self.contents.places_len());
        self.task_marks.begin(self.tasks.places_len());
    }

    /// Content became whole or available, or is so no more.
    fn turned(&mut self, content: ContentIx) {
        self.drains_changed = true;
        let is_whole = self.contents[content].is_whole;
        let users = mem::take(&mut self.contents[content].users);
        for user in &users {
            self.refresh_task(*user);
        }
        self.contents[content].users = users;
        if is_whole {
            for maker in self.contents[content].makers.clone() {
                self.satisfy_if_whole(maker);
            }
            if self.has_pending_root(content) {
                self.pull_closure(content);
            }
        } else {
            self.demand_if_needed(content);
        }
    }

    /// A task that is not leased waits exactly as long as inputs are missing.
    pub(crate) fn refresh_task(&mut self, task: TaskIx) {
        let Task { phase, inputs_missing, .. } = &self.tasks[task];
        match (phase, inputs_missing) {
            (Phase::Waiting, 0) if self.tasks[task].needs_resolution => self.resolve(task),
            (Phase::Waiting, 0) => self.set_phase(task, Phase::Ready),
            (Phase::Ready | Phase::Resolving, 1..) => self.set_phase(task, Phase::Waiting),
            _ => {}
        }
    }

    /// Whether all outputs of a task that somebody named are whole; where nobody named one, and it is at work for what others come to
    /// as well, whether all are.
    pub(crate) fn is_satisfied(&self, task: TaskIx) -> bool {
        let Task { outputs, phase, .. } = &self.tasks[task];
        let outputs = outputs.iter().map(|output| &self.contents[output.content]);
        let is_whole = phase.is_open() && outputs.clone().all(|content| content.is_whole);
        let mut named = outputs.filter(|content| !(content.users.is_empty() && content.roots.is_empty()));
        let mut has_some = false;
        named.all(|content| {
            has_some = true;
            content.is_whole
        }) && (has_some || is_whole)
    }

    /// A task whose outputs came from elsewhere need not be built.
    fn satisfy_if_whole(&mut self, task: TaskIx) {
        let phase = &self.tasks[task].phase;
        if !(phase.is_open() || *phase == Phase::Idle) || !self.is_satisfied(task) {
            return;
        }
        self.cancel_leases(task);
        self.done(task, true);
        // Another task may have waited for more of what it was building.
        for content in self.made_by(task) {
            self.demand_if_needed(content);
        }
        self.release(self.tasks[task].inputs.to_vec());
    }

    /// Content that somebody still waits for is demanded, unless it is whole; so is what a task left to another one.
    pub(crate) fn demand_if_needed(&mut self, content: ContentIx) {
        let waits = |item: &Content| {
            item.users.iter().any(|user| self.tasks[*user].phase.is_waiting())
                || item.makers.iter().any(|maker| self.tasks[*maker].phase == Phase::Shared)
        };
        if self.is_missed(content, waits) {
            self.queues.demanded.push(content);
        }
    }

    /// Whether content is not whole, and a plan or such a task waits for it or for something that is there and refers to
    /// it.
    fn is_missed(&self, content: ContentIx, waits: impl Fn(&Content) -> bool) -> bool {
        if self.contents[content].is_whole {
            return false;
        }
        let mut reached = BTreeSet::from([content]);
        let mut work = vec![content];
        while let Some(content) = work.pop() {
            let item = &self.contents[content];
            if self.has_pending_root(content) || waits(item) {
                return true;
            }
            for referrer in &item.referrers {
                let item = &self.contents[*referrer];
                if item.is_available() && !item.is_whole && reached.insert(*referrer) {
                    work.push(*referrer);
                }
            }
        }
        false
    }

    /// Content must become whole: walks down to the tasks that make what is missing, and wakes them.
    fn demand(&mut self, content: ContentIx) {
        let mut steps = vec![Step::Content(content)];
        let mut malformed = Vec::new();
        while let Some(step) = steps.pop() {
            match step {
                Step::ContentDone(content) => self.content_marks.leave(content),
                Step::TaskDone(task) => self.task_marks.leave(task),
                Step::Content(content) => malformed.extend(self.demand_one(content, &mut steps)),
            }
        }
        // Not on the way: a failure changes what was walked.
        for task in malformed {
            if !self.tasks[task].phase.is_failed() {
                self.tasks[task].is_malformed = true;
                self.fail_malformed(task);
            }
        }
    }

    /// Adds the steps below content; gives its maker if that can never run.
    fn demand_one(&mut self, content: ContentIx, steps: &mut Vec<Step>) -> Option<TaskIx> {
        let mark = self.content_marks.get(content);
        if mark == Some(true) || self.contents[content].is_whole {
            return None;
        }
        match mark {
            // On the way down from itself: it would have to be there before it can be.
            Some(_) if self.contents[content].is_available() => {
                self.queues.doomed.push(content);
                return None;
            }
            Some(_) => return self.choose_maker(content),
            None => _ = self.content_marks.enter(content),
        }
        steps.push(Step::ContentDone(content));
        let item = &self.contents[content];
        if item.is_available() {
            let missing = item.references().iter().filter(|reference| !self.contents[**reference].is_whole);
            steps.extend(missing.map(|reference| Step::Content(*reference)));
            return None;
        }
        let Some(maker) = self.choose_maker(content) else {
            self.queues.doomed.push(content);
            return None;
        };
        if self.tasks[maker].phase.is_at_work() {
            let is_above = self.task_marks.get(maker) == Some(false);
            return is_above.then_some(maker);
        }
        if self.tasks[maker].is_malformed {
            return Some(maker);
        }
        let task = &mut self.tasks[maker];
        task.attempts_counted = 0;
        if let Some(past) = &mut task.past {
            past.avoided.clear();
        }
        task.attempts_without_room = 0;
        self.set_phase(maker, Phase::Waiting);
        self.refresh_task(maker);
        self.task_marks.enter(maker);
        steps.push(Step::TaskDone(maker));
        let is_missing = |input: &&ContentIx| {
            self.content_marks.get(**input) != Some(true) && !self.contents[**input].is_whole
        };
        steps.extend(self.tasks[maker].inputs.iter().filter(is_missing).map(|input| Step::Content(*input)));
        None
    }

    /// The task to make content: one at work if there is one, else the first that did not fail.
    pub(crate) fn choose_maker(&self, content: ContentIx) -> Option<TaskIx> {
        let makers = self.contents[content].makers.iter().copied();
        let possible = makers.filter(|maker| !self.tasks[*maker].phase.is_failed());
        possible.min_by_key(|maker| match self.tasks[*maker].phase {
            Phase::Running(_) => (0, *maker),
            Phase::Ready => (1, *maker),
            Phase::Waiting | Phase::Resolving => (2, *maker),
            Phase::Shared => (3, *maker),
            _ => (4, *maker),
        })
    }

    fn fail_malformed(&mut self, task: TaskIx) {
        let message = "the derivation depends on itself, or on a derivation that is not in the plan";
        self.fail_task(task, failure(FailureClass::InputRejected, message.to_string()));
    }

    /// A task cannot be built.
    pub(crate) fn fail_task(&mut self, task: TaskIx, failure: Failure) {
        let id = self.tasks[task].id.clone();
        self.out.record(Fact::TaskSettled { task: id, settled: Settled::Failed(failure.clone()) });
        self.fail_as(task, Phase::Failed(Box::new(failure)));
    }

    fn fail_as(&mut self, task: TaskIx, phase: Phase) {
        self.set_phase(task, phase);
        self.forget_walks();
        for content in self.made_by(task) {
            self.demand_if_needed(content);
        }
    }

    /// Nothing can make this content whole: fails all that waits for it, and for what refers to it.
    fn doom(&mut self, content: ContentIx) {
        let item = &self.contents[content];
        if item.is_whole || (!item.is_available() && self.choose_maker(content).is_some()) {
            return;
        }
        let has_maker = !item.makers.is_empty();
        let message = format!("input {} is held by nobody, and no derivation makes it", item.id.path);
        let lost = failure(FailureClass::InputMissing, message);
        let mut reached = BTreeSet::from([content]);
        let mut work = vec![content];
        let mut outdated = Vec::new();
        while let Some(content) = work.pop() {
            for root in self.settle_roots(content, RootState::Failed) {
                if matches!(self.tasks[root].phase, Phase::Done | Phase::Idle) {
                    self.fail_task(root, lost.clone());
                }
            }
            for user in self.contents[content].users.clone() {
                match (self.tasks[user].phase.is_waiting(), has_maker) {
                    (true, true) => self.fail_as(user, Phase::DependencyFailed),
                    (true, false) => self.fail_task(user, lost.clone()),
                    (false, _) => {}
                }
            }
            for referrer in &self.contents[content].referrers {
                let item = &self.contents[*referrer];
                if !item.is_available() || item.is_whole || !reached.insert(*referrer) {
                    continue;
                }
                if item.id.path.is_promise() && self.choose_maker(*referrer).is_some() {
                    outdated.push(*referrer);
                } else {
                    work.push(*referrer);
                }
            }
        }
        self.renew(outdated);
    }

    /// These inputs are not needed any more by one of their users: tasks that nobody else needs rest.
    pub(crate) fn release(&mut self, mut contents: Vec<ContentIx>) {
        while let Some(content) = contents.pop() {
            if self.contents[content].is_whole {
                continue;
            }
            // Another task may come to the same, and be at work for this one's users.
            contents.extend(self.bound_to(content));
            for maker in self.contents[content].makers.clone() {
                if !self.tasks[maker].phase.is_open() || self.is_demanded(maker) {
                    continue;
                }
                self.cancel_leases(maker);
                self.set_phase(maker, Phase::Idle);
                self.forget_walks();
                contents.extend_from_slice(&self.tasks[maker].inputs);
            }
        }
    }

    /// Whether somebody may need an output that is not there. Tasks that failed by a dependency count: the rest of
    /// a plan goes on.
    fn is_demanded(&self, task: TaskIx) -> bool {
        let counts = |phase: &Phase| phase.is_open() || *phase == Phase::DependencyFailed;
        let waits = |item: &Content| item.users.iter().any(|user| counts(&self.tasks[*user].phase));
        // What it left to another one is not needed of it.
        let is_shared = self.tasks[task].phase == Phase::Shared;
        let own = self.tasks[task].outputs.iter().map(|output| output.content);
        let made = if is_shared { own.collect() } else { self.made_by(task) };
        made.into_iter().any(|content| self.is_missed(content, waits))
    }
}
