//! What the user asks for: `DRV`, `DRV!out,dev`, `DRV^out`, `DRV^*`, in the order in which results are named.
use crate::rpc::Wanted;
use model::StorePath;
use proto::convert::store_path;
use thiserror::Error;

/// Why an argument names no derivation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Not a path of a derivation in the store.
    #[error("`{argument}` is not a derivation: {problem}")]
    NotADerivation {
        /// As given.
        argument: String,
        /// What is wrong.
        problem: String,
    },
    /// An output name that cannot be one.
    #[error("`{argument}`: `{output}` is not the name of an output")]
    BadOutput {
        /// As given.
        argument: String,
        /// The name.
        output: String,
    },
    /// The derivation has no such output.
    #[error("derivation {derivation} has no output `{output}`; it has {}", outputs.join(", "))]
    NoSuchOutput {
        /// The derivation.
        derivation: StorePath,
        /// The name that was asked for.
        output: String,
        /// Those that it has.
        outputs: Vec<String>,
    },
}

/// Which outputs of a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outputs {
    /// `out`, or the only one.
    Default,
    /// Every one.
    All,
    /// These, in this order.
    Named(Vec<String>),
}

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The derivation.
    pub derivation: StorePath,
    /// Which outputs.
    pub outputs: Outputs,
}

impl Target {
    /// Whether an argument is meant as a derivation, not as a Nix file.
    pub fn is_meant_by(argument: &str) -> bool {
        let path = argument.split(['!', '^']).next().unwrap_or(argument);
        path.ends_with(".drv")
    }

    /// Reads an argument.
    pub fn parse(argument: &str) -> Result<Self, Error> {
        let (path, outputs) = match argument.split_once(['!', '^']) {
            None => (argument, Outputs::Default),
            Some((path, "*")) => (path, Outputs::All),
            Some((path, names)) => {
                let names: Vec<String> = names.split(',').map(str::to_owned).collect();
                let is_name = |name: &&String| {
                    !name.is_empty()
                        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte))
                };
                if let Some(output) = names.iter().find(|name| !is_name(name)) {
                    return Err(Error::BadOutput { argument: argument.to_owned(), output: output.clone() });
                }
                (path, Outputs::Named(names))
            }
        };
        let refuse = |problem| Error::NotADerivation { argument: argument.to_owned(), problem };
        let derivation = store_path("path", path).map_err(|error| refuse(error.problem))?;
        if !path.ends_with(".drv") {
            return Err(refuse("its name does not end in .drv".to_owned()));
        }
        Ok(Self { derivation, outputs })
    }

    /// The outputs that are meant of those that the derivation has, in order.
    pub fn select(&self, available: &[String]) -> Result<Vec<String>, Error> {
        match &self.outputs {
            Outputs::All => Ok(available.to_vec()),
            Outputs::Default if available.iter().any(|name| name == "out") => Ok(vec!["out".to_owned()]),
            Outputs::Default if available.len() == 1 => Ok(available.to_vec()),
            Outputs::Default => Err(self.no_such("out", available)),
            Outputs::Named(names) => match names.iter().find(|name| !available.contains(name)) {
                Some(missing) => Err(self.no_such(missing, available)),
                None => Ok(names.clone()),
            },
        }
    }

    fn no_such(&self, output: &str, available: &[String]) -> Error {
        Error::NoSuchOutput {
            derivation: self.derivation.clone(),
            output: output.to_owned(),
            outputs: available.to_vec(),
        }
    }
}

/// One wanted output, in the order of the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The derivation.
    pub derivation: StorePath,
    /// The output's name.
    pub output: String,
    /// The output's path, if the derivation says it.
    pub path: Option<StorePath>,
}

/// The request for the coordinator: each derivation once, with the union of its outputs.
pub fn request(items: &[Item]) -> Vec<Wanted> {
    let mut request: Vec<Wanted> = Vec::new();
    for item in items {
        match request.iter_mut().find(|wanted| wanted.derivation == item.derivation) {
            Some(wanted) => wanted.outputs.push(item.output.clone()),
            None => request
                .push(Wanted { derivation: item.derivation.clone(), outputs: vec![item.output.clone()] }),
        }
    }
    for wanted in &mut request {
        wanted.outputs.sort();
        wanted.outputs.dedup();
    }
    request
}

/// Names of the links, as nix-build gives them: the second derivation gets `-2`, an output other than `out` its name.
pub fn link_names(base: &str, items: &[Item]) -> Vec<String> {
    let mut derivations: Vec<&StorePath> = Vec::new();
    let mut names = Vec::with_capacity(items.len());
    for item in items {
        let index = derivations.iter().position(|seen| **seen == item.derivation).unwrap_or_else(|| {
            derivations.push(&item.derivation);
            derivations.len() - 1
        });
        let mut name = base.to_owned();
        if index > 0 {
            name.push_str(&format!("-{}", index + 1));
        }
        if item.output != "out" {
            name.push_str(&format!("-{}", item.output));
        }
        names.push(name);
    }
    names
}
