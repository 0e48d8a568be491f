//! Resolution: outputs of inputs whose paths are known only now take the place of their placeholders. What comes out depends
//! on no derivation any more; its path is what decides whether the same was built before.
use crate::derivation::{Derivation, InputKey, Output, write_aterm};
use crate::hash::sha256;
use crate::modulo::{derivation_path, output_path};
use crate::process::placeholders::{Placeholders, upstream_placeholder};
use crate::store_path::{StoreDir, StorePath, StorePathError, output_path_name};
use crate::structured::Value;
use std::collections::BTreeMap;
use thiserror::Error;

/// A derivation of which everything is known that can be before it is built.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// Where Nix writes it.
    pub path: StorePath,
    /// ATerm.
    pub text: Vec<u8>,
    /// What the text says.
    pub derivation: Derivation,
}

/// Why a derivation cannot be resolved.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ResolveError {
    /// An output of an input has no path yet.
    #[error("output '{output}' of '{derivation}' is not there")]
    NotThere {
        /// The input derivation.
        derivation: StorePath,
        /// Its output.
        output: String,
    },
    /// A name is not one.
    #[error("the resolved derivation gives an impossible store path")]
    Name(#[from] StorePathError),
}

/// Whether Nix resolves a derivation before it builds it. `has_path` says of outputs of inputs whether their paths are known from
/// the derivations alone.
pub fn is_needed(derivation: &Derivation, has_path: impl Fn(&StorePath, &str) -> bool) -> bool {
    let mut named = derivation
        .input_derivations
        .iter()
        .flat_map(|(path, outputs)| outputs.iter().map(move |output| (path, output)));
    match derivation.outputs.values().next() {
        Some(Output::Deferred) => true,
        Some(Output::Floating { .. }) => !derivation.input_derivations.is_empty(),
        _ => named.any(|(path, output)| !has_path(path, output)),
    }
}

/// Resolves a derivation with the file name `file_name`; `realised` gives the paths of its inputs' outputs.
///
/// # Errors
/// An output that has no path.
pub fn resolve(
    derivation: &Derivation,
    file_name: &str,
    store: &StoreDir,
    realised: impl Fn(&StorePath, &str) -> Option<StorePath>,
) -> Result<Resolved, ResolveError> {
    let mut placeholders = Placeholders::default();
    let mut input_sources = derivation.input_sources.clone();
    for (input, outputs) in &derivation.input_derivations {
        for output in outputs {
            let not_there = || ResolveError::NotThere { derivation: input.clone(), output: output.clone() };
            let path = realised(input, output).ok_or_else(not_there)?;
            placeholders.insert(upstream_placeholder(input, output), store.display(&path));
            input_sources.insert(path);
        }
    }
    let variable =
        |(name, value): (&Vec<u8>, &Vec<u8>)| (placeholders.replace(name), placeholders.replace(value));
    let mut resolved = Derivation {
        outputs: derivation.outputs.clone(),
        input_derivations: BTreeMap::new(),
        input_sources,
        system: derivation.system.clone(),
        builder: placeholders.replace(&derivation.builder),
        arguments: derivation.arguments.iter().map(|argument| placeholders.replace(argument)).collect(),
        environment: derivation.environment.iter().map(variable).collect(),
    };
    canonicalise_attributes(&mut resolved);
    let name = file_name.strip_suffix(".drv").unwrap_or(file_name);
    let masked = sha256(&write_aterm(&resolved, store, &InputKey::Paths, true));
    let deferred = resolved.outputs.iter_mut().filter(|(_, output)| **output == Output::Deferred);
    for (output_name, output) in deferred {
        let path = output_path(store, &masked, name, output_name)?;
        resolved.environment.insert(output_name.clone().into_bytes(), store.display(&path).into_bytes());
        *output = Output::InputAddressed { path };
    }
    let text = resolved.to_aterm(store);
    let path = derivation_path(store, file_name, &text, &resolved.references())?;
    Ok(Resolved { path, text, derivation: resolved })
}

/// Nix 2.34 reads structured attributes and writes them again.
fn canonicalise_attributes(derivation: &mut Derivation) {
    if let Some(json) = derivation.environment.get_mut(b"__json".as_slice())
        && let Ok(value) = Value::parse(json)
    {
        *json = value.to_json();
    }
}

/// Where an output is made whose path is known only after the build.
///
/// # Errors
/// A name that is none.
pub fn temporary_path(
    store: &StoreDir,
    derivation: &StorePath,
    output: &str,
) -> Result<StorePath, StorePathError> {
    let name = derivation.name().strip_suffix(".drv").unwrap_or(derivation.name());
    let kind = format!("rewrite:{}:name:{output}", derivation.base_name());
    store.make_store_path(&kind, &"0".repeat(64), &output_path_name(name, output))
}
