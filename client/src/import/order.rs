//! The order of an import: a path is ready when everything it refers to is done. Pure.
use model::StorePath;
use std::collections::{HashMap, VecDeque};

/// What waits for what.
pub(super) struct Order {
    /// References of each path that are not done.
    blockers: Vec<usize>,
    /// Who refers to each path.
    referrers: Vec<Vec<usize>>,
    ready: VecDeque<usize>,
}

impl Order {
    /// From paths and their references; references that are not among the paths are there already.
    pub(super) fn new(paths: impl Iterator<Item = (StorePath, Vec<StorePath>)>) -> Self {
        let paths: Vec<_> = paths.collect();
        let indices: HashMap<&StorePath, usize> =
            paths.iter().enumerate().map(|(index, (path, _))| (path, index)).collect();
        let mut blockers = vec![0; paths.len()];
        let mut referrers = vec![Vec::new(); paths.len()];
        for (index, (_, references)) in paths.iter().enumerate() {
            for reference in references {
                match indices.get(reference) {
                    Some(blocker) if *blocker != index => {
                        blockers[index] += 1;
                        referrers[*blocker].push(index);
                    }
                    _ => {}
                }
            }
        }
        let ready = (0..paths.len()).filter(|index| blockers[*index] == 0).collect();
        Self { blockers, referrers, ready }
    }

    /// A path whose references are all done; each once.
    pub(super) fn next_ready(&mut self) -> Option<usize> {
        self.ready.pop_front()
    }

    /// A path is in the store.
    pub(super) fn done(&mut self, index: usize) {
        for referrer in std::mem::take(&mut self.referrers[index]) {
            self.blockers[referrer] -= 1;
            if self.blockers[referrer] == 0 {
                self.ready.push_back(referrer);
            }
        }
    }

    /// When nothing is ready or running: a path that still waits, which is a cycle.
    pub(super) fn first_blocked(&self) -> Option<usize> {
        self.blockers.iter().position(|blockers| *blockers > 0)
    }
}
