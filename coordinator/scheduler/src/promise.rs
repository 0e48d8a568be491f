//! Outputs whose paths nobody knows before a build: what stands for each is content without bytes of its own, which refers to
//! what it turned out to be. It is whole when that is whole, wanted when that is wanted.
use crate::arena::{ContentIx, TaskIx};
use crate::state::{Facts, Phase};
use crate::{Binding, Effect, Fact, Resolution, State};
use alloc::{collections::BTreeSet, string::String, vec::Vec};
use model::{Failure, StorePath, TaskId};

/// Steps from what stands for an output to its content: by the derivation that it was resolved to.
const STEPS_MAX: usize = 4;

impl State {
    /// Contents that this one is bound to, step by step.
    pub(crate) fn bound_to(&self, content: ContentIx) -> Vec<ContentIx> {
        let mut steps = Vec::new();
        let mut last = content;
        while self.contents[last].id.path.is_promise()
            && steps.len() < STEPS_MAX
            && let Some(next) = self.contents[last].references().first()
        {
            steps.push(*next);
            last = *next;
        }
        steps
    }

    /// The path of content, if it is known.
    pub(crate) fn path_of(&self, content: ContentIx) -> StorePath {
        let last = self.bound_to(content).last().copied().unwrap_or(content);
        self.contents[last].id.path.clone()
    }

    /// All that a task makes: its outputs, and what they are bound to.
    pub(crate) fn made_by(&self, task: TaskIx) -> Vec<ContentIx> {
        let outputs = self.tasks[task].outputs.iter();
        outputs
            .flat_map(|output| core::iter::once(output.content).chain(output.bound.iter().copied()))
            .collect()
    }

    /// The content that stands for what a task's build gives, if it has no path.
    pub(crate) fn promise_of(&self, task: TaskIx, output: &str) -> Option<ContentIx> {
        let made = self.tasks[task].outputs.iter().find(|made| &*made.name == output)?.made;
        self.contents[made].id.path.is_promise().then_some(made)
    }

    /// Paths for what stands for a task's inputs.
    pub(crate) fn bound_inputs(&self, task: TaskIx) -> Vec<(StorePath, StorePath)> {
        let inputs = self.tasks[task].inputs.iter();
        let promises = inputs.filter(|input| self.contents[**input].id.path.is_promise());
        promises.map(|input| (self.contents[*input].id.path.clone(), self.path_of(*input))).collect()
    }

    fn bind(&mut self, promise: ContentIx, to: ContentIx) {
        if promise == to || self.bound_to(to).contains(&promise) {
            return;
        }
        self.contents[promise].in_store = true;
        self.learn(promise, Facts { nar_sha256: [0; 32], nar_size: 0, references: [to].into() });
        for maker in self.contents[promise].makers.clone() {
            self.claim_bound(maker);
        }
    }

    /// Binds, and records it where it is new.
    pub(crate) fn bind_and_record(&mut self, promise: ContentIx, to: ContentIx) {
        if self.contents[promise].references() == [to] {
            return;
        }
        self.bind(promise, to);
        let id = |content: ContentIx| self.contents[content].id.clone();
        let binding = Binding { promise: id(promise), to: id(to) };
        self.out.record(Fact::Bound(binding));
    }

    /// Learns what the shell knows of an earlier build; what is whole is not touched.
    pub(crate) fn learn_binding(&mut self, binding: &Binding) {
        if !binding.promise.path.is_promise() {
            return;
        }
        let promise = self.content(&binding.promise);
        self.forget_if_unused(promise);
        if !self.contents[promise].is_whole {
            let to = self.content(&binding.to);
            self.bind(promise, to);
            // Who waits for it waits for something else now.
            self.demand_if_needed(promise);
        }
    }

    /// Forgets what content that stands for an output was bound to, if that is not whole: nobody makes it any more.
    pub(crate) fn loosen(&mut self, content: ContentIx) {
        let item = &mut self.contents[content];
        if !item.id.path.is_promise() || item.is_whole {
            return;
        }
        item.in_store = false;
        let former = item.facts.take();
        (item.references_missing, item.references_unstored) = (0, 0);
        for reference in former.iter().flat_map(|facts| &facts.references) {
            self.contents[*reference].referrers.retain(|referrer| *referrer != content);
            self.forget_if_unused(*reference);
        }
        self.refresh_content(content);
    }

    /// Outputs turned out to be what nobody can make whole any more: they are to be made anew, of what their inputs are by now.
    pub(crate) fn renew(&mut self, mut outdated: Vec<ContentIx>) {
        self.forget_walks();
        while let Some(promise) = outdated.pop() {
            let referrers = self.contents[promise].referrers.iter().copied();
            outdated.extend(referrers.filter(|referrer| self.contents[*referrer].id.path.is_promise()));
            self.loosen(promise);
            for maker in self.contents[promise].makers.clone() {
                self.claim_bound(maker);
            }
            self.demand_if_needed(promise);
        }
    }

    /// A task makes what its outputs are bound to, and nothing that they were bound to before.
    pub(crate) fn claim_bound(&mut self, task: TaskIx) {
        for position in 0..self.tasks[task].outputs.len() {
            let output = &self.tasks[task].outputs[position];
            let (content, made) = (output.content, output.made);
            let mut bound = self.bound_to(content);
            if made != content && !bound.contains(&made) {
                bound.push(made);
            }
            let new = bound.as_slice().into();
            let former = core::mem::replace(&mut self.tasks[task].outputs[position].bound, new);
            let own: BTreeSet<_> = self.tasks[task].outputs.iter().map(|output| output.content).collect();
            for content in former.iter().filter(|content| !bound.contains(content) && !own.contains(content))
            {
                self.contents[*content].makers.retain(|maker| *maker != task);
                // Whoever still waits for it has to hear that nobody makes it any more.
                self.demand_if_needed(*content);
                self.forget_if_unused(*content);
            }
            for content in bound {
                let makers = &mut self.contents[content].makers;
                if !makers.contains(&task) {
                    makers.push(task);
                }
            }
        }
    }

    /// All inputs are there: asks what the derivation comes to.
    pub(crate) fn resolve(&mut self, task: TaskIx) {
        self.set_phase(task, Phase::Resolving);
        let bound = self.bound_inputs(task);
        let item = &mut self.tasks[task];
        let past = item.past_mut();
        past.resolutions += 1;
        let (number, task) = (past.resolutions, item.id.clone());
        self.out.push(Effect::Resolve { task, number, bound });
    }

    /// What a derivation comes to.
    pub(crate) fn resolved(&mut self, task: &TaskId, number: u64, resolution: Result<Resolution, Failure>) {
        let Some(place) = self.task_place(task) else { return };
        if self.tasks[place].phase != Phase::Resolving || self.tasks[place].past().resolutions != number {
            return;
        }
        let Resolution { outputs, contents, bindings } = match resolution {
            Ok(resolution) => resolution,
            Err(failure) => return self.fail_task(place, failure),
        };
        for known in &contents {
            self.learn_known(known);
        }
        for binding in &bindings {
            self.learn_binding(binding);
        }
        for position in 0..self.tasks[place].outputs.len() {
            let output = &self.tasks[place].outputs[position];
            let content = output.content;
            let is_named = |(name, _): &&(String, _)| **name == *output.name;
            let Some((_, id)) = outputs.iter().find(is_named) else { continue };
            if !self.contents[content].id.path.is_promise() {
                continue;
            }
            let made = self.content(id);
            self.tasks[place].outputs[position].made = made;
            self.bind_and_record(content, made);
        }
        self.claim_bound(place);
        let phase = if self.is_shared(place) { Phase::Shared } else { Phase::Ready };
        self.set_phase(place, phase);
        // Who waits for its outputs waits for something else now.
        for content in self.made_by(place) {
            self.demand_if_needed(content);
        }
    }

    /// Whether others are at work on all that a task was resolved to.
    pub(crate) fn is_shared(&self, task: TaskIx) -> bool {
        let outputs = self.tasks[task].outputs.iter().map(|output| output.made);
        let mut missing = outputs.filter(|made| !self.contents[*made].is_whole).peekable();
        let is_made = |made| {
            let maker = self.choose_maker(made);
            maker.is_some_and(|maker| maker != task && self.tasks[maker].phase.is_at_work())
        };
        missing.peek().is_some() && missing.all(is_made)
    }
}
