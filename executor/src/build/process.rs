//! Between our words and `nix_formats`: the process of a derivation, and the checks of its outputs.
use super::failure::failure;
use super::jail::BUILD_DIRECTORY;
use super::outputs::Examined;
use super::prepare::Prepared;
use crate::lease::Lease;
use crate::store::{Store, base_name};
use model::limits::DERIVATION_BYTES_MAX;
use model::{Failure, FailureClass, PathFacts, StorePath};
use nix_formats::checks::{self, Facts, Known};
use nix_formats::derivation;
use nix_formats::narinfo::PathInfo;
use nix_formats::process::{self, Surroundings};
use nix_formats::store_path::{StoreDir, StorePath as BaseName};
use sandbox::spec::Command;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What process 1 of the build is given.
#[derive(Clone, Debug)]
pub struct Process {
    /// Program, arguments, environment, directory.
    pub command: Command,
    /// Files in the build directory: name and contents.
    pub files: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The process of a derivation, as Nix starts it. Reads `.drv` files of the closure where a reference graph has some.
///
/// # Errors
/// Class `InputRejected`: attributes that Nix refuses.
pub fn process(lease: &Lease, prepared: &Prepared, cores: u32, store: &Store) -> Result<Process, Failure> {
    let closure = lease.inputs.iter().filter_map(|input| {
        let info = path_info(&input.id.path, &input.facts)?;
        Some((info.path.clone(), info))
    });
    let store_dir = StoreDir::default();
    let outputs = prepared.outputs.iter();
    let outputs = outputs.filter_map(|output| Some((output.name.clone(), parsed(&output.path)?)));
    let surroundings = Surroundings {
        store: &store_dir,
        cores,
        outputs: &outputs.collect(),
        closure: &closure.collect(),
        outputs_of: &|path| outputs_of(path, lease, store),
        impure_variable: &|name| std::env::var_os(OsStr::from_bytes(name)).map(OsStringExt::into_vec),
    };
    let process = process::process(&prepared.derivation, &surroundings)
        .map_err(|error| failure(FailureClass::InputRejected, node::exit::chain(&error)))?;
    let variable = |(name, value): (Vec<u8>, Vec<u8>)| [name.as_slice(), b"=", &value].concat().into();
    Ok(Process {
        command: Command {
            program: process.builder.into(),
            arguments: process.arguments.into_iter().map(Into::into).collect(),
            environment: process.environment.into_iter().map(variable).collect(),
            directory: BUILD_DIRECTORY.into(),
        },
        files: process.files.into_iter().map(|file| (file.name.into_bytes(), file.contents)).collect(),
    })
}

/// The output paths of a derivation that is an input itself.
fn outputs_of(path: &BaseName, lease: &Lease, store: &Store) -> Option<Vec<BaseName>> {
    let input = lease.inputs.iter().find(|input| base_name(&input.id.path) == path.base_name())?;
    let file = std::fs::File::open(store.tree(&input.id)).ok()?;
    let mut text = Vec::new();
    let mut bounded = file.take(u64::try_from(DERIVATION_BYTES_MAX).ok()?);
    std::io::copy(&mut bounded, &mut text).ok()?;
    let derivation = derivation::parse(&text, &StoreDir::default()).ok()?;
    Some(derivation.outputs.values().filter_map(|output| output.path().cloned()).collect())
}

fn parsed(path: &StorePath) -> Option<BaseName> {
    BaseName::parse_base_name(base_name(path)).ok()
}

fn path_info(path: &StorePath, facts: &PathFacts) -> Option<PathInfo> {
    Some(PathInfo {
        path: parsed(path)?,
        nar_sha256: facts.nar_sha256,
        nar_size: facts.nar_size,
        references: facts.references.iter().filter_map(parsed).collect(),
        deriver: facts.deriver.as_ref().and_then(parsed),
        content_address: facts.content_address.clone(),
        signatures: Vec::new(),
    })
}

/// Checks what the derivation demands of its outputs' references and sizes.
///
/// # Errors
/// What is not allowed, in Nix's words.
pub fn check_outputs(lease: &Lease, prepared: &Prepared, outputs: &[Examined]) -> Result<(), String> {
    let facts_of = |path: &StorePath, nar_size: u64, references: &[StorePath]| {
        let references: BTreeSet<_> = references.iter().filter_map(parsed).collect();
        Some((parsed(path)?, Facts { nar_size, references }))
    };
    let inputs = lease
        .inputs
        .iter()
        .filter_map(|input| facts_of(&input.id.path, input.facts.nar_size, &input.facts.references));
    let made =
        outputs.iter().filter_map(|output| facts_of(&output.path, output.nar_size, &output.references));
    let facts: BTreeMap<_, _> = inputs.chain(made).collect();
    let named: BTreeMap<_, _> = outputs
        .iter()
        .filter_map(|output| Some((output.expected.name.clone(), parsed(&output.path)?)))
        .collect();
    let derivation_path =
        parsed(&lease.built).ok_or_else(|| "the derivation has no store path".to_owned())?;
    let known = Known {
        store: &StoreDir::default(),
        derivation_path: &derivation_path,
        outputs: &named,
        facts: &facts,
    };
    checks::check_outputs(&prepared.options.checks, &known)
}
