//! What this executor offers: only platforms on which a program has just run in its own sandbox.

mod builtins;
mod network;
mod program;
mod qemu;
mod resources;
mod self_test;
mod speed;

pub use network::FixedOutputs;
pub use qemu::{Emulator, self_contained_file, usual_model};
pub use resources::Resources;

use crate::blocking::blocking;
use crate::config::{Config, Emulation};
use model::capability::{CA_DERIVATIONS, FIXED_OUTPUT_NETWORK};
use model::{Capability, Offer, Platform, System, Withheld};
use program::Architecture;
use sandbox::binfmt::Rule;
use sandbox::spec::Ids;
use self_test::SelfTest;
use std::path::Path;
use std::sync::Arc;

/// What was proven, and how to run on it.
#[derive(Clone, Debug, Default)]
pub struct Proven {
    /// For the coordinator and for people.
    pub capability: Capability,
    /// Interpreters of all emulated systems: a private binfmt_misc hides the host's, so a build gets all of them.
    pub interpreters: Vec<Rule>,
    /// What fixed-output builds get.
    pub fixed_outputs: FixedOutputs,
    /// What limits and measures builds.
    pub resources: Resources,
}

impl Proven {
    /// What all platforms in a sandbox have in common, for people.
    fn common_detail(&self) -> String {
        format!("{}; {}", self.fixed_outputs.detail, self.resources.detail)
    }
}

/// Proves each platform that the configuration asks for; `ids` are the first slot's, or the reason why there are none.
pub async fn prove(config: &Config, ids: Result<Ids, String>, directory: &Path) -> Proven {
    let mut proven = Proven::default();
    proven.capability.slots = config.slot_count();
    proven.capability.speed = blocking(speed::measure).await;
    let test =
        ids.map(|ids| SelfTest { launcher: config.launcher_path(), directory: directory.to_owned(), ids });
    proven.fixed_outputs = network::choose(config, &test).await;
    proven.capability.features = features(&config.features, proven.fixed_outputs.have_network());
    proven.resources = resources::choose(config, &test).await;
    (proven.capability.memory_bytes, proven.capability.build_memory_bytes) = proven.resources.memory_bytes();
    own_system(config, &test, &mut proven).await;
    builtins::offer(config, directory, &mut proven.capability).await;
    if config.platforms.emulated {
        for (system, emulation) in &config.emulation {
            emulated(config, &test, system, emulation, &mut proven).await;
        }
    }
    proven
}

/// Configured features, those that need a device only if it is usable; and what this executor has to offer beside.
fn features(configured: &[String], fixed_outputs_have_network: bool) -> Vec<Arc<str>> {
    let kvm = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let offered = configured.iter().filter(|feature| *feature != "kvm" || kvm);
    let mut features: Vec<Arc<str>> = offered.map(|feature| Arc::from(feature.as_str())).collect();
    features.push(Arc::from(CA_DERIVATIONS));
    features.extend(fixed_outputs_have_network.then(|| Arc::from(FIXED_OUTPUT_NETWORK)));
    features.sort_unstable();
    features.dedup();
    features
}

async fn own_system(config: &Config, test: &Result<SelfTest, String>, proven: &mut Proven) {
    let Some(architecture) = Architecture::own() else { return };
    let (kernel, common) = (kernel_release(), proven.common_detail());
    let capability = &mut proven.capability;
    let system = |architecture: Architecture| System(architecture.system().into());
    let own = system(architecture);
    let directly = |architecture| {
        let platform = Platform::Native(system(architecture));
        (config.platforms.native, platform, format!("directly on Linux {kernel}; {common}"))
    };
    let cross = Platform::Cross { build: own.clone() };
    let cross = (config.platforms.cross, cross, format!("on {own}, Linux {kernel}; {common}"));
    offer(capability, &prove_own(test, architecture).await, [directly(architecture), cross]);
    for second in Architecture::ALL.into_iter().filter(|other| *other != architecture) {
        if second.is_of_own_processor() {
            offer(capability, &prove_own(test, second).await, [directly(second)]);
        }
    }
}

async fn prove_own(test: &Result<SelfTest, String>, architecture: Architecture) -> Result<(), String> {
    match test {
        Ok(test) => test.run(architecture, &[]).await.map(drop),
        Err(reason) => Err(reason.clone()),
    }
}

/// Platforms that one self-test decides about: whether it is wanted, which, how.
fn offer(
    capability: &mut Capability,
    result: &Result<(), String>,
    platforms: impl IntoIterator<Item = (bool, Platform, String)>,
) {
    for (wanted, platform, detail) in platforms {
        match result {
            _ if !wanted => {
                let reason = "switched off in the configuration".to_owned();
                capability.withheld.push(Withheld { platform, reason });
            }
            Ok(()) => capability.offers.push(Offer { platform, detail }),
            Err(reason) => capability.withheld.push(Withheld { platform, reason: reason.clone() }),
        }
    }
}

async fn emulated(
    config: &Config,
    test: &Result<SelfTest, String>,
    system: &str,
    emulation: &Emulation,
    proven: &mut Proven,
) {
    let platform = Platform::Emulated(System(system.into()));
    let native = Platform::Native(System(system.into()));
    if proven.capability.offers.iter().any(|offer| offer.platform == native) {
        let reason = "this machine runs it natively".to_owned();
        return proven.capability.withheld.push(Withheld { platform, reason });
    }
    match prove_emulated(config, test, system, emulation).await {
        Ok((detail, rule)) => {
            let detail = format!("{detail}; {}", proven.common_detail());
            proven.capability.offers.push(Offer { platform, detail });
            proven.interpreters.extend(rule);
        }
        Err(reason) => proven.capability.withheld.push(Withheld { platform, reason }),
    }
}

async fn prove_emulated(
    config: &Config,
    test: &Result<SelfTest, String>,
    system: &str,
    emulation: &Emulation,
) -> Result<(String, Option<Rule>), String> {
    let test = test.as_ref().map_err(Clone::clone)?;
    let architecture = Architecture::ALL
        .into_iter()
        .find(|architecture| architecture.system() == system)
        .ok_or_else(|| format!("no self-test program for {system} exists"))?;
    let emulator = qemu::prepare(system, emulation, &config.state_dir).await?;
    let private = test.run(architecture, std::slice::from_ref(&emulator.rule)).await;
    let no_private = match private.and_then(|ran| emulator.judge(&ran)) {
        Ok(()) => return Ok((format!("{}, private binfmt_misc", emulator.detail), Some(emulator.rule))),
        Err(reason) => reason,
    };
    let host = qemu::host_registration(system)
        .ok_or_else(|| format!("{no_private}; and the host has no registration for it with flag F"))?;
    let ran = test.run_by_host(architecture).await;
    ran.map_err(|reason| format!("{no_private}; and with the host's registration: {reason}"))?;
    // Debian registers it under a name by which it takes no options.
    let program =
        std::fs::canonicalize(&host.interpreter).unwrap_or_else(|_| host.interpreter.clone().into());
    let version = qemu::version(&program).await;
    let version = version.map_or_else(|reason| reason, |version| format!("qemu {version}"));
    let detail = format!(
        "{version}, the host's registration of {}, default processor, builds can steer it by QEMU_ variables ({no_private})",
        host.interpreter
    );
    Ok((detail, None))
}

fn kernel_release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}
