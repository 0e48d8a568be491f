//! From a lease to what is to be built: the derivation read and verified, outputs, candidates for references. Pure.
use super::failure::failure;
use super::outputs::{Expected, Fixed, Floating};
use crate::lease::Lease;
use crate::store::base_name;
use model::{Failure, FailureClass, Platform, StorePath};
use nix_formats::derivation::{self, Derivation, Method, Output};
use nix_formats::modulo;
use nix_formats::options::Options;
use nix_formats::resolve;
use nix_formats::store_path::{StoreDir, StorePath as BaseName};

/// A build that may begin.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What the lease's text says.
    pub derivation: Derivation,
    /// What it demands of its build.
    pub options: Options,
    /// Its outputs, by name.
    pub outputs: Vec<Expected>,
    /// Whether it is a fixed-output derivation, which sees the network.
    pub is_fixed: bool,
    /// Paths that can become references: the input closure and the outputs.
    pub candidates: Vec<BaseName>,
}

fn rejected(message: impl Into<String>) -> Failure {
    failure(FailureClass::InputRejected, message)
}

/// Reads and verifies the derivation of a lease.
///
/// # Errors
/// Class `InputRejected`: malformed, forged, or of a kind that is not built here.
pub fn prepare(lease: &Lease) -> Result<Prepared, Failure> {
    let store = StoreDir::default();
    let path = &lease.built;
    let derivation = derivation::parse(&lease.derivation_text, &store)
        .map_err(|error| rejected(format!("cannot build '{path}': {error}")))?;
    verify_own_path(&store, path, &derivation, &lease.derivation_text)?;
    let options = Options::of(&derivation).map_err(rejected)?;
    check_system(path, &derivation, &options, &lease.platform)?;
    let mut outputs = Vec::with_capacity(derivation.outputs.len());
    for (name, output) in &derivation.outputs {
        let expected = expect(&store, path, name, output)?;
        outputs.push(Expected { discard_references: options.discarded.contains(name), ..expected });
    }
    let candidates = candidates(lease, &outputs);
    Ok(Prepared { is_fixed: derivation.fixed_output().is_some(), derivation, options, outputs, candidates })
}

/// What one output is to be, and where it is made.
fn expect(store: &StoreDir, path: &StorePath, name: &str, output: &Output) -> Result<Expected, Failure> {
    let (output_path, fixed, floating) = match output {
        Output::InputAddressed { path } => (path.clone(), None, None),
        Output::Fixed { path, method: method @ (Method::Flat | Method::Recursive), hash } => {
            let is_recursive = *method == Method::Recursive;
            (path.clone(), Some(Fixed { is_recursive, hash: hash.clone() }), None)
        }
        Output::Floating { method: method @ (Method::Flat | Method::Recursive), algorithm } => {
            let own = BaseName::parse_base_name(base_name(path));
            let temporary = own.and_then(|own| resolve::temporary_path(store, &own, name));
            let temporary = temporary.map_err(|error| rejected(error.to_string()))?;
            let is_recursive = *method == Method::Recursive;
            (temporary, None, Some(Floating { is_recursive, algorithm: *algorithm }))
        }
        Output::Fixed { .. } | Output::Floating { .. } | Output::Impure => {
            return Err(rejected(format!(
                "cannot build '{path}': output '{name}' is impure, or a text that is addressed by its content: Elsewhere \
                 does not build such derivations"
            )));
        }
        Output::Deferred => {
            return Err(rejected(format!(
                "cannot build '{path}': the path of output '{name}' depends on inputs that the lease does not resolve"
            )));
        }
    };
    let output_path = StorePath::from_validated(&store.display(&output_path));
    Ok(Expected { name: name.to_owned(), path: output_path, fixed, floating, discard_references: false })
}

/// A `.drv` must hash to its own path: a lease cannot be used to make something else under a known name.
fn verify_own_path(
    store: &StoreDir,
    path: &StorePath,
    derivation: &Derivation,
    text: &[u8],
) -> Result<(), Failure> {
    let given = base_name(path);
    let file_name = given.split_once('-').map_or("", |parts| parts.1);
    let computed = modulo::derivation_path(store, file_name, text, &derivation.references());
    match computed {
        Ok(computed) if computed.base_name() == given => Ok(()),
        Ok(computed) => {
            Err(rejected(format!("the derivation of '{path}' hashes to '{}'", store.display(&computed))))
        }
        Err(error) => Err(rejected(error.to_string())),
    }
}

fn check_system(
    path: &StorePath,
    derivation: &Derivation,
    options: &Options,
    platform: &Platform,
) -> Result<(), Failure> {
    if options.no_sandbox {
        return Err(rejected(format!(
            "derivation '{path}' has '__noChroot' set, but that's not allowed when 'sandbox' is 'true'"
        )));
    }
    // Of those none is allowed here.
    if let Some(host_path) = options.host_dependencies.first() {
        if !host_path.starts_with('/') {
            return Err(rejected(format!("not an absolute path: \"{host_path}\"")));
        }
        return Err(rejected(format!(
            "derivation '{path}' requested impure path '{host_path}', but it was not in allowed-impure-host-deps"
        )));
    }
    let runs = match platform {
        Platform::Builtin => derivation.is_builtin(),
        _ => platform.system() == derivation.system && !derivation.is_builtin(),
    };
    if runs {
        return Ok(());
    }
    let own = format!("{}-linux", std::env::consts::ARCH);
    let current = if *platform == Platform::Builtin { &own } else { platform.system() };
    Err(rejected(format!(
        "Cannot build '{path}'.\nReason: platform mismatch\nRequired system: '{}'\nCurrent system: '{}'",
        derivation.system, current
    )))
}

fn candidates(lease: &Lease, outputs: &[Expected]) -> Vec<BaseName> {
    let inputs = lease.inputs.iter().map(|input| &input.id.path);
    let paths = inputs.chain(outputs.iter().map(|output| &output.path));
    // All were validated at the door.
    paths.filter_map(|path| BaseName::parse_base_name(base_name(path)).ok()).collect()
}
