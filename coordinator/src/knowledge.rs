//! What is known for sure: verified derivations, and facts about contents whose bytes are known by hash.
use crate::paths;
use model::capability::{BUILTIN, CA_DERIVATIONS, FIXED_OUTPUT_NETWORK};
use model::{
    ContentId, InputDerivation, Kind, Output, PathFacts, Requirement, StorePath, System, TaskId, TaskSpec,
    TrustDomain,
};
use nix_formats::derivation::{self, Derivation, DerivationError, Method};
use nix_formats::effort::{Effort, effort_of};
use nix_formats::hash::HashAlgorithm;
use nix_formats::modulo::ModuloHash;
use nix_formats::store_path::StoreDir;
use nix_formats::target::target_of;
use scheduler::Binding;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;

/// Why something is not known.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum KnowledgeError {
    /// A recorded derivation is none.
    #[error("read the recorded derivation '{path}'")]
    Derivation {
        /// The `.drv` file.
        path: StorePath,
        /// Why not.
        source: DerivationError,
    },
    /// A derivation that should be there is not.
    #[error("derivation '{0}' is not known")]
    UnknownDerivation(StorePath),
    /// Facts about content that should be there are not.
    #[error("'{}' is not known in domain '{}'", .0.path, .0.domain)]
    UnknownContent(ContentId),
    /// References that cannot be.
    #[error("'{}' refers to itself through other paths", .0.path)]
    ReferenceCycle(ContentId),
}

/// A derivation that was verified: text, hash modulo, and what a task needs to know of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownDerivation {
    /// ATerm.
    pub text: Arc<[u8]>,
    /// Its hash modulo.
    pub modulo: ModuloHash,
    /// Its name, for people.
    pub name: String,
    /// How much work it looks like.
    pub kind: Kind,
    /// What it needs of an executor.
    pub requirement: Requirement,
    /// Its outputs, sorted by name.
    pub outputs: Vec<Output>,
    /// Those whose paths follow from their content.
    pub floating: Vec<FloatingOutput>,
    /// Derivations that it needs, with the names of their outputs.
    pub inputs: Vec<(StorePath, Vec<String>)>,
    /// Sources that it needs.
    pub sources: Vec<StorePath>,
    /// Whether its content is known by hash before it is built.
    pub is_fixed_output: bool,
}

/// How an output's path follows from its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FloatingOutput {
    /// The output.
    pub name: String,
    /// How its content is hashed.
    pub method: Method,
    /// With what.
    pub algorithm: HashAlgorithm,
}

impl KnownDerivation {
    /// From a derivation that was verified.
    pub fn new(path: &StorePath, text: Arc<[u8]>, derivation: &Derivation, modulo: ModuloHash) -> Self {
        let base = paths::base(path).ok();
        let name = base.as_ref().and_then(derivation::derivation_name).unwrap_or_default().to_owned();
        let system = if derivation.is_builtin() { BUILTIN } else { &derivation.system };
        let requirement = Requirement {
            system: System(Arc::from(system)),
            target: target_of(&name, derivation).map(|target| System(Arc::from(target))),
            features: features(derivation).into_iter().map(Arc::from).collect(),
        };
        let output = |(name, output): (&String, &derivation::Output)| Output {
            name: name.clone(),
            path: output.path().map_or_else(|| StorePath::promised(path, name), paths::full),
        };
        let floating = |(name, output): (&String, &derivation::Output)| match *output {
            derivation::Output::Floating { method, algorithm } => {
                Some(FloatingOutput { name: name.clone(), method, algorithm })
            }
            _ => None,
        };
        let inputs = &derivation.input_derivations;
        Self {
            text,
            modulo,
            kind: kind(&name, derivation),
            name,
            requirement,
            outputs: derivation.outputs.iter().map(output).collect(),
            floating: derivation.outputs.iter().filter_map(floating).collect(),
            inputs: inputs
                .iter()
                .map(|(path, outputs)| (paths::full(path), outputs.iter().cloned().collect()))
                .collect(),
            sources: derivation.input_sources.iter().map(paths::full).collect(),
            is_fixed_output: derivation.fixed_output().is_some(),
        }
    }

    /// From the journal, which has verified derivations only.
    ///
    /// # Errors
    /// A text that is no derivation.
    pub fn read(path: &StorePath, text: Arc<[u8]>, modulo: ModuloHash) -> Result<Self, KnowledgeError> {
        let derivation = derivation::parse(&text, &StoreDir::default())
            .map_err(|source| KnowledgeError::Derivation { path: path.clone(), source })?;
        Ok(Self::new(path, text, &derivation, modulo))
    }

    /// What stands for an output, or its path.
    pub fn output(&self, name: &str) -> Option<&StorePath> {
        self.outputs.iter().find(|output| output.name == name).map(|output| &output.path)
    }

    /// Whether paths of outputs are known only when it is built, or what it needs.
    pub fn has_promises(&self) -> bool {
        self.outputs.iter().any(|output| output.path.is_promise())
    }
}

fn kind(name: &str, derivation: &Derivation) -> Kind {
    match effort_of(name, derivation) {
        Effort::Tiny => Kind::Tiny,
        Effort::Fetch => Kind::Fetch,
        Effort::Build => Kind::Build,
        Effort::Heavy => Kind::Heavy,
    }
}

/// What an executor must have: also that it knows how to make outputs whose paths follow later, and a network for fixed outputs.
fn features(derivation: &Derivation) -> Vec<String> {
    let mut features = derivation.required_features();
    if derivation.has_unknown_paths() {
        features.push(CA_DERIVATIONS.to_owned());
    }
    if derivation.fixed_output().is_some() {
        features.push(FIXED_OUTPUT_NETWORK.to_owned());
    }
    features.sort();
    features.dedup();
    features
}

/// Facts about content, and the ids of what it refers to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContentFacts {
    /// What is known about the bytes.
    pub facts: PathFacts,
    /// `facts.references` without itself, each with its domain.
    pub references: Vec<ContentId>,
}

/// Shared by all who need to know; no lock is held longer than a look.
#[derive(Debug, Default)]
pub struct Knowledge {
    derivations: RwLock<HashMap<StorePath, Arc<KnownDerivation>>>,
    contents: RwLock<HashMap<ContentId, Arc<ContentFacts>>>,
    bindings: RwLock<HashMap<ContentId, ContentId>>,
}

/// Steps from what stands for an output to its content: by the derivation that it was resolved to.
const STEPS_MAX: usize = 4;

impl Knowledge {
    /// What the journal has recorded.
    ///
    /// # Errors
    /// A derivation that cannot be read.
    pub fn recorded(
        derivations: impl IntoIterator<Item = (StorePath, Arc<[u8]>, ModuloHash)>,
        contents: impl IntoIterator<Item = (ContentId, PathFacts, Vec<ContentId>)>,
        bindings: impl IntoIterator<Item = Binding>,
    ) -> Result<Self, KnowledgeError> {
        let knowledge = Self::default();
        for (path, text, modulo) in derivations {
            let known = KnownDerivation::read(&path, text, modulo)?;
            knowledge.insert_derivation(path, known);
        }
        for (id, facts, references) in contents {
            knowledge.insert_content(id, ContentFacts { facts, references });
        }
        bindings.into_iter().for_each(|binding| knowledge.bind(binding));
        Ok(knowledge)
    }

    /// A derivation. Everything that it depends on is known too.
    pub fn derivation(&self, path: &StorePath) -> Option<Arc<KnownDerivation>> {
        self.derivations.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    /// Adds a derivation that was verified and recorded; inputs before dependents.
    pub fn insert_derivation(&self, path: StorePath, derivation: KnownDerivation) {
        let mut derivations = self.derivations.write().unwrap_or_else(PoisonError::into_inner);
        derivations.entry(path).or_insert_with(|| Arc::new(derivation));
    }

    /// Facts about content, whoever has it.
    pub fn content(&self, id: &ContentId) -> Option<Arc<ContentFacts>> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Adds or replaces facts that were recorded.
    pub fn insert_content(&self, id: ContentId, facts: ContentFacts) {
        self.contents.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(facts));
    }

    /// What stands for an output turned out to be something.
    pub fn bind(&self, binding: Binding) {
        let mut bindings = self.bindings.write().unwrap_or_else(PoisonError::into_inner);
        bindings.insert(binding.promise, binding.to);
    }

    /// The steps from what stands for an output to its content; none when nobody knows that.
    pub fn bindings(&self, promise: &ContentId) -> Vec<Binding> {
        let bindings = self.bindings.read().unwrap_or_else(PoisonError::into_inner);
        let (mut steps, mut last) = (Vec::new(), promise.clone());
        while last.path.is_promise() {
            match bindings.get(&last) {
                Some(to) if steps.len() < STEPS_MAX => {
                    steps.push(Binding { promise: last, to: to.clone() });
                    last = to.clone();
                }
                _ => return Vec::new(),
            }
        }
        steps
    }

    /// Content with a path: itself, or what it turned out to be.
    pub fn realised(&self, id: &ContentId) -> Option<ContentId> {
        if !id.path.is_promise() {
            return Some(id.clone());
        }
        self.bindings(id).pop().map(|last| last.to)
    }

    /// Whether paths must be put into a derivation before it is built.
    pub fn needs_resolution(&self, derivation: &KnownDerivation) -> bool {
        if derivation.has_promises() {
            return derivation.floating.is_empty() || !derivation.inputs.is_empty();
        }
        derivation.inputs.iter().any(|(path, outputs)| {
            let input = self.derivation(path);
            let is_promise = |name: &String| {
                input.as_ref().and_then(|input| input.output(name)).is_some_and(StorePath::is_promise)
            };
            outputs.iter().any(is_promise)
        })
    }

    /// Contents with everything that they refer to, references before referrers.
    ///
    /// # Errors
    /// The first id without facts, or one that is in a cycle.
    pub fn closure(
        &self,
        of: impl IntoIterator<Item = ContentId>,
    ) -> Result<Vec<(ContentId, Arc<ContentFacts>)>, KnowledgeError> {
        let facts =
            |id: &ContentId| self.content(id).ok_or_else(|| KnowledgeError::UnknownContent(id.clone()));
        let (mut order, mut done, mut open) = (Vec::new(), HashSet::new(), HashSet::new());
        for root in of {
            // Each level: an id, its facts, and how many of its references were looked at.
            let mut levels = Vec::new();
            if !done.contains(&root) {
                open.insert(root.clone());
                levels.push((root.clone(), facts(&root)?, 0));
            }
            while let Some((id, known, next)) = levels.last_mut() {
                let Some(reference) = known.references.get(*next).cloned() else {
                    open.remove(id);
                    done.insert(id.clone());
                    order.extend(levels.pop().map(|(id, known, _)| (id, known)));
                    continue;
                };
                *next += 1;
                if done.contains(&reference) {
                    continue;
                }
                if !open.insert(reference.clone()) {
                    return Err(KnowledgeError::ReferenceCycle(reference));
                }
                levels.push((reference.clone(), facts(&reference)?, 0));
            }
        }
        Ok(order)
    }

    /// Derivations with everything that they depend on, inputs before dependents.
    ///
    /// # Errors
    /// The first that is not known.
    pub fn graph(
        &self,
        roots: impl IntoIterator<Item = StorePath>,
    ) -> Result<Vec<(StorePath, Arc<KnownDerivation>)>, KnowledgeError> {
        let known = |path: &StorePath| {
            self.derivation(path).ok_or_else(|| KnowledgeError::UnknownDerivation(path.clone()))
        };
        let (mut order, mut seen) = (Vec::new(), HashSet::new());
        for root in roots {
            let mut levels = Vec::new();
            if seen.insert(root.clone()) {
                levels.push((root.clone(), known(&root)?, 0));
            }
            while let Some((_, derivation, next)) = levels.last_mut() {
                match derivation.inputs.get(*next) {
                    // Verified from below: there are no cycles.
                    Some((input, _)) => {
                        *next += 1;
                        if seen.insert(input.clone()) {
                            let input = input.clone();
                            let derivation = known(&input)?;
                            levels.push((input, derivation, 0));
                        }
                    }
                    None => order.extend(levels.pop().map(|(path, derivation, _)| (path, derivation))),
                }
            }
        }
        Ok(order)
    }

    /// The tasks of a plan, as they were admitted or are about to be. `source` says in which domain a source is used.
    ///
    /// # Errors
    /// A derivation that is not known, or an input that is not among the tasks.
    pub fn task_specs(
        &self,
        tasks: &[TaskId],
        source: impl Fn(&StorePath) -> ContentId,
    ) -> Result<Vec<TaskSpec>, KnowledgeError> {
        let domains: HashMap<&StorePath, &TrustDomain> =
            tasks.iter().map(|task| (&task.path, &task.domain)).collect();
        let mut specs = Vec::with_capacity(tasks.len());
        for task in tasks {
            let unknown = |path: &StorePath| KnowledgeError::UnknownDerivation(path.clone());
            let known = self.derivation(&task.path).ok_or_else(|| unknown(&task.path))?;
            let mut input_derivations = Vec::with_capacity(known.inputs.len());
            for (path, outputs) in &known.inputs {
                let domain = domains.get(path).ok_or_else(|| unknown(path))?;
                let task = TaskId { domain: (*domain).clone(), path: path.clone() };
                input_derivations.push(InputDerivation { task, outputs: outputs.clone() });
            }
            specs.push(TaskSpec {
                id: task.clone(),
                name: known.name.clone(),
                kind: known.kind,
                requirement: known.requirement.clone(),
                outputs: known.outputs.clone(),
                input_derivations,
                input_sources: known.sources.iter().map(&source).collect(),
                needs_resolution: self.needs_resolution(&known),
                is_fixed_output: known.is_fixed_output,
            });
        }
        Ok(specs)
    }
}
