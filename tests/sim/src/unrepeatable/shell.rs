//! What the coordinator's shell remembers of contents, who has them, and what outputs turned out to be.
use model::{ContentId, Failure, TaskId};
use scheduler::{Binding, Fact, Holder, KnownContent, Settled};
use std::collections::{BTreeMap, BTreeSet};

/// What the coordinator's shell remembers.
#[derive(Default)]
pub struct Shell {
    pub contents: BTreeMap<ContentId, KnownContent>,
    holders: BTreeMap<ContentId, BTreeSet<Holder>>,
    bindings: BTreeMap<ContentId, ContentId>,
    pub failed: BTreeMap<TaskId, Failure>,
}

impl Shell {
    /// The steps from what stands for an output to its content, if that is known.
    pub fn steps(&self, promise: &ContentId) -> Vec<Binding> {
        let (mut steps, mut last) = (vec![], promise.clone());
        while last.path.is_promise() {
            let Some(to) = self.bindings.get(&last) else { return vec![] };
            steps.push(Binding { promise: last, to: to.clone() });
            last = to.clone();
        }
        steps
    }

    pub fn closure(&self, content: &ContentId) -> Vec<KnownContent> {
        let (mut seen, mut work, mut closure) = (BTreeSet::new(), vec![content.clone()], vec![]);
        while let Some(id) = work.pop() {
            let Some(known) = self.contents.get(&id).filter(|_| seen.insert(id.clone())) else { continue };
            work.extend(known.references.iter().cloned());
            let holders = self.holders.get(&id).into_iter().flatten().cloned().collect();
            closure.push(KnownContent { holders, ..known.clone() });
        }
        closure
    }

    /// Remembers a fact; says whether an output turned out to be something else than before.
    pub fn record(&mut self, fact: Fact) -> bool {
        match fact {
            Fact::TaskSettled { task, settled: Settled::Built { outputs, .. } } => {
                self.failed.remove(&task);
                for output in outputs {
                    let known = KnownContent {
                        id: output.id.clone(),
                        references: output.references,
                        nar_sha256: output.facts.nar_sha256,
                        nar_size: output.facts.nar_size,
                        holders: vec![],
                    };
                    self.contents.insert(output.id, known);
                }
            }
            Fact::TaskSettled { task, settled: Settled::Failed(failure) } => {
                self.failed.insert(task, failure);
            }
            Fact::Bound(Binding { promise, to }) => return self.bindings.insert(promise, to).is_some(),
            Fact::Held(id, holder) => _ = self.holders.entry(id).or_default().insert(holder),
            Fact::NotHeld(id, holder) => _ = self.holders.entry(id).or_default().remove(&holder),
            Fact::PlanEnded(..) | Fact::Measured(_) => {}
        }
        false
    }
}
