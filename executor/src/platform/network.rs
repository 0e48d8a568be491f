//! The network of fixed-output builds: as configured, or one of their own where that has just worked.
use super::program::Architecture;
use super::self_test::SelfTest;
use crate::build::jail::JailNetwork;
use crate::config::{Config, FixedOutputNetwork};
use sandbox::probe::find_in_path;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const PROGRAM: &str = "slirp4netns";
/// What its packets go through.
const DEVICE: &str = "/dev/net/tun";
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
        Self { network: Ok(JailNetwork::None), detail: "no fixed outputs, as configured".to_owned() }
    }
}

impl FixedOutputs {
    /// Whether they can be built here.
    pub fn have_network(&self) -> bool {
        matches!(self.network, Ok(JailNetwork::Joined { .. } | JailNetwork::Host))
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
            let refused = format!("no fixed outputs, for they have no network of their own here: {reason}");
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
    if let Some(problem) = device_problem(File::options().read(true).write(true).open(DEVICE)) {
        return Err(format!("{version}: {problem}"));
    }
    let network = JailNetwork::Joined { program };
    match test.run_joined(architecture, network.clone()).await {
        Ok(_) => Ok((network, version)),
        Err(reason) => Err(format!("{version}: {reason}")),
    }
}

/// Why the device does not open, and what to do. It is opened inside the build's network, with no more rights than here: there is no
/// way around it.
fn device_problem(opened: io::Result<File>) -> Option<String> {
    let error = opened.err()?;
    Some(match error.kind() {
        io::ErrorKind::NotFound => format!("{DEVICE} is missing: load the kernel's module `tun`"),
        io::ErrorKind::PermissionDenied => format!(
            "{DEVICE} is closed to this executor's user: open it with `setfacl -m u:USER:rw {DEVICE}`, or for everybody, as Debian \
             does, with the udev rule `KERNEL==\"tun\", MODE=\"0666\"`"
        ),
        _ => format!("{DEVICE} does not open: {error}"),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_open_is_explained() {
        let said = |error: i32| device_problem(Err(io::Error::from_raw_os_error(error))).unwrap();
        let (closed, missing, other) = (13, 2, 6);
        assert!(said(closed).contains("setfacl -m u:USER:rw /dev/net/tun"), "{}", said(closed));
        assert!(said(missing).contains("load the kernel's module"), "{}", said(missing));
        assert!(said(other).contains("No such device"), "{}", said(other));
        assert_eq!(device_problem(File::open("/dev/null")), None);
    }

    #[test]
    fn only_executors_with_a_network_build_fixed_outputs() {
        let with = |network| FixedOutputs { network, ..FixedOutputs::default() }.have_network();
        assert!(with(Ok(JailNetwork::Host)));
        assert!(with(Ok(JailNetwork::Joined { program: PROGRAM.into() })));
        assert!(!with(Ok(JailNetwork::None)) && !with(Err("closed".into())));
    }
}
