//! Every check that Nix makes when a derivation is registered, on a whole graph from below. CPU only.
use super::SubmitError;
use crate::knowledge::{Knowledge, KnownDerivation};
use crate::paths;
use model::{StorePath, limits};
use nix_formats::derivation::{Derivation, Output, parse};
use nix_formats::modulo::{self, ModuloHash, VerifyError};
use nix_formats::store_path::{self, StoreDir};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A derivation whose text hashes to its path.
#[derive(Debug)]
pub(super) struct Fetched {
    path: store_path::StorePath,
    text: Arc<[u8]>,
    derivation: Derivation,
}

impl Fetched {
    /// Size of its text in bytes.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// The derivations that it needs.
    pub fn inputs(&self) -> impl Iterator<Item = StorePath> {
        self.derivation.input_derivations.keys().map(paths::full)
    }
}

/// Reads a text, and checks what can be checked without its inputs.
pub(super) fn read((path, text): (StorePath, Arc<[u8]>)) -> Result<(StorePath, Fetched), SubmitError> {
    if text.len() > limits::DERIVATION_BYTES_MAX {
        return Err(SubmitError::TooLarge {
            what: "bytes of one derivation",
            max: limits::DERIVATION_BYTES_MAX,
        });
    }
    let store = StoreDir::default();
    let own = paths::base(&path)?;
    let derivation =
        parse(&text, &store).map_err(|source| SubmitError::Derivation { path: path.clone(), source })?;
    let should_be = modulo::derivation_path(&store, own.name(), &text, &derivation.references())?;
    if should_be != own {
        let should_be = store.display(&should_be);
        return Err(VerifyError::WrongPath { path: path.to_string(), should_be }.into());
    }
    // Before everything below it is fetched.
    let problem = match derivation.outputs.values().next() {
        Some(Output::Impure) => {
            "impure derivations are not supported: build it with a Nix that has `impure-derivations`"
        }
        _ if derivation.required_features().iter().any(|feature| feature == "recursive-nix") => {
            "builds cannot call Nix here (`recursive-nix`): let the evaluation name what the build needs"
        }
        _ if !own.is_derivation() => "the name of a derivation's file does not end in .drv",
        _ => return Ok((path, Fetched { path: own, text, derivation })),
    };
    Err(VerifyError::Unsupported { path: path.to_string(), problem }.into())
}

/// Verifies a graph, of which everything that was not fetched is known. Inputs come before dependents.
pub(super) fn all(
    fetched: &HashMap<StorePath, Fetched>,
    knowledge: &Knowledge,
) -> Result<Vec<(StorePath, KnownDerivation)>, SubmitError> {
    let store = StoreDir::default();
    let mut verified = HashMap::<StorePath, KnownDerivation>::with_capacity(fetched.len());
    let order = inputs_first(fetched)?;
    for path in &order {
        let Some(Fetched { path: own, text, derivation }) = fetched.get(path) else { continue };
        let mut needs_promise = false;
        for (input, wanted) in &derivation.input_derivations {
            let input = paths::full(input);
            let known = knowledge.derivation(&input);
            let known = verified.get(&input).or(known.as_deref());
            let is_promise =
                |name: &String| known.and_then(|known| known.output(name)).is_some_and(StorePath::is_promise);
            needs_promise |= wanted.iter().any(is_promise);
            let has = |name: &String| {
                known.is_some_and(|known| known.outputs.iter().any(|output| output.name == *name))
            };
            if let Some(output) = wanted.iter().find(|name| known.is_some() && !has(name)) {
                let (output, wanted_by) = (output.clone(), format!("derivation '{path}'"));
                return Err(SubmitError::NoSuchOutput { derivation: input, output, wanted_by });
            }
        }
        check_kind(path, derivation, needs_promise)?;
        let lookup = |input: &store_path::StorePath| -> Option<ModuloHash> {
            let input = paths::full(input);
            let local = verified.get(&input).map(|known| known.modulo);
            local.or_else(|| knowledge.derivation(&input).map(|known| known.modulo))
        };
        let modulo = modulo::verify(own, text, derivation, &store, lookup)?;
        verified.insert(path.clone(), KnownDerivation::new(path, text.clone(), derivation, modulo));
    }
    Ok(order.into_iter().filter_map(|path| verified.remove_entry(&path)).collect())
}

/// Outputs have no paths exactly where Nix gives them none: addressed by content, or made from inputs without paths.
fn check_kind(path: &StorePath, derivation: &Derivation, needs_promise: bool) -> Result<(), SubmitError> {
    let problem = match derivation.outputs.values().next() {
        Some(Output::InputAddressed { .. }) if needs_promise => {
            "its outputs have paths, though those of an input are known only after a build: evaluate it with a Nix that has \
             `ca-derivations`"
        }
        Some(Output::Deferred) if !needs_promise => {
            "its outputs have no paths, though all that it depends on has: evaluate it anew"
        }
        _ => return Ok(()),
    };
    Err(VerifyError::Unsupported { path: path.to_string(), problem }.into())
}

/// The fetched derivations, inputs before dependents.
fn inputs_first(fetched: &HashMap<StorePath, Fetched>) -> Result<Vec<StorePath>, SubmitError> {
    let (mut order, mut done, mut open) = (Vec::with_capacity(fetched.len()), HashSet::new(), HashSet::new());
    for root in fetched.keys() {
        let mut levels: Vec<(StorePath, Vec<StorePath>)> = Vec::new();
        let mut next = Some(root.clone());
        loop {
            if let Some(path) = next.take()
                && let Some(derivation) = fetched.get(&path)
                && !done.contains(&path)
            {
                if !open.insert(path.clone()) {
                    return Err(SubmitError::Cycle(path));
                }
                levels.push((path, derivation.inputs().collect()));
            }
            match levels.last_mut() {
                None => break,
                Some((_, inputs)) if !inputs.is_empty() => next = inputs.pop(),
                Some(_) => {
                    let Some((path, _)) = levels.pop() else { break };
                    open.remove(&path);
                    done.insert(path.clone());
                    order.push(path);
                }
            }
        }
    }
    Ok(order)
}
