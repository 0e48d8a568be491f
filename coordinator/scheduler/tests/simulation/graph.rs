//! Random graphs of tasks, and what really comes out of each task.
use crate::common::*;
use model::{BuiltOutput, ContentId, InputDerivation, Outcome, Output, TaskId, TaskSpec};
use scheduler::{Holder, KnownContent, NewPlan, Root};
use std::collections::{BTreeMap, BTreeSet};

/// Numbers that look random and are the same for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() { None } else { Some(&items[self.below(items.len())]) }
    }
}

/// All tasks there are, and the truth about them.
#[derive(Default)]
pub struct Graph {
    pub tasks: Vec<TaskSpec>,
    /// Direct references of all contents, sources too.
    pub references: BTreeMap<ContentId, Vec<ContentId>>,
    pub sources: BTreeSet<ContentId>,
    /// Tasks whose builder always fails.
    pub bad: BTreeSet<TaskId>,
    /// What stands for outputs without a path, and what they turn out to be.
    pub real: BTreeMap<ContentId, ContentId>,
    /// The derivation that a task is resolved to: several may come to the same.
    pub resolved: BTreeMap<TaskId, TaskId>,
}

impl Graph {
    pub fn random(random: &mut Random) -> Self {
        let mut graph = Self::default();
        for number in 0..3 {
            let id = content(&format!("source{number}"));
            let references = graph.sources.iter().filter(|_| random.once_in(2)).cloned().collect();
            graph.references.insert(id.clone(), references);
            graph.sources.insert(id);
        }
        for number in 0..3 + random.below(28) {
            graph.add_task(random, number);
        }
        graph
    }

    fn add_task(&mut self, random: &mut Random, number: usize) {
        let name = format!("t{number:02}");
        let requirement = [native(), emulated(), cross()][random.below(3)].clone();
        let mut spec = TaskSpec { requirement, ..requiring(&name, &[], native()) };
        let fixed =
            self.tasks.iter().filter(|task| task.outputs.iter().all(|output| !output.path.is_promise()));
        let fixed: Vec<_> = fixed.cloned().collect();
        let twin = if random.once_in(12) { random.pick(&fixed).cloned() } else { None };
        if let Some(other) = twin {
            // Another derivation of the same fixed output.
            spec = TaskSpec { id: spec.id, name: spec.name, is_fixed_output: true, ..other };
            self.bad.retain(|bad| *bad != other.id);
            self.tasks.push(spec);
            return;
        }
        if random.once_in(8) && self.add_double(random, &spec) {
            return;
        }
        if random.once_in(3) {
            let path = path(&format!("{name}-dev"));
            spec.outputs.insert(0, Output { name: "dev".into(), path });
        }
        for _ in 0..random.below(4) {
            let Some(other) = random.pick(&self.tasks) else { break };
            let all: Vec<String> = other.outputs.iter().map(|output| output.name.clone()).collect();
            let outputs = if random.once_in(2) { all } else { vec!["out".into()] };
            let task = other.id.clone();
            if spec.input_derivations.iter().all(|input| input.task != task) {
                spec.input_derivations.push(InputDerivation { task, outputs });
            }
        }
        if random.once_in(2) {
            spec.input_sources.extend(self.sources.iter().filter(|_| random.once_in(2)).cloned());
        }
        if random.once_in(25) {
            self.bad.insert(spec.id.clone());
        }
        self.give_kind(random, &mut spec);
        let visible = self.closure(&self.inputs(&spec));
        let mut own = vec![];
        for output in &spec.outputs {
            let id = self.real(&ContentId { domain: spec.id.domain.clone(), path: output.path.clone() });
            let candidates = visible.iter().chain(&own);
            let references = candidates.filter(|_| random.once_in(3)).cloned().collect();
            self.references.insert(id.clone(), references);
            own.push(id);
        }
        self.tasks.push(spec);
    }

    /// Paths of some outputs are known only after their build (floating), of others only when their inputs are there (deferred).
    fn give_kind(&mut self, random: &mut Random, spec: &mut TaskSpec) {
        let inputs = spec.input_derivations.iter().flat_map(|input| {
            let outputs = &self.task(&input.task).outputs;
            outputs.iter().filter(|output| input.outputs.contains(&output.name))
        });
        let has_promise = inputs.into_iter().any(|output| output.path.is_promise());
        let is_floating = random.once_in(3);
        if !has_promise && !is_floating {
            return;
        }
        if random.once_in(6) && has_promise {
            // A fixed output of such inputs.
            (spec.is_fixed_output, spec.needs_resolution) = (true, true);
            return;
        }
        spec.needs_resolution = !spec.input_derivations.is_empty();
        for output in &mut spec.outputs {
            let promise = model::StorePath::promised(&spec.id.path, &output.name);
            let after = if is_floating { "built" } else { "resolved" };
            let real = path(&format!("{}-{after}", short(&output.path)));
            let id =
                |path: &model::StorePath| ContentId { domain: spec.id.domain.clone(), path: path.clone() };
            self.real.insert(id(&promise), id(&real));
            output.path = promise;
        }
        let resolved = task_id(&format!("{}-resolved", spec.name));
        for output in &spec.outputs {
            let id = |path: model::StorePath| ContentId { domain: spec.id.domain.clone(), path };
            let real = self.real[&id(output.path.clone())].clone();
            self.real.insert(id(model::StorePath::promised(&resolved.path, &output.name)), real);
        }
        self.resolved.insert(spec.id.clone(), resolved);
    }

    /// Another derivation that comes to what an earlier one comes to.
    fn add_double(&mut self, random: &mut Random, spec: &TaskSpec) -> bool {
        let first =
            self.tasks.iter().filter(|task| task.needs_resolution && self.resolved.contains_key(&task.id));
        let first: Vec<_> = first.cloned().collect();
        let Some(first) = random.pick(&first) else { return false };
        self.resolved.insert(spec.id.clone(), self.resolved[&first.id].clone());
        let mut double = TaskSpec { id: spec.id.clone(), name: spec.name.clone(), ..first.clone() };
        for output in &mut double.outputs {
            let domain = spec.id.domain.clone();
            let former = self.output(&first.id, &output.name);
            output.path = model::StorePath::promised(&spec.id.path, &output.name);
            self.real.insert(ContentId { domain, path: output.path.clone() }, former);
        }
        if self.bad.contains(&first.id) {
            self.bad.insert(spec.id.clone());
        }
        self.tasks.push(double);
        true
    }

    /// Content with a path.
    pub fn real(&self, id: &ContentId) -> ContentId {
        self.real.get(id).unwrap_or(id).clone()
    }

    /// The derivation that is built for a task.
    pub fn built(&self, task: &TaskId) -> TaskId {
        let is_resolved = self.task(task).needs_resolution;
        self.resolved.get(task).filter(|_| is_resolved).unwrap_or(task).clone()
    }

    /// What stands for an output once its task is resolved, or its path.
    pub fn resolved_output(&self, task: &TaskId, output: &Output) -> ContentId {
        let id = ContentId { domain: task.domain.clone(), path: output.path.clone() };
        let real = self.real(&id);
        if !output.path.is_promise() || short(&real.path).ends_with("-resolved") {
            return real;
        }
        let path = model::StorePath::promised(&self.built(task).path, &output.name);
        ContentId { path, ..id }
    }

    pub fn task(&self, id: &TaskId) -> &TaskSpec {
        self.tasks.iter().find(|task| task.id == *id).unwrap()
    }

    /// Contents that a task names.
    pub fn inputs(&self, spec: &TaskSpec) -> Vec<ContentId> {
        let mut inputs = spec.input_sources.clone();
        for input in &spec.input_derivations {
            for name in &input.outputs {
                inputs.push(self.output(&input.task, name));
            }
        }
        inputs
    }

    pub fn output(&self, task: &TaskId, name: &str) -> ContentId {
        let output = self.task(task).outputs.iter().find(|output| output.name == name).unwrap();
        self.real(&ContentId { domain: task.domain.clone(), path: output.path.clone() })
    }

    /// Contents with everything that they refer to.
    pub fn closure(&self, contents: &[ContentId]) -> BTreeSet<ContentId> {
        let mut closure = BTreeSet::new();
        let mut work = contents.to_vec();
        while let Some(id) = work.pop() {
            if closure.insert(id.clone()) {
                work.extend(self.references[&id].iter().cloned());
            }
        }
        closure
    }

    /// Whether a task can be built at all.
    pub fn is_possible(&self, id: &TaskId) -> bool {
        let spec = self.task(id);
        !self.bad.contains(id) && spec.input_derivations.iter().all(|input| self.is_possible(&input.task))
    }

    /// What a build of a task gives.
    pub fn result(&self, id: &TaskId) -> Outcome {
        if self.bad.contains(id) {
            return failed(model::FailureClass::BuildFailed, &[]);
        }
        let output = |output: &Output| {
            let made = self.real(&ContentId { domain: id.domain.clone(), path: output.path.clone() });
            let references: Vec<String> = self.references[&made].iter().map(|id| short(&id.path)).collect();
            let facts = facts(&short(&made.path), &refs(&references));
            let facts = model::PathFacts { deriver: Some(self.built(id).path), ..facts };
            BuiltOutput { name: output.name.clone(), path: made.path, facts }
        };
        Outcome::Built(self.task(id).outputs.iter().map(output).collect())
    }

    /// The truth about content, as the shell knows it.
    pub fn known(&self, id: &ContentId, holders: Vec<Holder>) -> KnownContent {
        let name = short(&id.path);
        let references = self.references[id].clone();
        KnownContent { id: id.clone(), references, nar_sha256: hash(&name), nar_size: 100, holders }
    }

    /// A plan for some tasks, with everything below them.
    pub fn plan(&self, random: &mut Random, number: u8) -> NewPlan {
        let mut roots = vec![];
        for _ in 0..1 + random.below(3) {
            let task = &self.tasks[random.below(self.tasks.len())];
            let outputs: Vec<String> = task.outputs.iter().map(|output| output.name.clone()).collect();
            roots.push(Root { task: task.id.clone(), outputs });
        }
        let mut tasks = BTreeSet::new();
        let mut work: Vec<TaskId> = roots.iter().map(|root| root.task.clone()).collect();
        while let Some(id) = work.pop() {
            if tasks.insert(id.clone()) {
                work.extend(self.task(&id).input_derivations.iter().map(|input| input.task.clone()));
            }
        }
        let tasks = tasks.iter().map(|id| self.task(id).clone()).collect();
        NewPlan { id: plan_id(number), tasks, roots, contents: vec![], bindings: vec![], failed: vec![] }
    }
}
