//! A task as the scheduler sees it: a derivation's outputs, inputs and requirement.
use crate::{Requirement, StorePath, TaskId};
use alloc::{string::String, vec::Vec};

/// One output of a derivation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Output {
    /// Output name, for example `out`.
    pub name: String,
    /// Its store path; before anybody can know that, what stands for it ([`StorePath::promised`]).
    pub path: StorePath,
}

/// Outputs of another task that a task needs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct InputDerivation {
    /// The task that makes them.
    pub task: TaskId,
    /// Output names, sorted.
    pub outputs: Vec<String>,
}

/// How much work a derivation is by what it says of itself: what is believed before anything was measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Kind {
    /// A text or a handful of links: it prefers to be built where it is wanted.
    Tiny,
    /// A download, or anything else whose output is fixed.
    Fetch,
    /// A package.
    #[default]
    Build,
    /// A compiler, a kernel, a browser.
    Heavy,
}

/// One derivation to realise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskSpec {
    /// Trust domain and `.drv` path.
    pub id: TaskId,
    /// The derivation's name, for people.
    pub name: String,
    /// How much work it looks like.
    pub kind: Kind,
    /// What it needs of an executor.
    pub requirement: Requirement,
    /// Its outputs, sorted by name.
    pub outputs: Vec<Output>,
    /// Tasks whose outputs it needs.
    pub input_derivations: Vec<InputDerivation>,
    /// Sources it needs: content that no task makes. The domain is part of the identity.
    pub input_sources: Vec<crate::ContentId>,
    /// Before it is built, paths of its inputs' outputs must take the place of what stands for them; what comes out may be what
    /// another derivation comes to as well.
    pub needs_resolution: bool,
    /// A fixed-output derivation: its content may be received from anyone, since its hash says what it is.
    pub is_fixed_output: bool,
}
