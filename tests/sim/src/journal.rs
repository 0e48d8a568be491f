//! What survives a coordinator: its journal, with every fact compared with the truth when it is appended.
use crate::bits::Bits;
use crate::graph::Graph;
use crate::random::Table;
use model::{ContentId, ExecutorName, Failure, TaskId};
use scheduler::{Binding, Fact, Holder, KnownContent, Measurement, Settled};
use std::collections::BTreeSet;

/// An entry of the journal.
pub enum Entry {
    PlanAdmitted(u8),
    Fact(Fact),
}

#[derive(Default)]
pub struct Journal {
    pub measured: Vec<Measurement>,
    /// Contents whose facts are known.
    pub known: Bits,
    /// Who has what, by executor.
    pub held: Vec<Bits>,
    pub failed: Table<TaskId, Failure>,
    pub bindings: Table<ContentId, ContentId>,
    /// Plans that did not end.
    pub living: BTreeSet<u8>,
}

impl Journal {
    /// The steps from what stands for an output to its content, if that is known.
    pub fn bindings(&self, promise: &ContentId) -> Vec<Binding> {
        let (mut steps, mut last) = (vec![], promise);
        while last.path.is_promise() {
            let Some(to) = self.bindings.get(last) else { return vec![] };
            steps.push(Binding { promise: last.clone(), to: to.clone() });
            last = to;
        }
        steps
    }

    /// Contents with what they refer to, as far as they are known.
    pub fn contents(
        &self,
        graph: &Graph,
        contents: &Bits,
        holders: impl Fn(usize) -> Vec<Holder>,
    ) -> Vec<KnownContent> {
        let closure = graph.closure(contents).and(&self.known);
        closure.iter().map(|content| graph.contents[content].known(holders(content))).collect()
    }

    /// Appends a fact, which must be true.
    pub fn append(&mut self, graph: &Graph, fact: Fact, executor: impl Fn(&ExecutorName) -> usize) {
        match fact {
            Fact::TaskSettled { task, settled: Settled::Built { outputs, .. } } => {
                let truth = &graph.truths[graph.task_places[&task]];
                assert!(!truth.is_bad, "{task:?} cannot have been built");
                for output in outputs {
                    let place = graph.content_places.get(&output.id).copied();
                    let place = place.unwrap_or_else(|| panic!("{:?} is made by nobody", output.id));
                    let content = &graph.contents[place];
                    assert!(truth.outputs.contains(&place), "{:?} is no output of {task:?}", output.id);
                    assert!(output.facts.nar_sha256 == *content.hash(), "{:?}: other bytes", output.id);
                    let references = output.references.iter().map(|id| graph.content_places[id]);
                    assert_eq!(references.collect::<Bits>(), content.references, "{:?}", output.id);
                    self.known.add(place);
                }
                self.failed.remove(&task);
            }
            Fact::TaskSettled { task, settled: Settled::Failed(failure) } => {
                let is_bad = graph.truths[graph.task_places[&task]].is_bad;
                assert!(is_bad, "{task:?} failed by {failure:?}");
                self.failed.insert(task, failure);
            }
            Fact::Bound(Binding { promise, to }) => {
                let real = graph.real.get(&to).or_else(|| graph.content_places.get(&to));
                assert!(real.is_some() && real == graph.real.get(&promise), "{promise:?} is not {to:?}");
                self.bindings.insert(promise, to);
            }
            Fact::Held(id, holder) => {
                let place = graph.content_places[&id];
                assert!(self.known.has(place), "{id:?} is held and unknown");
                if let Holder::Executor(name) = holder {
                    self.held[executor(&name)].add(place);
                }
            }
            Fact::NotHeld(id, Holder::Executor(name)) => {
                self.held[executor(&name)].remove(graph.content_places[&id]);
            }
            Fact::NotHeld(id, Holder::ContentStore) => panic!("the content store lost {id:?}"),
            Fact::PlanEnded(plan, _) => {
                assert!(self.living.remove(&plan.0[0]), "a plan ended twice");
            }
            Fact::Measured(measured) => self.measured.push(measured),
        }
    }
}
