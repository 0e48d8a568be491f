//! From a derivation to the process that builds it: program, arguments, environment, files. Pure; as Nix 2.34 does it.

mod environment;
mod graph;
pub mod placeholders;

use crate::derivation::Derivation;
use crate::narinfo::PathInfo;
use crate::store_path::{NotFound, StoreDir, StorePath};
use crate::structured::{JsonError, Value, attributes_script};
use placeholders::Placeholders;
use std::collections::BTreeMap;
use thiserror::Error;

/// Where a build happens, inside the sandbox.
pub const BUILD_DIRECTORY: &str = "/build";

/// Why a derivation cannot become a process; the texts are Nix's.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ProcessError {
    /// `exportReferencesGraph` has a name without a path.
    #[error("odd number of tokens in 'exportReferencesGraph': '{0}'")]
    OddTokens(String),
    /// A file of `exportReferencesGraph` cannot be called so.
    #[error("invalid file name '{0}' in 'exportReferencesGraph'")]
    GraphFileName(String),
    /// A path of `exportReferencesGraph` is not one that the build sees.
    #[error(
        "cannot export references of path '{0}' because it is not in the input closure of the derivation"
    )]
    NotInClosure(String),
    /// A value of `exportReferencesGraph` is not a store path.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// A derivation in `exportReferencesGraph` has an output that is no input: Nix knows only what happens to be built.
    #[error("path '{0}' is not valid")]
    NotValid(String),
    /// A value of `exportReferencesGraph` names no paths.
    #[error("'exportReferencesGraph' value is not an array or a string")]
    GraphKind,
    /// Structured attributes are not JSON.
    #[error("cannot process structured attributes")]
    Json(#[from] JsonError),
    /// Structured attributes have another type than they must.
    #[error("attribute '{attribute}' must be {expected}")]
    Type {
        /// The attribute.
        attribute: String,
        /// What it must be.
        expected: &'static str,
    },
}

/// A file that stands in the build directory when the process starts: mode 0644, the build user's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuildFile {
    /// Its name there.
    pub name: String,
    /// Its contents.
    pub contents: Vec<u8>,
}

/// What there is to know about the surroundings.
pub struct Surroundings<'a> {
    /// The store's directory.
    pub store: &'a StoreDir,
    /// `NIX_BUILD_CORES`.
    pub cores: u32,
    /// Where the outputs are made: their paths, or temporary ones.
    pub outputs: &'a BTreeMap<String, StorePath>,
    /// The closure of the inputs.
    pub closure: &'a BTreeMap<StorePath, PathInfo>,
    /// Outputs of a derivation of the closure, for reference graphs that contain `.drv` files; `None` when it cannot be read.
    pub outputs_of: &'a dyn Fn(&StorePath) -> Option<Vec<StorePath>>,
    /// The executor's own environment, for `impureEnvVars` of fixed outputs.
    pub impure_variable: &'a dyn Fn(&[u8]) -> Option<Vec<u8>>,
}

/// The process that builds a derivation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// The program, executed as it is given.
    pub builder: Vec<u8>,
    /// `argv`: the base name of the program first.
    pub arguments: Vec<Vec<u8>>,
    /// `envp`, sorted by name.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// Files in the build directory.
    pub files: Vec<BuildFile>,
}

/// The process of a derivation.
pub fn process(derivation: &Derivation, surroundings: &Surroundings<'_>) -> Result<Process, ProcessError> {
    let placeholders = Placeholders::of(surroundings.outputs, surroundings.store);
    let mut files = Vec::new();
    let mut variables = environment::defaults(surroundings);
    let structured = match derivation.environment.get(b"__json".as_slice()) {
        Some(json) => Some(Value::parse(json)?),
        None => None,
    };
    match &structured {
        Some(attributes) => {
            files = structured_files(attributes, surroundings, &placeholders)?;
            environment::structured(&mut variables);
        }
        None => {
            files.extend(graph::plain(derivation, surroundings)?);
            files.extend(environment::attributes(derivation, &placeholders, &mut variables));
        }
    }
    environment::fixed_by_nix(&mut variables);
    if derivation.fixed_output().is_some() {
        let names = environment::impure_names(derivation, structured.as_ref())?;
        environment::impure(names, surroundings, &mut variables);
    }
    environment::last(&mut variables);
    // Nix replaces placeholders in everything but the builder's own name.
    let builder = derivation.builder.clone();
    let base_name = derivation.builder.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let given = derivation.arguments.iter().map(Vec::as_slice);
    let arguments = std::iter::once(base_name.to_vec())
        .chain(given.map(|argument| placeholders.replace(argument)))
        .collect();
    let environment = variables
        .into_iter()
        .map(|(name, value)| (placeholders.replace(&name), placeholders.replace(&value)))
        .collect();
    Ok(Process { builder, arguments, environment, files })
}

/// `.attrs.json` and `.attrs.sh`.
fn structured_files(
    attributes: &Value,
    surroundings: &Surroundings<'_>,
    placeholders: &Placeholders,
) -> Result<Vec<BuildFile>, ProcessError> {
    let Some(members) = attributes.as_object() else {
        return Err(ProcessError::Type { attribute: "__json".into(), expected: "an object" });
    };
    let mut members = members.clone();
    let shown =
        |(name, path): (&String, &StorePath)| (name.clone(), Value::String(surroundings.store.display(path)));
    let paths = surroundings.outputs.iter().map(shown);
    members.insert("outputs".into(), Value::Object(paths.collect()));
    if let Some(graphs) = attributes.get("exportReferencesGraph").and_then(Value::as_object) {
        for (key, value) in graphs {
            members.insert(key.clone(), graph::structured(value, surroundings)?);
        }
    }
    let script = attributes_script(&members);
    let json = Value::Object(members).to_json();
    let file = |name: &str, contents: &[u8]| BuildFile {
        name: name.into(),
        contents: placeholders.replace(contents),
    };
    Ok(vec![file(".attrs.sh", script.as_bytes()), file(".attrs.json", &json)])
}
