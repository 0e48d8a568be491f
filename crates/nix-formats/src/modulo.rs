//! Hash modulo: the identity of a derivation up to how its fixed outputs are fetched, and all checks that follow from it.
use crate::derivation::write::algorithm_field;
use crate::derivation::{Derivation, InputKey, Output, derivation_name, fixed_path, write_aterm};
use crate::hash::{hex, sha256};
use crate::store_path::{StoreDir, StorePath, StorePathError, output_path_name};
use crate::structured::Value;
use std::collections::BTreeMap;
use thiserror::Error;

/// The hash modulo of a derivation, as its dependents use it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ModuloHash(pub [u8; 32]);

/// Why a derivation was refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum VerifyError {
    /// The text does not hash to the path.
    #[error("derivation '{path}' does not hash to its own path, but to '{should_be}'")]
    WrongPath {
        /// The claimed path.
        path: String,
        /// What it should be.
        should_be: String,
    },
    /// An output's path is not what the derivation implies.
    #[error("derivation '{path}' has incorrect output '{output}', should be '{should_be}'")]
    WrongOutput {
        /// The derivation.
        path: String,
        /// The claimed output path.
        output: String,
        /// What it should be.
        should_be: String,
    },
    /// A variable named after an output does not hold its path.
    #[error("derivation '{path}' has incorrect environment variable '{variable}', should be '{should_be}'")]
    WrongVariable {
        /// The derivation.
        path: String,
        /// The variable.
        variable: String,
        /// What it should be.
        should_be: String,
    },
    /// An input's hash is not known: the caller goes bottom up.
    #[error("derivation '{path}' depends on '{input}', which is not known")]
    UnknownInput {
        /// The derivation.
        path: String,
        /// The input derivation.
        input: String,
    },
    /// An input has no output of that name.
    #[error("derivation '{path}': {problem}")]
    Unsupported {
        /// The derivation.
        path: String,
        /// What is not supported.
        problem: &'static str,
    },
    /// A name is not one.
    #[error("derivation '{path}' gives an impossible store path")]
    Name {
        /// The derivation.
        path: String,
        /// Why.
        source: StorePathError,
    },
}

/// The path of a `.drv` file with this text.
pub fn derivation_path(
    store: &StoreDir,
    file_name: &str,
    text: &[u8],
    references: &std::collections::BTreeSet<StorePath>,
) -> Result<StorePath, StorePathError> {
    store.text_path(file_name, &sha256(text), references)
}

fn keyed_inputs(
    derivation: &Derivation,
    lookup: &impl Fn(&StorePath) -> Option<ModuloHash>,
) -> Result<InputKey, StorePath> {
    let mut keys = BTreeMap::<String, std::collections::BTreeSet<String>>::new();
    for (path, outputs) in &derivation.input_derivations {
        let hash = lookup(path).ok_or_else(|| path.clone())?;
        keys.entry(hex(&hash.0)).or_default().extend(outputs.iter().cloned());
    }
    Ok(InputKey::Hashes(keys))
}

/// The hash modulo. `Err` names the first input that `lookup` does not know.
pub fn hash_modulo(
    derivation: &Derivation,
    store: &StoreDir,
    lookup: impl Fn(&StorePath) -> Option<ModuloHash>,
) -> Result<ModuloHash, StorePath> {
    if let Some((path, method, hash)) = derivation.fixed_output() {
        let field = algorithm_field(method, hash.algorithm);
        let text = format!("fixed:out:{field}:{}:{}", hash.hex(), store.display(path));
        return Ok(ModuloHash(sha256(text.as_bytes())));
    }
    let inputs = keyed_inputs(derivation, &lookup)?;
    Ok(ModuloHash(sha256(&write_aterm(derivation, store, &inputs, false))))
}

/// The hash that input-addressed output paths are made from.
pub fn masked_hash(
    derivation: &Derivation,
    store: &StoreDir,
    lookup: impl Fn(&StorePath) -> Option<ModuloHash>,
) -> Result<[u8; 32], StorePath> {
    let inputs = keyed_inputs(derivation, &lookup)?;
    Ok(sha256(&write_aterm(derivation, store, &inputs, true)))
}

/// Nix's name for an output whose path is known only after a build, in the store's table of such paths (up to 2.34).
pub fn realisation_id(masked_hash: &[u8; 32], output: &str) -> String {
    format!("sha256:{}!{output}", hex(masked_hash))
}

/// The path of an input-addressed output.
pub fn output_path(
    store: &StoreDir,
    masked_hash: &[u8; 32],
    derivation_name: &str,
    output: &str,
) -> Result<StorePath, StorePathError> {
    let name = output_path_name(derivation_name, output);
    store.make_store_path(&format!("output:{output}"), &hex(masked_hash), &name)
}

/// Every check that Nix makes when a derivation is registered: own path, output paths, variables.
///
/// `lookup` gives the hashes modulo of the input derivations: go bottom up and remember what this returns.
pub fn verify(
    path: &StorePath,
    text: &[u8],
    derivation: &Derivation,
    store: &StoreDir,
    lookup: impl Fn(&StorePath) -> Option<ModuloHash>,
) -> Result<ModuloHash, VerifyError> {
    let check = Check { path, store };
    let Some(name) = derivation_name(path) else {
        return Err(check.unsupported("the name of a derivation's file does not end in .drv"));
    };
    let named = |source| VerifyError::Name { path: check.shown(path), source };
    let own_path = derivation_path(store, path.name(), text, &derivation.references()).map_err(named)?;
    if own_path != *path {
        return Err(VerifyError::WrongPath { path: check.shown(path), should_be: check.shown(&own_path) });
    }
    let unknown =
        |input: StorePath| VerifyError::UnknownInput { path: check.shown(path), input: check.shown(&input) };
    if derivation.outputs.values().any(|output| *output == Output::Impure) {
        return Err(check.unsupported(
            "impure derivations are not supported: build it with a Nix that has `impure-derivations`",
        ));
    }
    if derivation.has_unknown_paths() {
        // No path to check: it follows from inputs or content, when they are there.
    } else if derivation.fixed_output().is_none() {
        // Newer Nix hashes the canonical dump of structured attributes, 2.8 their text: either may be right.
        let raw = check.input_addressed(
            name,
            derivation,
            masked_hash(derivation, store, &lookup).map_err(unknown)?,
        );
        if let Err(refused) = raw {
            let Some(canonical) = with_canonical_attributes(derivation) else { return Err(refused) };
            let masked = masked_hash(&canonical, store, &lookup).map_err(unknown)?;
            check.input_addressed(name, &canonical, masked).map_err(|_| refused)?;
            return hash_modulo(&canonical, store, &lookup).map_err(unknown);
        }
    } else {
        check.fixed(name, derivation)?;
    }
    hash_modulo(derivation, store, &lookup).map_err(unknown)
}

/// The derivation with `__json` in its canonical form, when that is another text.
fn with_canonical_attributes(derivation: &Derivation) -> Option<Derivation> {
    let json = derivation.environment.get(b"__json".as_slice())?;
    let canonical = Value::parse(json).ok()?.to_json();
    if canonical == *json {
        return None;
    }
    let mut changed = derivation.clone();
    changed.environment.insert(b"__json".to_vec(), canonical);
    Some(changed)
}

struct Check<'a> {
    path: &'a StorePath,
    store: &'a StoreDir,
}

impl Check<'_> {
    fn shown(&self, path: &StorePath) -> String {
        self.store.display(path)
    }

    fn unsupported(&self, problem: &'static str) -> VerifyError {
        VerifyError::Unsupported { path: self.shown(self.path), problem }
    }

    fn input_addressed(
        &self,
        name: &str,
        derivation: &Derivation,
        masked: [u8; 32],
    ) -> Result<(), VerifyError> {
        for output in derivation.outputs.keys() {
            let should_be = output_path(self.store, &masked, name, output)
                .map_err(|source| VerifyError::Name { path: self.shown(self.path), source })?;
            self.output(derivation, output, &should_be)?;
        }
        Ok(())
    }

    fn fixed(&self, name: &str, derivation: &Derivation) -> Result<(), VerifyError> {
        let Some((_, method, hash)) = derivation.fixed_output() else { return Ok(()) };
        let should_be = fixed_path(self.store, name, "out", method, hash)
            .map_err(|source| VerifyError::Name { path: self.shown(self.path), source })?;
        self.output(derivation, "out", &should_be)
    }

    fn output(
        &self,
        derivation: &Derivation,
        output: &str,
        should_be: &StorePath,
    ) -> Result<(), VerifyError> {
        let claimed = derivation.outputs.get(output).and_then(Output::path);
        if claimed != Some(should_be) {
            return Err(VerifyError::WrongOutput {
                path: self.shown(self.path),
                output: claimed.map(|path| self.shown(path)).unwrap_or_default(),
                should_be: self.shown(should_be),
            });
        }
        let should_be = self.shown(should_be);
        // Structured attributes carry no variable for an output.
        match derivation.environment.get(output.as_bytes()) {
            Some(value) if value == should_be.as_bytes() => Ok(()),
            None if derivation.is_structured() => Ok(()),
            _ => Err(VerifyError::WrongVariable {
                path: self.shown(self.path),
                variable: output.to_owned(),
                should_be,
            }),
        }
    }
}
