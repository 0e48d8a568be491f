//! The environment: who sets what, and who wins. Later steps override earlier ones.
use super::placeholders::Placeholders;
use super::{BUILD_DIRECTORY, BuildFile, ProcessError, Surroundings};
use crate::base32;
use crate::derivation::{Derivation, is_separator};
use crate::hash::sha256;
use crate::structured::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Variables by name.
pub type Variables = BTreeMap<Vec<u8>, Vec<u8>>;

fn set(variables: &mut Variables, name: &str, value: impl Into<Vec<u8>>) {
    variables.insert(name.into(), value.into());
}

/// What the derivation may override.
pub fn defaults(surroundings: &Surroundings<'_>) -> Variables {
    let mut variables = Variables::new();
    set(&mut variables, "PATH", "/path-not-set");
    set(&mut variables, "HOME", "/homeless-shelter");
    set(&mut variables, "NIX_STORE", surroundings.store.as_str());
    set(&mut variables, "NIX_BUILD_CORES", surroundings.cores.to_string());
    variables
}

/// The derivation's attributes; those in `passAsFile` become files.
pub fn attributes(
    derivation: &Derivation,
    placeholders: &Placeholders,
    variables: &mut Variables,
) -> Vec<BuildFile> {
    let listed = derivation.environment.get(b"passAsFile".as_slice()).map_or(&[][..], Vec::as_slice);
    let as_file: BTreeSet<&[u8]> = words(listed).collect();
    let mut files = Vec::new();
    for (name, value) in &derivation.environment {
        if !as_file.contains(name.as_slice()) {
            variables.insert(name.clone(), value.clone());
            continue;
        }
        let file = format!(".attr-{}", base32::encode(&sha256(name)));
        variables
            .insert([name, b"Path".as_slice()].concat(), format!("{BUILD_DIRECTORY}/{file}").into_bytes());
        files.push(BuildFile { name: file, contents: placeholders.replace(value) });
    }
    files
}

/// With structured attributes: where they are, and nothing else.
pub fn structured(variables: &mut Variables) {
    set(variables, "NIX_ATTRS_SH_FILE", format!("{BUILD_DIRECTORY}/.attrs.sh"));
    set(variables, "NIX_ATTRS_JSON_FILE", format!("{BUILD_DIRECTORY}/.attrs.json"));
}

/// What the derivation may not override.
pub fn fixed_by_nix(variables: &mut Variables) {
    for name in ["NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP", "PWD"] {
        set(variables, name, BUILD_DIRECTORY);
    }
}

fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| is_separator(char::from(byte))).filter(|word| !word.is_empty())
}

/// `impureEnvVars`.
pub fn impure_names(
    derivation: &Derivation,
    structured: Option<&Value>,
) -> Result<Vec<Vec<u8>>, ProcessError> {
    let Some(attributes) = structured else {
        let listed = derivation.environment.get(b"impureEnvVars".as_slice());
        return Ok(words(listed.map_or(&[], Vec::as_slice)).map(<[u8]>::to_vec).collect());
    };
    let Some(value) = attributes.get("impureEnvVars") else { return Ok(Vec::new()) };
    let names =
        value.as_array().map(|items| items.iter().map(|item| item.as_str().map(Into::into)).collect());
    let wrong = || ProcessError::Type { attribute: "impureEnvVars".into(), expected: "a list of strings" };
    names.flatten().ok_or_else(wrong)
}

/// For fixed outputs: variables of the executor, empty where unset.
pub fn impure(names: Vec<Vec<u8>>, surroundings: &Surroundings<'_>, variables: &mut Variables) {
    set(variables, "NIX_OUTPUT_CHECKED", "1");
    for name in names {
        let value = (surroundings.impure_variable)(&name).unwrap_or_default();
        variables.insert(name, value);
    }
}

/// What nothing overrides.
pub fn last(variables: &mut Variables) {
    set(variables, "NIX_LOG_FD", "2");
    set(variables, "TERM", "xterm-256color");
}
