//! From a lease to what is to be built: the derivation read and verified, outputs, candidates for references. Pure.
use super::failure::failure;
use super::outputs::{Expected, Fixed};
use crate::lease::Lease;
use crate::store::base_name;
use model::{Failure, FailureClass, Platform, StorePath};
use nix_formats::derivation::{self, Derivation, Method, Output};
use nix_formats::modulo;
use nix_formats::options::Options;
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
    let path = &lease.derivation.path;
    let derivation = derivation::parse(&lease.derivation_text, &store)
        .map_err(|error| rejected(format!("cannot build '{path}': {error}")))?;
    verify_own_path(&store, path, &derivation, &lease.derivation_text)?;
    let options = Options::of(&derivation).map_err(rejected)?;
    check_system(path, &derivation, &options, &lease.platform)?;
    let mut outputs = Vec::with_capacity(derivation.outputs.len());
    for (name, output) in &derivation.outputs {
        let (output_path, fixed) = match output {
            Output::InputAddressed { path } => (path, None),
            Output::Fixed { path, method: Method::Flat, hash } => {
                (path, Some(Fixed { is_recursive: false, hash: hash.clone() }))
            }
            Output::Fixed { path, method: Method::Recursive, hash } => {
                (path, Some(Fixed { is_recursive: true, hash: hash.clone() }))
            }
            Output::Fixed { .. } | Output::Floating | Output::Deferred | Output::Impure => {
                return Err(rejected(format!(
                    "cannot build '{path}': output '{name}' is content-addressed, deferred, impure or a text: such \
                     derivations are not supported yet"
                )));
            }
        };
        outputs.push(Expected {
            name: name.clone(),
            path: StorePath::from_validated(&store.display(output_path)),
            fixed,
            discard_references: options.discarded.contains(name),
        });
    }
    let candidates = candidates(lease, &outputs);
    Ok(Prepared { is_fixed: derivation.fixed_output().is_some(), derivation, options, outputs, candidates })
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
