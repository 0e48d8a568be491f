//! The plan that a verified graph and its sources make: tasks in their domains, and what is known of their contents.
use super::{SubmitError, Submitter, Wanted};
use crate::knowledge::{ContentFacts, Knowledge, KnowledgeError, KnownDerivation};
use crate::paths;
use cas::ContentStore;
use model::{ContentId, PlanId, StorePath, TaskId, TaskSpec, TrustDomain};
use scheduler::{Binding, Holder, KnownContent, NewPlan, Root};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Whether the content store has the bytes that these facts describe.
pub fn held(store: &dyn ContentStore, id: &ContentId, known: &ContentFacts) -> bool {
    let stored = paths::blob_id(id).ok().and_then(|blob| store.get(&blob));
    stored.is_some_and(|stored| stored.nar_sha256 == known.facts.nar_sha256)
}

/// The content that a board means by a path: shared, or else its own. Only what the content store has.
pub fn resolve(
    knowledge: &Knowledge,
    store: &dyn ContentStore,
    board: &str,
    path: &StorePath,
) -> Option<(ContentId, Arc<ContentFacts>)> {
    [TrustDomain::Shared, TrustDomain::Board(Arc::from(board))].into_iter().find_map(|domain| {
        let id = ContentId { domain, path: path.clone() };
        let known = knowledge.content(&id)?;
        held(store, &id, &known).then_some((id, known))
    })
}

/// What is wanted: each derivation once, with the names of its outputs.
pub(super) fn roots(
    wanted: &[Wanted],
    knowledge: &Knowledge,
) -> Result<Vec<(StorePath, Vec<String>)>, SubmitError> {
    let mut order = Vec::new();
    let mut outputs = HashMap::<&StorePath, BTreeSet<String>>::new();
    for wanted in wanted {
        let path = &wanted.derivation;
        let unknown = || SubmitError::Sources(KnowledgeError::UnknownDerivation(path.clone()));
        let known = knowledge.derivation(path).ok_or_else(unknown)?;
        let all = || known.outputs.iter().map(|output| &output.name);
        if let Some(output) = wanted.outputs.iter().find(|name| !all().any(|known| known == *name)) {
            let (output, wanted_by) = (output.clone(), "the plan".to_owned());
            return Err(SubmitError::NoSuchOutput { derivation: path.clone(), output, wanted_by });
        }
        let names = outputs.entry(path).or_insert_with(|| {
            order.push(path);
            BTreeSet::new()
        });
        if wanted.outputs.is_empty() {
            names.extend(all().cloned());
        } else {
            names.extend(wanted.outputs.iter().cloned());
        }
    }
    let names = |path: &StorePath| outputs.get(path).into_iter().flatten().cloned().collect();
    Ok(order.into_iter().map(|path| (path.clone(), names(path))).collect())
}

/// A plan that can be admitted. `graph` has inputs before dependents.
pub(super) fn assemble(
    graph: &[(StorePath, Arc<KnownDerivation>)],
    roots: &[(StorePath, Vec<String>)],
    sources: &HashMap<StorePath, ContentId>,
    submitter: &Submitter,
) -> Result<NewPlan, SubmitError> {
    let mut domains = HashMap::<&StorePath, TrustDomain>::with_capacity(graph.len());
    for (path, derivation) in graph {
        let of_sources = derivation.sources.iter().filter_map(|path| sources.get(path).map(|id| &id.domain));
        let of_inputs = derivation.inputs.iter().filter_map(|(path, _)| domains.get(path));
        let domain = of_sources
            .chain(of_inputs)
            .try_fold(TrustDomain::Shared, |joined, domain| joined.join(domain))
            .ok_or_else(|| SubmitError::Malformed(format!("'{path}' depends on two boards' own content")))?;
        domains.insert(path, domain);
    }
    let task = |path: &StorePath| TaskId {
        domain: domains.get(path).cloned().unwrap_or_default(),
        path: path.clone(),
    };
    let tasks: Vec<_> = graph.iter().map(|(path, _)| task(path)).collect();
    let source = |path: &StorePath| sources.get(path).cloned().unwrap_or_else(|| task(path));
    let specs = submitter.knowledge.task_specs(&tasks, source).map_err(SubmitError::Sources)?;
    let Known { contents, bindings } =
        known_contents(&submitter.knowledge, &*submitter.store, &specs).map_err(SubmitError::Sources)?;
    Ok(NewPlan {
        id: PlanId(*uuid::Uuid::now_v7().as_bytes()),
        tasks: specs,
        roots: roots
            .iter()
            .map(|(path, outputs)| Root { task: task(path), outputs: outputs.clone() })
            .collect(),
        contents,
        bindings,
        failed: Vec::new(),
    })
}

/// What is known before a plan begins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// Contents whose bytes are known by hash.
    pub contents: Vec<KnownContent>,
    /// What stands for outputs that were built before.
    pub bindings: Vec<Binding>,
}

/// What is known of the contents of tasks: all sources with what they refer to, and outputs that exist somewhere.
///
/// As a holder only the content store is named; who else has it, the core knows.
///
/// # Errors
/// A source without facts.
pub fn known_contents(
    knowledge: &Knowledge,
    store: &dyn ContentStore,
    tasks: &[TaskSpec],
) -> Result<Known, KnowledgeError> {
    let known_content = |(id, known): (ContentId, Arc<ContentFacts>)| known_content(store, id, &known);
    let sources = tasks.iter().flat_map(|task| task.input_sources.iter().cloned());
    let mut contents: Vec<_> = knowledge.closure(sources)?.into_iter().map(known_content).collect();
    // An output of one task may be another's source.
    let mut named: HashSet<_> = contents.iter().map(|content| content.id.clone()).collect();
    let mut bindings = Vec::new();
    for task in tasks {
        for output in &task.outputs {
            let id = ContentId { domain: task.id.domain.clone(), path: output.path.clone() };
            if output.path.is_promise() {
                let steps = knowledge.bindings(&id);
                let Some(real) = steps.last().map(|last| last.to.clone()) else { continue };
                // Of an earlier build with, maybe, other inputs: with all that it refers to.
                let closure = knowledge.closure([real])?;
                let new = closure.into_iter().filter(|(id, _)| named.insert(id.clone()));
                contents.extend(new.map(known_content));
                bindings.extend(steps);
                continue;
            }
            if let Some(known) = knowledge.content(&id)
                && named.insert(id.clone())
            {
                contents.push(known_content((id, known)));
            }
        }
    }
    Ok(Known { contents, bindings })
}

/// Content as the core knows it.
pub fn known_content(store: &dyn ContentStore, id: ContentId, known: &ContentFacts) -> KnownContent {
    KnownContent {
        holders: if held(store, &id, known) { vec![Holder::ContentStore] } else { Vec::new() },
        references: known.references.clone(),
        nar_size: known.facts.nar_size,
        nar_sha256: known.facts.nar_sha256,
        id,
    }
}
