//! The network of fixed-output builds: as configured, or one of their own where that has just worked.
use super::program::Architecture;
use super::self_test::SelfTest;
use crate::build::jail::JailNetwork;
use crate::config::{Config, FixedOutputNetwork};
use sandbox::probe::find_in_path;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const PROGRAM: &str = "slirp4netns";
/// How long it may take to say its version.
const VERSION_WAIT: Duration = Duration::from_secs(5);

/// What fixed-output builds get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FixedOutputs {
    /// Their network, or why they cannot run here.
    pub network: Result<JailNetwork, String>,
    /// The same for people.
    pub detail: String,
}

impl Default for FixedOutputs {
    fn default() -> Self {
        Self { network: Ok(JailNetwork::None), detail: "fixed outputs without network".to_owned() }
    }
}

/// Decides by the configuration, and by a run of the self-test's program with a network of its own.
pub async fn choose(config: &Config, test: &Result<SelfTest, String>) -> FixedOutputs {
    let own = match config.sandbox.fixed_output_network {
        Some(FixedOutputNetwork::None) => return FixedOutputs::default(),
        Some(FixedOutputNetwork::Host) => return host("as configured"),
        Some(FixedOutputNetwork::Own) | None => prove(test).await,
    };
    match (own, config.sandbox.fixed_output_network) {
        (Ok((network, version)), _) => FixedOutputs {
            network: Ok(network),
            detail: format!("fixed outputs with a network of their own ({version})"),
        },
        (Err(reason), None) => host(&reason),
        (Err(reason), Some(_)) => {
            let refused = format!("fixed outputs have no network of their own here: {reason}");
            FixedOutputs { network: Err(refused.clone()), detail: refused }
        }
    }
}

fn host(reason: &str) -> FixedOutputs {
    let detail = format!("fixed outputs with the host's network ({reason})");
    FixedOutputs { network: Ok(JailNetwork::Host), detail }
}

async fn prove(test: &Result<SelfTest, String>) -> Result<(JailNetwork, String), String> {
    let test = test.as_ref().map_err(Clone::clone)?;
    let architecture = Architecture::own().ok_or("no self-test program for this machine exists")?;
    let program = find_in_path(PROGRAM).ok_or_else(|| format!("{PROGRAM} is not in PATH: install it"))?;
    let version = version(&program).await;
    let network = JailNetwork::Joined { program };
    match test.run_joined(architecture, network.clone()).await {
        Ok(_) => Ok((network, version)),
        Err(reason) => Err(format!("{version}: {reason}")),
    }
}

/// The first line of what it says of itself.
async fn version(program: &Path) -> String {
    let mut command = tokio::process::Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(VERSION_WAIT, command.output()).await;
    let text = said.ok().and_then(Result::ok).map(|output| output.stdout).unwrap_or_default();
    let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
    let words: Vec<_> = line.split(' ').take(3).collect();
    if words.len() == 3 { format!("{PROGRAM} {}", words[2]) } else { PROGRAM.to_owned() }
}
