//! What a build's directory keeps for the next build of its slot: the root, with what the executor made in it.
//!
//! Making and removing a mount point for each of two thousand inputs costs more than the rest of a sandbox. A build
//! cannot change what the executor made: directories it may write in are sticky, all others are not its own.
use crate::tree::{self, TreeError};
use sandbox::spec::{Entry, Spec};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What belongs to a root, as the Spec of its build says.
#[derive(Debug)]
pub struct Shape {
    /// Every entry's place below the root; whether it is a directory of the root itself that holds others.
    places: HashMap<PathBuf, bool>,
}

impl Shape {
    /// The shape of a build's root.
    pub fn of(spec: &Spec) -> Self {
        let below = |entry: &Entry| {
            let path = entry.path().as_bytes();
            PathBuf::from(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
        };
        let parents: HashSet<PathBuf> =
            spec.entries.iter().filter_map(|entry| below(entry).parent().map(Path::to_owned)).collect();
        // A directory that holds nothing is made anew: it would show how much an earlier build has put there.
        let place = |entry: &Entry| {
            let path = below(entry);
            match entry {
                Entry::Directory { .. } => parents.contains(&path).then_some((path, true)),
                _ => Some((path, false)),
            }
        };
        Self { places: spec.entries.iter().filter_map(place).collect() }
    }

    /// Removes from a root all that does not belong to it. What it lacks, the launcher makes.
    ///
    /// # Errors
    /// The first thing that could not be removed: then the root is of no use.
    pub fn fit(&self, root: &Path) -> Result<(), TreeError> {
        self.fit_directory(root, Path::new(""))
    }

    fn fit_directory(&self, root: &Path, below: &Path) -> Result<(), TreeError> {
        for name in tree::names(&root.join(below))? {
            let place = below.join(OsStr::from_bytes(&name));
            match self.places.get(&place) {
                Some(true) => self.fit_directory(root, &place)?,
                Some(false) => {}
                None => tree::remove(&root.join(&place))?,
            }
        }
        Ok(())
    }
}
