//! Plans that are not finished, so that they can be found again: one small file each in the user's state directory.
use crate::wanted::Item;
use model::{PlanId, StorePath};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a plan could not be written down or found.
#[derive(Debug, Error)]
pub enum Error {
    /// The file system refused.
    #[error("{doing} {}", path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No such plan.
    #[error("no unfinished plan {plan} is known here (looked in {})", directory.display())]
    Unknown {
        /// Its name.
        plan: PlanId,
        /// Where it would be.
        directory: PathBuf,
    },
    /// The file was not written by this program.
    #[error("read {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Output {
    derivation: String,
    output: String,
    path: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    coordinator: String,
    wanted: Vec<Output>,
    links: Vec<PathBuf>,
}

/// An unfinished plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Its name.
    pub plan: PlanId,
    /// Whose it is.
    pub coordinator: String,
    /// What was wanted.
    pub wanted: Vec<Item>,
    /// Absolute paths of the links to make, one for each wanted output; or none.
    pub links: Vec<PathBuf>,
}

/// The directory of unfinished plans.
#[derive(Debug, Clone)]
pub struct Plans {
    directory: PathBuf,
}

/// Files that are looked through for an older plan.
const PLANS_MAX: usize = 1000;

impl Plans {
    /// `$XDG_STATE_HOME/elsewhere/plans`, given the state home.
    pub fn below(state_home: &Path) -> Self {
        Self { directory: state_home.join("elsewhere/plans") }
    }

    fn file(&self, plan: PlanId) -> PathBuf {
        self.directory.join(plan.to_string())
    }

    /// Writes a plan down, whole or not at all.
    pub fn remember(&self, remembered: &Remembered) -> Result<(), Error> {
        let record = Record {
            coordinator: remembered.coordinator.clone(),
            wanted: remembered
                .wanted
                .iter()
                .map(|item| Output {
                    derivation: item.derivation.to_string(),
                    output: item.output.clone(),
                    path: item.path.as_ref().map(ToString::to_string).unwrap_or_default(),
                })
                .collect(),
            links: remembered.links.clone(),
        };
        let path = self.file(remembered.plan);
        let failed = |source| Error::File { doing: "write down the plan in", path: path.clone(), source };
        fs::create_dir_all(&self.directory).map_err(failed)?;
        let text = serde_json::to_vec_pretty(&record).map_err(|error| failed(error.into()))?;
        let part = path.with_extension("part");
        fs::write(&part, text).and_then(|()| fs::rename(&part, &path)).map_err(failed)
    }

    /// Forgets a plan that ended.
    pub fn forget(&self, plan: PlanId) -> Result<(), Error> {
        let path = self.file(plan);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::File { doing: "forget the plan in", path, source })
            }
            _ => Ok(()),
        }
    }

    /// A plan by its name.
    pub fn find(&self, plan: PlanId) -> Result<Remembered, Error> {
        let path = self.file(plan);
        let text = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Unknown { plan, directory: self.directory.clone() },
            _ => Error::File { doing: "read the plan in", path: path.clone(), source },
        })?;
        let record: Record =
            serde_json::from_slice(&text).map_err(|source| Error::Malformed { path, source })?;
        let item = |output: Output| Item {
            derivation: StorePath::from_validated(&output.derivation),
            output: output.output,
            path: Some(output.path)
                .filter(|path| !path.is_empty())
                .map(|path| StorePath::from_validated(&path)),
        };
        Ok(Remembered {
            plan,
            coordinator: record.coordinator,
            wanted: record.wanted.into_iter().map(item).collect(),
            links: record.links,
        })
    }

    /// An unfinished plan of the same coordinator for the same outputs. Files that cannot be read are passed over.
    pub fn find_same(&self, coordinator: &str, wanted: &[Item]) -> Option<Remembered> {
        let entries = fs::read_dir(&self.directory).ok()?;
        let mut plans = entries
            .take(PLANS_MAX)
            .filter_map(|entry| PlanId::parse(entry.ok()?.file_name().to_str()?))
            .filter_map(|plan| self.find(plan).ok())
            .filter(|found| found.coordinator == coordinator && found.wanted == wanted)
            .collect::<Vec<_>>();
        plans.sort_by_key(|found| found.plan);
        plans.pop()
    }
}
