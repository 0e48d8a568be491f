//! Derivations whose inputs' paths are known only now: what they come to, and whether what came of them has the path that it says.
use crate::knowledge::Knowledge;
use crate::paths;
use crate::submit::known_content;
use cas::ContentStore;
use model::{BuiltOutput, ContentId, Outcome, StorePath, TaskId};
use nix_formats::content_address::ContentAddress;
use nix_formats::derivation::{self, DerivationError, Method};
use nix_formats::modulo;
use nix_formats::resolve::{ResolveError, Resolved, resolve};
use nix_formats::store_path::{self, StoreDir, StorePathError, output_path_name};
use scheduler::Resolution;
use std::collections::HashMap;
use thiserror::Error;

/// Why a derivation cannot be resolved.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ResolutionError {
    /// It is not known.
    #[error("the text of derivation {0} is not known")]
    Unknown(StorePath),
    /// Its recorded text is none.
    #[error("read the recorded derivation '{path}'")]
    Derivation {
        /// The `.drv` file.
        path: StorePath,
        /// Why not.
        source: DerivationError,
    },
    /// An output of an input is not there.
    #[error("put the paths of its inputs into derivation '{path}'")]
    Resolve {
        /// The `.drv` file.
        path: StorePath,
        /// Why not.
        source: ResolveError,
    },
    /// Not a store path after all.
    #[error(transparent)]
    Path(#[from] StorePathError),
}

/// Puts paths into a task's derivation; `bound` has those that are not known from derivations alone.
///
/// # Errors
/// A path is missing.
pub fn resolved(
    task: &TaskId,
    bound: &[(StorePath, StorePath)],
    knowledge: &Knowledge,
) -> Result<Resolved, ResolutionError> {
    let path = &task.path;
    let known = knowledge.derivation(path).ok_or_else(|| ResolutionError::Unknown(path.clone()))?;
    let store = StoreDir::default();
    let derivation = derivation::parse(&known.text, &store)
        .map_err(|source| ResolutionError::Derivation { path: path.clone(), source })?;
    let bound: HashMap<&StorePath, &StorePath> =
        bound.iter().map(|(promise, path)| (promise, path)).collect();
    let realised = |input: &store_path::StorePath, output: &str| {
        let input = knowledge.derivation(&paths::full(input))?;
        let said = input.output(output)?;
        paths::base(bound.get(said).copied().unwrap_or(said)).ok()
    };
    let file_name = paths::base(path)?.name().to_owned();
    resolve(&derivation, &file_name, &store, realised)
        .map_err(|source| ResolutionError::Resolve { path: path.clone(), source })
}

/// What a task's outputs are once it is resolved, and what is known of them.
///
/// # Errors
/// It cannot be resolved.
pub fn resolution(
    task: &TaskId,
    bound: &[(StorePath, StorePath)],
    knowledge: &Knowledge,
    store: &dyn ContentStore,
) -> Result<Resolution, ResolutionError> {
    let resolved = resolved(task, bound, knowledge)?;
    let path = paths::full(&resolved.path);
    let mut resolution = Resolution { outputs: Vec::new(), contents: Vec::new(), bindings: Vec::new() };
    for (name, output) in &resolved.derivation.outputs {
        let output = output.path().map_or_else(|| StorePath::promised(&path, name), paths::full);
        let id = ContentId { domain: task.domain.clone(), path: output };
        resolution.bindings.extend(knowledge.bindings(&id));
        // What is known of it is of no use without what it refers to.
        if let Some(real) = knowledge.realised(&id)
            && let Ok(closure) = knowledge.closure([real])
        {
            let known = closure.into_iter().map(|(id, known)| known_content(store, id, &known));
            resolution.contents.extend(known);
        }
        resolution.outputs.push((name.clone(), id));
    }
    Ok(resolution)
}

/// What Nix calls an output of a derivation that does not say its path.
pub fn realisation_id(derivation: &StorePath, output: &str, knowledge: &Knowledge) -> Option<String> {
    let known = knowledge.derivation(derivation)?;
    if !known.output(output)?.is_promise() {
        return None;
    }
    let store = StoreDir::default();
    let parsed = derivation::parse(&known.text, &store).ok()?;
    let lookup = |input: &store_path::StorePath| Some(knowledge.derivation(&paths::full(input))?.modulo);
    let masked = modulo::masked_hash(&parsed, &store, lookup).ok()?;
    Some(modulo::realisation_id(&masked, output))
}

/// Whether each output whose path follows from its content has the path that its hash and references give.
///
/// # Errors
/// The first that has not.
pub fn check_outcome(task: &TaskId, outcome: &Outcome, knowledge: &Knowledge) -> Result<(), String> {
    let (Outcome::Built(outputs), Some(known)) = (outcome, knowledge.derivation(&task.path)) else {
        return Ok(());
    };
    for output in outputs {
        if let Some(floating) = known.floating.iter().find(|floating| floating.name == output.name) {
            let name = output_path_name(&known.name, &output.name);
            let kind = (floating.method, floating.algorithm);
            check(output, &name, kind).map_err(|problem| format!("output {}: {problem}", output.name))?;
        }
    }
    Ok(())
}

fn check(
    output: &BuiltOutput,
    name: &str,
    (method, algorithm): (Method, nix_formats::hash::HashAlgorithm),
) -> Result<(), String> {
    let address = output.facts.content_address.as_deref().ok_or("it has no content address")?;
    let address = ContentAddress::parse(address).map_err(|error| error.to_string())?;
    let is_as_asked = match (&address, method) {
        (ContentAddress::Flat(hash), Method::Flat) | (ContentAddress::Recursive(hash), Method::Recursive) => {
            hash.algorithm == algorithm
        }
        _ => false,
    };
    if !is_as_asked {
        return Err(format!("its content address {address} is not of the kind that the derivation asks for"));
    }
    let parsed = |path: &StorePath| paths::base(path).map_err(|error| error.to_string());
    let own = parsed(&output.path)?;
    let references = output.facts.references.iter().map(parsed).collect::<Result<Vec<_>, _>>()?;
    match address.implied_path(&StoreDir::default(), name, &references, &own) {
        Some(implied) if implied == own => Ok(()),
        Some(implied) => Err(format!("its content address and references give {implied}, not {own}")),
        None => Err(format!("its content address {address} does not allow such references")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::KnownDerivation;
    use model::{PathFacts, TrustDomain};
    use nix_formats::modulo::ModuloHash;
    use std::sync::Arc;

    /// Of real Nix 2.34: `up` is built, `mid` refers to it and to itself.
    const MID: &str = "/nix/store/r9rn9gphjnmvblrz35bw6qpgnarbddyq-mid.drv";
    const TEXT: &str = r#"Derive([("out","","r:sha256","")],[("/nix/store/vzkgylg8gl6bdpfgrahh6b1mlcqc7wg8-up.drv",["out"])],[],"x86_64-linux","/bin/sh",["-c","read a < /0x839z78fkrpg437k8ddbjgf3g9q188kfq1sg65hk843391d0kqk; echo $a /0x839z78fkrpg437k8ddbjgf3g9q188kfq1sg65hk843391d0kqk $out > $out"],[("builder","/bin/sh"),("name","mid"),("out","/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"),("outputHashAlgo","sha256"),("outputHashMode","recursive"),("system","x86_64-linux")])"#;
    const UP: &str = "/nix/store/l96jdv4cb8cv9971kql5fssb850apny6-up";
    const OUT: &str = "/nix/store/6gjn73hhm2lbr13sn8ii6fbr5skmcbja-mid";
    const ADDRESS: &str = "fixed:r:sha256:0ranhkzcansrzh6rbrqh6gxax48k9k04wi6l3549irs6qrc29c24";

    fn path(text: &str) -> StorePath {
        StorePath::from_validated(text)
    }

    fn checked(claimed: &str, references: &[&str], address: Option<&str>) -> Result<(), String> {
        let (knowledge, modulo) = (Knowledge::default(), ModuloHash([0; 32]));
        let known = KnownDerivation::read(&path(MID), Arc::from(TEXT.as_bytes()), modulo).unwrap();
        knowledge.insert_derivation(path(MID), known);
        let facts = PathFacts {
            nar_sha256: [1; 32],
            nar_size: 216,
            references: references.iter().map(|reference| path(reference)).collect(),
            deriver: None,
            content_address: address.map(str::to_owned),
        };
        let output = BuiltOutput { name: "out".into(), path: path(claimed), facts };
        let task = TaskId { domain: TrustDomain::Shared, path: path(MID) };
        check_outcome(&task, &Outcome::Built(vec![output]), &knowledge)
    }

    #[test]
    fn an_output_has_the_path_that_its_content_address_gives_or_is_not_believed() {
        assert_eq!(checked(OUT, &[UP, OUT], Some(ADDRESS)), Ok(()));
        let other = "/nix/store/7gjn73hhm2lbr13sn8ii6fbr5skmcbja-mid";
        let flat = ADDRESS.replace("fixed:r:", "fixed:");
        let sha1 = "fixed:r:sha1:kwxza8jlvm8xv9gbhj2fxjvg4bp4cnqn";
        for (claimed, references, address, part) in [
            (other, &[UP, other] as &[&str], Some(ADDRESS), "give"),
            (OUT, &[OUT], Some(ADDRESS), "give"),
            (OUT, &[UP], Some(ADDRESS), "give"),
            (OUT, &[UP, OUT], None, "no content address"),
            (OUT, &[UP, OUT], Some(flat.as_str()), "not of the kind"),
            (OUT, &[UP, OUT], Some(sha1), "not"),
            (OUT, &[UP, OUT], Some("fixed:r:sha256:x"), "not a content address"),
        ] {
            let refused = checked(claimed, references, address).unwrap_err();
            assert!(refused.starts_with("output out: ") && refused.contains(part), "{refused}");
        }
    }
}
