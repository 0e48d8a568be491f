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
        let is_twin = random.once_in(12) && !self.tasks.is_empty();
        if is_twin {
            // Another derivation of the same fixed output.
            let other = self.tasks[random.below(self.tasks.len())].clone();
            spec = TaskSpec { id: spec.id, name: spec.name, is_fixed_output: true, ..other };
            self.bad.retain(|bad| *bad != other.id);
            self.tasks.push(spec);
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
        let visible = self.closure(&self.inputs(&spec));
        let mut own = vec![];
        for output in &spec.outputs {
            let id = ContentId { domain: spec.id.domain.clone(), path: output.path.clone() };
            let candidates = visible.iter().chain(&own);
            let references = candidates.filter(|_| random.once_in(3)).cloned().collect();
            self.references.insert(id.clone(), references);
            own.push(id);
        }
        self.tasks.push(spec);
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
        ContentId { domain: task.domain.clone(), path: output.path.clone() }
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
            let made = ContentId { domain: id.domain.clone(), path: output.path.clone() };
            let references: Vec<String> = self.references[&made].iter().map(|id| short(&id.path)).collect();
            let facts = facts(&short(&output.path), &refs(&references));
            BuiltOutput { name: output.name.clone(), path: output.path.clone(), facts }
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
        NewPlan { id: plan_id(number), tasks, roots, contents: vec![], failed: vec![] }
    }
}
