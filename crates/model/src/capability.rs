//! What an executor can run, and what a task requires.
use alloc::{string::String, sync::Arc, vec::Vec};
use core::fmt;

/// A Nix system, for example `aarch64-linux`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct System(pub Arc<str>);

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A system feature, for example `big-parallel`.
pub type Feature = Arc<str>;

/// What a derivation requires whose builder is one of Nix's own: any executor that has them, of whatever system.
pub const BUILTIN: &str = "builtin";

/// Feature of executors that make outputs whose paths follow from their content; Nix requires a feature of this name for them, too.
pub const CA_DERIVATIONS: &str = "ca-derivations";

/// Feature of executors that give fixed outputs a network: every fixed output requires it, for whether one needs a network nobody
/// can tell before.
pub const FIXED_OUTPUT_NETWORK: &str = "fixed-output-network";

/// One way in which an executor can run a derivation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Platform {
    /// Derivations of the executor's own system, directly.
    Native(System),
    /// Derivations of a foreign system, under emulation.
    Emulated(System),
    /// Derivations of system `build` whose products are for another system.
    Cross {
        /// The system that the derivation runs on.
        build: System,
    },
    /// Derivations whose builder is one of Nix's own (`builtin:fetchurl`), of any system: no program runs.
    Builtin,
}

impl Platform {
    /// The system that derivations on this platform name; [`BUILTIN`] where it does not matter.
    pub fn system(&self) -> &str {
        match self {
            Self::Native(system) | Self::Emulated(system) | Self::Cross { build: system } => &system.0,
            Self::Builtin => BUILTIN,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(system) => write!(f, "native {system}"),
            Self::Emulated(system) => write!(f, "emulated {system}"),
            Self::Cross { build } => write!(f, "cross on {build}"),
            Self::Builtin => f.write_str(BUILTIN),
        }
    }
}

/// A platform that was proven by a self-test, with what people should know about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The platform.
    pub platform: Platform,
    /// How it is done, for people: for example `qemu 10.0.2, cortex-a72, self-contained, private binfmt_misc`.
    pub detail: String,
}

/// A platform that an executor could have offered and does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Withheld {
    /// The platform.
    pub platform: Platform,
    /// Why not, and what would change that.
    pub reason: String,
}

/// All that an executor advertises.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Capability {
    /// Proven platforms.
    pub offers: Vec<Offer>,
    /// Platforms not offered, with the reason.
    pub withheld: Vec<Withheld>,
    /// System features.
    pub features: Vec<Feature>,
    /// How many tasks run at once.
    pub slots: u32,
    /// How fast one task runs, in thousandths of a usual processor; 0 when that was not measured.
    pub speed: u32,
    /// Memory that all its builds share, in bytes; 0 when that is not known.
    pub memory_bytes: u64,
    /// Memory that one build may have, in bytes; 0 when that is not known.
    pub build_memory_bytes: u64,
}

/// What a task needs of the executor that runs it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Requirement {
    /// The derivation's system, or [`BUILTIN`].
    pub system: System,
    /// The system that its product is for, when that is another one: a cross task.
    pub target: Option<System>,
    /// `requiredSystemFeatures`, sorted.
    pub features: Vec<Feature>,
}

impl Requirement {
    /// Whether a platform runs such a task: cross tasks on cross platforms only, all others never there.
    pub fn is_met_by(&self, platform: &Platform) -> bool {
        match (platform, &self.target) {
            (Platform::Cross { .. }, target) => target.is_some() && platform.system() == &*self.system.0,
            (_, target) => target.is_none() && platform.system() == &*self.system.0,
        }
    }

    /// The platform of a capability that runs such a task, if features allow it at all.
    pub fn platform_in<'a>(&self, capability: &'a Capability) -> Option<&'a Platform> {
        let features_met = self.features.iter().all(|feature| capability.features.contains(feature));
        let mut platforms = capability.offers.iter().map(|offer| &offer.platform);
        if features_met { platforms.find(|platform| self.is_met_by(platform)) } else { None }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Some(target) => write!(f, "cross on {} for {target}", self.system)?,
            None => write!(f, "{}", self.system)?,
        }
        if !self.features.is_empty() {
            write!(f, " with features {{{}}}", self.features.join(", "))?;
        }
        Ok(())
    }
}
