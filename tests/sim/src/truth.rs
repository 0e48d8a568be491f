//! What is true of contents and tasks, whoever says what.
use crate::bits::Bits;
use crate::common::*;
use crate::graph::Graph;
use crate::random::Table;
use model::{BuiltOutput, ContentId, FailureClass, Outcome, PathFacts, StorePath, TaskId};
use scheduler::{Holder, KnownContent};
use std::collections::BTreeSet;

/// The bytes of a path.
pub struct Content {
    pub id: ContentId,
    pub references: Bits,
    /// Everything that it refers to, itself included.
    pub closure: Bits,
    known: KnownContent,
}

impl Content {
    pub fn new(others: &[Self], id: ContentId, references: Vec<usize>, place: usize) -> Self {
        let mut closure = Bits::from_iter([place]);
        references.iter().for_each(|other| closure.add_all(&others[*other].closure));
        let known = KnownContent {
            id: id.clone(),
            references: references.iter().map(|other| others[*other].id.clone()).collect(),
            nar_sha256: hash(&short(&id.path)),
            // What is large is fetched ahead.
            nar_size: [100, 3_000_000][place % 2],
            holders: vec![],
        };
        Self { id, references: references.into_iter().collect(), closure, known }
    }

    /// As the shell knows it.
    pub fn known(&self, holders: Vec<Holder>) -> KnownContent {
        KnownContent { holders, ..self.known.clone() }
    }

    pub fn hash(&self) -> &[u8; 32] {
        &self.known.nar_sha256
    }
}

/// What is true of a task.
pub struct Truth {
    /// Whether it can be built at all, and everything below it.
    pub is_possible: bool,
    pub is_bad: bool,
    /// What its outputs are, in their order.
    pub outputs: Vec<usize>,
    /// Everything that its outputs refer to, they included.
    pub outputs_closure: Bits,
    /// Everything that its inputs refer to, they included.
    pub inputs_closure: Bits,
    /// The first task that comes to the same derivation.
    pub first: usize,
    /// What its builder gives.
    pub outcome: Outcome,
    /// What its outputs are once it is resolved: content, or what stands for it.
    pub resolved: Vec<(String, ContentId)>,
    /// Paths for what stands for its inputs.
    pub bound: BTreeSet<(StorePath, StorePath)>,
}

impl Truth {
    pub fn of(graph: &Graph, task: usize, firsts: &mut Table<TaskId, usize>) -> Self {
        let spec = &graph.tasks[task];
        let outputs: Vec<usize> = spec.outputs.iter().map(|output| graph.output(spec, output)).collect();
        let resolved = graph.resolved.get(&spec.id).filter(|_| spec.needs_resolution);
        let built = resolved.unwrap_or(&spec.id).clone();
        let first = *firsts.entry(built.clone()).or_insert(task);
        let is_bad = graph.bad.contains(&spec.id);
        let mut resolved = vec![];
        for (output, real) in spec.outputs.iter().zip(&outputs) {
            let id = &graph.contents[*real].id;
            let has_path = !output.path.is_promise() || short(&id.path).ends_with("-resolved");
            let promise = || StorePath::promised(&built.path, &output.name);
            let path = if has_path { id.path.clone() } else { promise() };
            resolved.push((output.name.clone(), ContentId { path, ..id.clone() }));
        }
        let mut bound = BTreeSet::new();
        for input in &spec.input_derivations {
            let other = &graph.tasks[graph.task_places[&input.task]];
            for output in &other.outputs {
                if input.outputs.contains(&output.name) && output.path.is_promise() {
                    let real = &graph.contents[graph.output(other, output)];
                    bound.insert((output.path.clone(), real.id.path.clone()));
                }
            }
        }
        Self {
            is_possible: !is_bad,
            is_bad,
            outputs_closure: graph.closure(&outputs.iter().copied().collect()),
            inputs_closure: graph.closure(&graph.inputs(spec)),
            outcome: if is_bad {
                failed(FailureClass::BuildFailed, &[])
            } else {
                result(graph, task, &built)
            },
            outputs,
            first,
            resolved,
            bound,
        }
    }
}

fn result(graph: &Graph, task: usize, built: &TaskId) -> Outcome {
    let spec = &graph.tasks[task];
    let outputs = spec.outputs.iter().map(|output| {
        let made = &graph.contents[graph.output(spec, output)];
        let references: Vec<StorePath> = made.known.references.iter().map(|id| id.path.clone()).collect();
        let facts = PathFacts {
            nar_sha256: *made.hash(),
            nar_size: made.known.nar_size,
            references,
            deriver: Some(built.path.clone()),
            content_address: None,
        };
        BuiltOutput { name: output.name.clone(), path: made.id.path.clone(), facts }
    });
    Outcome::Built(outputs.collect())
}
