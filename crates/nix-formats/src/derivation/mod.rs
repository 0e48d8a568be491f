//! Derivations: our own types, and the rules that every one of them keeps.
//!
//! Texts are read and written by our own code: builder, arguments and environment are byte strings in real
//! derivations (Latin-1 patches, for example), which the crate `nix-derivation` refuses. It is the oracle of a test.

mod parse;
pub mod write;

use crate::hash::{Hash, HashAlgorithm};
use crate::store_path::{StoreDir, StorePath, StorePathError, output_path_name};
pub use parse::{DerivationError, parse};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
pub use write::{InputKey, write_aterm};

/// How the content of a fixed output is hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// The contents of one regular file.
    Flat,
    /// The NAR.
    Recursive,
    /// The contents of one text file.
    Text,
}

/// One output of a derivation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Its path follows from the derivation.
    InputAddressed {
        /// The path.
        path: StorePath,
    },
    /// Its path follows from the hash of its content, known before the build.
    Fixed {
        /// The path.
        path: StorePath,
        /// How the content is hashed.
        method: Method,
        /// The hash.
        hash: Hash,
    },
    /// Content-addressed, path known after the build.
    Floating {
        /// How the content is hashed; never as a text.
        method: Method,
        /// With what.
        algorithm: HashAlgorithm,
    },
    /// Input-addressed, but an input's path is not known yet.
    Deferred,
    /// Different at every build.
    Impure,
}

impl Output {
    /// The path, when it is known before the build.
    pub fn path(&self) -> Option<&StorePath> {
        match self {
            Self::InputAddressed { path } | Self::Fixed { path, .. } => Some(path),
            Self::Floating { .. } | Self::Deferred | Self::Impure => None,
        }
    }
}

/// A derivation, as its text says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Derivation {
    /// Outputs by name.
    pub outputs: BTreeMap<String, Output>,
    /// Derivations whose outputs it needs, and which outputs.
    pub input_derivations: BTreeMap<StorePath, BTreeSet<String>>,
    /// Other store paths that it needs.
    pub input_sources: BTreeSet<StorePath>,
    /// The system that it runs on.
    pub system: String,
    /// The program.
    pub builder: Vec<u8>,
    /// Its arguments.
    pub arguments: Vec<Vec<u8>>,
    /// The environment.
    pub environment: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Derivation {
    /// An environment variable as text. What is no text in it reads as such signs as nothing else has.
    pub fn env(&self, name: &str) -> Option<Cow<'_, str>> {
        self.environment.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value))
    }

    /// The words of an environment variable that is a list.
    pub fn words(&self, name: &str) -> Option<Vec<String>> {
        let text = self.env(name)?;
        Some(text.split(is_separator).filter(|word| !word.is_empty()).map(str::to_owned).collect())
    }

    /// Whether an environment variable is exactly `1`, Nix's truth.
    pub fn env_is_true(&self, name: &str) -> bool {
        self.environment.get(name.as_bytes()).is_some_and(|value| value == b"1")
    }

    /// Whether its builder is one of Nix's own, which runs no program and on any system.
    pub fn is_builtin(&self) -> bool {
        self.builder.starts_with(b"builtin:")
    }

    /// Whether its attributes are structured (`__json`).
    pub fn is_structured(&self) -> bool {
        self.environment.contains_key(b"__json".as_slice())
    }

    /// The single fixed output, if this is a fixed-output derivation.
    pub fn fixed_output(&self) -> Option<(&StorePath, Method, &Hash)> {
        match self.outputs.get("out") {
            Some(Output::Fixed { path, method, hash }) => Some((path, *method, hash)),
            _ => None,
        }
    }

    /// Whether some output's path is known only when the derivation's inputs, or the outputs themselves, are there.
    pub fn has_unknown_paths(&self) -> bool {
        self.outputs.values().any(|output| output.path().is_none())
    }

    /// The text that Nix writes for it.
    pub fn to_aterm(&self, store: &StoreDir) -> Vec<u8> {
        write_aterm(self, store, &InputKey::Paths, false)
    }

    /// All store paths that its `.drv` file refers to.
    pub fn references(&self) -> BTreeSet<StorePath> {
        self.input_sources.iter().chain(self.input_derivations.keys()).cloned().collect()
    }

    /// `requiredSystemFeatures`, sorted; from the structured attributes where there are some.
    pub fn required_features(&self) -> Vec<String> {
        let mut features: Vec<String> = match self.environment.get(b"__json".as_slice()) {
            Some(json) => structured_strings(json, "requiredSystemFeatures"),
            None => self.words("requiredSystemFeatures").unwrap_or_default(),
        };
        features.sort();
        features.dedup();
        features
    }
}

/// What stands between the words of a list; other white space is part of them.
pub fn is_separator(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r')
}

/// A list of strings among structured attributes; anything else counts as empty here, and fails in the build.
fn structured_strings(json: &[u8], key: &str) -> Vec<String> {
    let parsed = crate::structured::Value::parse(json).ok();
    let list = parsed.as_ref().and_then(|attributes| attributes.get(key)).and_then(|value| value.as_array());
    list.unwrap_or_default().iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The name of a derivation, from the path of its `.drv` file.
pub fn derivation_name(path: &StorePath) -> Option<&str> {
    path.name().strip_suffix(".drv")
}

/// The path that a fixed output's hash implies.
pub fn fixed_path(
    store: &StoreDir,
    derivation_name: &str,
    output: &str,
    method: Method,
    hash: &Hash,
) -> Result<StorePath, StorePathError> {
    let name = output_path_name(derivation_name, output);
    match method {
        Method::Flat => store.fixed_output_path(&name, hash, false),
        Method::Recursive => store.fixed_output_path(&name, hash, true),
        Method::Text => {
            let digest = hash.digest().try_into().unwrap_or([0; 32]);
            store.text_path(&name, &digest, [])
        }
    }
}
