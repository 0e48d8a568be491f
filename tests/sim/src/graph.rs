//! Random graphs of tasks: plain ones, floating and deferred ones, twins of one fixed output, doubles that come to the same, and tasks
//! whose builder always fails.
use crate::bits::Bits;
use crate::common::*;
use crate::random::{Random, Table};
use crate::truth::{Content, Truth};
use model::{ContentId, InputDerivation, Output, StorePath, TaskId, TaskSpec};
use scheduler::{NewPlan, Root};
use std::collections::BTreeSet;

/// How large a world is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// 3 to 30 tasks: many strange shapes in little time.
    Small,
    /// 100 to 110 tasks.
    Large,
}

/// All tasks there are, and the truth about them.
#[derive(Default)]
pub struct Graph {
    pub tasks: Vec<TaskSpec>,
    pub contents: Vec<Content>,
    pub sources: Bits,
    /// By task: known once the graph is whole.
    pub truths: Vec<Truth>,
    /// Tasks whose builder always fails.
    pub bad: BTreeSet<TaskId>,
    /// What stands for outputs without a path, and the content that they turn out to be.
    pub real: Table<ContentId, usize>,
    /// The derivation that a task is resolved to: several may come to the same.
    pub resolved: Table<TaskId, TaskId>,
    pub task_places: Table<TaskId, usize>,
    pub content_places: Table<ContentId, usize>,
}

impl Graph {
    pub fn random(random: &mut Random, scale: Scale) -> Self {
        let mut graph = Self::default();
        let (sources, tasks, bad) = match scale {
            Scale::Small => (3, 3 + random.below(28), 25),
            Scale::Large => (6, 100 + random.below(11), 250),
        };
        for number in 0..sources {
            let references = graph.sources.iter().filter(|_| random.once_in(2)).collect();
            let source = graph.add_content(content(&format!("source{number}")), references);
            graph.sources.add(source);
        }
        for number in 0..tasks {
            graph.add_task(random, number, bad);
            let place = graph.tasks.len() - 1;
            graph.task_places.insert(graph.tasks[place].id.clone(), place);
        }
        let mut firsts = Table::default();
        graph.truths = (0..graph.tasks.len()).map(|task| Truth::of(&graph, task, &mut firsts)).collect();
        for place in 0..graph.tasks.len() {
            // Inputs come before their users.
            let mut inputs = graph.tasks[place].input_derivations.iter();
            let is_possible = inputs.all(|input| graph.truths[graph.task_places[&input.task]].is_possible);
            graph.truths[place].is_possible = is_possible && !graph.bad.contains(&graph.tasks[place].id);
        }
        graph
    }

    fn add_content(&mut self, id: ContentId, references: Vec<usize>) -> usize {
        let place = self.contents.len();
        assert!(place < Bits::MAX, "more contents than a set has room for");
        let content = Content::new(&self.contents, id.clone(), references, place);
        self.contents.push(content);
        self.content_places.insert(id, place);
        place
    }

    fn add_task(&mut self, random: &mut Random, number: usize, bad: usize) {
        let name = format!("t{number:03}");
        let requirement = [native(), emulated(), cross()][random.below(3)].clone();
        let mut spec = TaskSpec { requirement, ..requiring(&name, &[], native()) };
        let twin = if random.once_in(12) { self.pick(random, is_plain) } else { None };
        if let Some(other) = twin {
            // Another derivation of the same fixed output.
            let other = self.tasks[other].clone();
            self.bad.remove(&other.id);
            spec = TaskSpec { id: spec.id, name: spec.name, is_fixed_output: true, ..other };
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
        self.add_inputs(random, &mut spec);
        if random.once_in(bad) {
            self.bad.insert(spec.id.clone());
        }
        let reals = self.give_kind(random, &mut spec);
        let visible: Vec<usize> = self.closure(&self.inputs(&spec)).iter().collect();
        let mut own = vec![];
        for (position, id) in reals.into_iter().enumerate() {
            let candidates = visible.iter().chain(&own);
            let rarely = 3.max(visible.len() / 3);
            let references = candidates.filter(|_| random.once_in(rarely)).copied().collect();
            let place = self.add_content(id, references);
            own.push(place);
            let output = &spec.outputs[position];
            if output.path.is_promise() {
                let resolved = self.resolved[&spec.id].path.clone();
                let promise = |path: StorePath| ContentId { domain: spec.id.domain.clone(), path };
                self.real.insert(promise(output.path.clone()), place);
                self.real.insert(promise(StorePath::promised(&resolved, &output.name)), place);
            }
        }
        self.tasks.push(spec);
    }

    fn pick(&self, random: &mut Random, is_meant: impl Fn(&TaskSpec) -> bool) -> Option<usize> {
        let meant: Vec<usize> = (0..self.tasks.len()).filter(|task| is_meant(&self.tasks[*task])).collect();
        random.pick(&meant).copied()
    }

    fn add_inputs(&self, random: &mut Random, spec: &mut TaskSpec) {
        for _ in 0..random.below(4) {
            // Half of them of late: so there are long chains as well.
            let from = if random.once_in(2) { self.tasks.len().saturating_sub(12) } else { 0 };
            let Some(other) = random.pick(&self.tasks[from..]) else { break };
            let all: Vec<String> = other.outputs.iter().map(|output| output.name.clone()).collect();
            let outputs = if random.once_in(2) { all } else { vec!["out".into()] };
            let task = other.id.clone();
            if spec.input_derivations.iter().all(|input| input.task != task) {
                spec.input_derivations.push(InputDerivation { task, outputs });
            }
        }
        if random.once_in(2) {
            let sources = self.sources.iter().filter(|_| random.once_in(2));
            spec.input_sources.extend(sources.map(|source| self.contents[source].id.clone()));
        }
    }

    /// Paths of some outputs are known only after their build (floating), of others only when their inputs are there (deferred).
    /// Gives what each output really is.
    fn give_kind(&mut self, random: &mut Random, spec: &mut TaskSpec) -> Vec<ContentId> {
        let inputs = spec.input_derivations.iter().flat_map(|input| {
            let outputs = &self.tasks[self.task_places[&input.task]].outputs;
            outputs.iter().filter(|output| input.outputs.contains(&output.name))
        });
        let has_promise = inputs.into_iter().any(|output| output.path.is_promise());
        let is_floating = random.once_in(3);
        let domain = spec.id.domain.clone();
        let id = |path: StorePath| ContentId { domain: domain.clone(), path };
        let is_fixed = has_promise && random.once_in(6);
        if is_fixed {
            // A fixed output of such inputs.
            (spec.is_fixed_output, spec.needs_resolution) = (true, true);
        }
        if is_fixed || (!has_promise && !is_floating) {
            return spec.outputs.iter().map(|output| id(output.path.clone())).collect();
        }
        spec.needs_resolution = !spec.input_derivations.is_empty();
        let resolved = task_id(&format!("{}-resolved", spec.name));
        self.resolved.insert(spec.id.clone(), resolved);
        let after = if is_floating { "built" } else { "resolved" };
        let mut reals = vec![];
        for output in &mut spec.outputs {
            reals.push(id(path(&format!("{}-{after}", short(&output.path)))));
            output.path = StorePath::promised(&spec.id.path, &output.name);
        }
        reals
    }

    /// Another derivation that comes to what an earlier one comes to.
    fn add_double(&mut self, random: &mut Random, spec: &TaskSpec) -> bool {
        let is_resolved = |task: &TaskSpec| task.needs_resolution && self.resolved.contains_key(&task.id);
        let Some(first) = self.pick(random, is_resolved) else { return false };
        let first = &self.tasks[first].clone();
        self.resolved.insert(spec.id.clone(), self.resolved[&first.id].clone());
        let mut double = TaskSpec { id: spec.id.clone(), name: spec.name.clone(), ..first.clone() };
        for output in &mut double.outputs {
            let former = self.output(first, output);
            output.path = StorePath::promised(&spec.id.path, &output.name);
            self.real.insert(ContentId { path: output.path.clone(), ..spec.id.clone() }, former);
        }
        if self.bad.contains(&first.id) {
            self.bad.insert(spec.id.clone());
        }
        self.tasks.push(double);
        true
    }

    /// What an output really is.
    pub fn output(&self, spec: &TaskSpec, output: &Output) -> usize {
        let id = ContentId { domain: spec.id.domain.clone(), path: output.path.clone() };
        if output.path.is_promise() { self.real[&id] } else { self.content_places[&id] }
    }

    /// Contents that a task names.
    pub fn inputs(&self, spec: &TaskSpec) -> Bits {
        let mut inputs: Bits = spec.input_sources.iter().map(|source| self.content_places[source]).collect();
        for input in &spec.input_derivations {
            let other = &self.tasks[self.task_places[&input.task]];
            for output in other.outputs.iter().filter(|output| input.outputs.contains(&output.name)) {
                inputs.add(self.output(other, output));
            }
        }
        inputs
    }

    /// Contents with everything that they refer to.
    pub fn closure(&self, contents: &Bits) -> Bits {
        let mut closure = Bits::default();
        contents.iter().for_each(|content| closure.add_all(&self.contents[content].closure));
        closure
    }

    /// Tasks that no other one needs.
    pub fn last_tasks(&self) -> Vec<usize> {
        let inputs = self.tasks.iter().flat_map(|task| &task.input_derivations);
        let needed: BTreeSet<&TaskId> = inputs.map(|input| &input.task).collect();
        (0..self.tasks.len()).filter(|task| !needed.contains(&self.tasks[*task].id)).collect()
    }

    /// A plan that wants some tasks, with everything below them.
    pub fn plan(&self, roots: &[usize], number: u8) -> NewPlan {
        let root = |task: &usize| Root {
            task: self.tasks[*task].id.clone(),
            outputs: self.tasks[*task].outputs.iter().map(|output| output.name.clone()).collect(),
        };
        let mut tasks = BTreeSet::new();
        let mut work: Vec<usize> = roots.to_vec();
        while let Some(task) = work.pop() {
            if tasks.insert(task) {
                let inputs = self.tasks[task].input_derivations.iter();
                work.extend(inputs.map(|input| self.task_places[&input.task]));
            }
        }
        NewPlan {
            id: plan_id(number),
            tasks: tasks.into_iter().map(|task| self.tasks[task].clone()).collect(),
            roots: roots.iter().map(root).collect(),
            contents: vec![],
            bindings: vec![],
            failed: vec![],
        }
    }
}

/// Whether all paths of a task's outputs are known.
fn is_plain(task: &TaskSpec) -> bool {
    task.outputs.iter().all(|output| !output.path.is_promise())
}
