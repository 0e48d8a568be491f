//! Outputs without a path: what the shell says when their derivations are resolved, and what the journal keeps of it.
use crate::world::World;
use model::{ContentId, TaskId};
use scheduler::{Binding, Event, Holder, Resolution};
use std::collections::{BTreeMap, BTreeSet};

/// What the journal would hold.
#[derive(Default)]
pub struct Journal {
    pub measured: Vec<scheduler::Measurement>,
    pub known: BTreeSet<ContentId>,
    pub holders: BTreeMap<ContentId, BTreeSet<Holder>>,
    pub failed: BTreeMap<TaskId, model::Failure>,
    pub bindings: BTreeMap<ContentId, ContentId>,
}

impl Journal {
    /// The steps from what stands for an output to its content, if that is known.
    pub fn bindings(&self, promise: &ContentId) -> Vec<Binding> {
        let (mut steps, mut last) = (vec![], promise.clone());
        while last.path.is_promise() {
            let Some(to) = self.bindings.get(&last) else { return vec![] };
            steps.push(Binding { promise: last, to: to.clone() });
            last = to.clone();
        }
        steps
    }
}

impl World {
    /// What the shell says of a derivation whose inputs are there.
    pub(crate) fn resolve(
        &mut self,
        task: TaskId,
        number: u64,
        bound: &[(model::StorePath, model::StorePath)],
    ) {
        let spec = self.graph.task(&task);
        let mut expected = BTreeSet::new();
        for input in &spec.input_derivations {
            for output in &self.graph.task(&input.task).outputs {
                if input.outputs.contains(&output.name) && output.path.is_promise() {
                    let real = self.graph.output(&input.task, &output.name);
                    expected.insert((output.path.clone(), real.path));
                }
            }
        }
        assert_eq!(bound.iter().cloned().collect::<BTreeSet<_>>(), expected, "{task:?}");
        let mut resolution = Resolution { outputs: vec![], contents: vec![], bindings: vec![] };
        for output in &spec.outputs {
            let id = self.graph.resolved_output(&task, output);
            resolution.bindings.extend(self.journal.bindings(&id));
            let real = self.graph.output(&task, &output.name);
            let is_bound = !id.path.is_promise() || !self.journal.bindings(&id).is_empty();
            if is_bound && self.journal.known.contains(&real) {
                for id in self.graph.closure(&[real]) {
                    let holders = self.journal.holders.get(&id).into_iter().flatten().cloned().collect();
                    resolution.contents.push(self.graph.known(&id, holders));
                }
            }
            resolution.outputs.push((output.name.clone(), id));
        }
        self.again.push_back(Event::Resolved { task, number, resolution: Ok(resolution) });
    }

    /// What stands for an output really is.
    pub(crate) fn journal_truth(&self, promise: &ContentId) -> &ContentId {
        self.graph.real.get(promise).unwrap_or_else(|| panic!("nothing is {promise:?}"))
    }
}
