//! The executor's configuration: one TOML file, read once; unknown keys are errors.
use crate::lease::Limits;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Largest weight that the kernel takes.
const CPU_WEIGHT_MAX: u64 = 10_000;
/// Where Linux distributions keep certificate authorities.
const CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Everything that an executor is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `host:port` of the coordinator.
    pub coordinator: String,
    /// Where peers and the coordinator fetch what this executor holds.
    #[serde(default = "default_data_listen")]
    pub data_listen: SocketAddr,
    /// `host:port` under which they reach it; by default the host name with the port of `data_listen`.
    pub data_advertise: Option<String>,
    /// Bytes of archives that the store keeps; 0 means no limit. Room is made from nine tenths of it on: what running builds
    /// use and make may exceed it, and no other build begins meanwhile.
    #[serde(default)]
    pub store_bytes_max: u64,
    /// Free bytes of the disk of `state_dir` below which the store makes room; by default twice `limits.disk_free_bytes_min`.
    pub store_free_bytes_min: Option<u64>,
    /// Store, builds and results; the builds' file system must not be mounted nodev, noexec or nosuid.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Certificate, key and authority.
    pub tls: node::tls::TlsFiles,
    /// Builds at once; by default one for each two processors.
    pub slots: Option<u32>,
    /// `NIX_BUILD_CORES` of each build; by default the number of processors.
    pub cores: Option<u32>,
    /// The program that becomes the sandbox; by default beside this one.
    pub launcher: Option<PathBuf>,
    /// What to offer.
    #[serde(default)]
    pub platforms: Platforms,
    /// Systems to emulate, by name; by default all that are known.
    #[serde(default = "default_emulation")]
    pub emulation: BTreeMap<String, Emulation>,
    /// System features to offer; `kvm` only if `/dev/kvm` is usable.
    #[serde(default = "default_features")]
    pub features: Vec<String>,
    /// The builds' sandbox.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// Limits of every build, beside those of its lease.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Certificate authorities for downloads, in PEM; by default where distributions keep them.
    pub certificates: Option<PathBuf>,
    /// Downloads of `builtin:fetchurl`.
    #[serde(default)]
    pub downloads: Downloads,
}

/// Limits of one download.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Downloads {
    /// Largest file, and largest archive once unpacked.
    pub bytes_max: u64,
    /// How often a server is asked that fails in a way that may pass.
    pub attempts_max: u32,
    /// Until a connection is there.
    pub connect_timeout_s: u64,
    /// Without a byte from the server.
    pub stalled_timeout_s: u64,
}

impl Default for Downloads {
    fn default() -> Self {
        Self { bytes_max: 16 << 30, attempts_max: 5, connect_timeout_s: 15, stalled_timeout_s: 300 }
    }
}

/// Which kinds of platforms to offer, once proven.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Platforms {
    /// Derivations of this machine's own system.
    pub native: bool,
    /// Derivations of this machine's system whose products are for another.
    pub cross: bool,
    /// Derivations of the systems in `emulation`.
    pub emulated: bool,
    /// Derivations with one of Nix's own builders, for example downloads.
    pub builtin: bool,
}

impl Default for Platforms {
    fn default() -> Self {
        Self { native: true, cross: true, emulated: true, builtin: true }
    }
}

/// How to emulate one system.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emulation {
    /// A static qemu-user; by default the usual names are looked up in PATH.
    pub qemu: Option<PathBuf>,
    /// Processor model; by default `cortex-a72` for aarch64, `cortex-a7` for armv7l, `sifive-u54` for riscv64.
    pub cpu: Option<String>,
}

/// What a build sees and runs as.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// Host files that every native build sees: `target`, `target=source`, `?` at the end when it may be missing.
    pub paths: Vec<String>,
    /// Size of `/dev/shm` as tmpfs takes it; by default `50%`.
    pub dev_shm_size: Option<String>,
    /// Which network fixed-output builds have; by default their own where slirp4netns works, else the host's.
    pub fixed_output_network: Option<FixedOutputNetwork>,
    /// A directory of cgroup v2 for this executor alone; by default its own cgroup, if that is delegated to it.
    pub cgroup: Option<PathBuf>,
    /// First of the ids that builds run as, one for each slot; by default from `/etc/subuid` and `/etc/subgid`.
    pub first_id: Option<u32>,
}

/// The network of builds whose output is known by hash before: all others have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixedOutputNetwork {
    /// One of their own, joined to the host's by slirp4netns; where that does not work they are not built here.
    Own,
    /// The host's, its loopback too, as in Nix.
    Host,
    /// None: they, and builtin downloads, are not built here.
    None,
}

/// Limits of every build; 0 means none.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Seconds from start to end.
    pub timeout_s: u64,
    /// Seconds without output.
    pub max_silent_s: u64,
    /// Bytes of log.
    pub log_bytes_max: u64,
    /// Memory of all its processes together, files in memory included; needs cgroup v2, as the next two do.
    pub memory_bytes_max: u64,
    /// Processes and threads.
    pub processes_max: u64,
    /// Share of the processors when others want them, too: 1 to 10000; the default of everything is 100.
    pub cpu_weight: u64,
    /// Bytes that stay free on the disk of `state_dir`: below, builds are ended, the youngest first.
    pub disk_free_bytes_min: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            timeout_s: 0,
            max_silent_s: 0,
            log_bytes_max: 0,
            memory_bytes_max: 0,
            processes_max: 0,
            cpu_weight: 0,
            disk_free_bytes_min: 1 << 30,
        }
    }
}

impl LimitsConfig {
    /// Those that cgroups keep.
    ///
    /// # Errors
    /// A weight that the kernel does not take.
    pub fn of_cgroups(&self) -> Result<sandbox::cgroup::Limits, ConfigError> {
        if self.cpu_weight > CPU_WEIGHT_MAX {
            return Err(ConfigError::CpuWeight(self.cpu_weight));
        }
        Ok(sandbox::cgroup::Limits {
            memory_bytes_max: none_if_zero(self.memory_bytes_max),
            processes_max: none_if_zero(self.processes_max),
            cpu_weight: none_if_zero(self.cpu_weight),
        })
    }
}

fn none_if_zero(value: u64) -> Option<u64> {
    (value > 0).then_some(value)
}

impl From<LimitsConfig> for Limits {
    fn from(config: LimitsConfig) -> Self {
        Self {
            timeout_s: none_if_zero(config.timeout_s),
            max_silent_s: none_if_zero(config.max_silent_s),
            log_bytes_max: none_if_zero(config.log_bytes_max),
        }
    }
}

fn default_data_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7421))
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/elsewhere")
}

fn default_emulation() -> BTreeMap<String, Emulation> {
    ["aarch64-linux", "armv7l-linux", "riscv64-linux"]
        .map(|system| (system.to_owned(), Emulation::default()))
        .into()
}

fn default_features() -> Vec<String> {
    ["nixos-test", "benchmark", "big-parallel"].map(str::to_owned).into()
}

/// A host file in the sandbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SandboxPath {
    /// Where the build sees it.
    pub target: PathBuf,
    /// What it sees.
    pub source: PathBuf,
    /// Whether a missing source is no error.
    pub optional: bool,
}

/// What is wrong with a configuration beyond its syntax.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// `limits.cpu_weight`.
    #[error("limits.cpu_weight is {0}, and can be 1 to {CPU_WEIGHT_MAX}, or 0 for the default")]
    CpuWeight(u64),
    /// `store_free_bytes_min`.
    #[error(
        "store_free_bytes_min is {0}, less than limits.disk_free_bytes_min, {1}: builds would end before the store makes room"
    )]
    StoreFreeBytes(u64, u64),
    /// `sandbox.paths`.
    #[error(
        "sandbox path `{0}` is not `target`, `target=source` or either followed by `?`, with absolute paths"
    )]
    SandboxPath(String),
    /// `sandbox.paths`.
    #[error("sandbox path `{target}` does not exist on this host: '{source_path}'", source_path = .source_path.display())]
    SandboxPathMissing {
        /// As configured.
        target: String,
        /// What is missing.
        source_path: PathBuf,
    },
}

impl SandboxPath {
    /// Reads one entry of `sandbox.paths`, as Nix's `sandbox-paths` has them.
    ///
    /// # Errors
    /// An entry that is not of that form.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (pair, optional) = text.strip_suffix('?').map_or((text, false), |pair| (pair, true));
        let (target, source) = pair.split_once('=').unwrap_or((pair, pair));
        let (target, source) = (PathBuf::from(target), PathBuf::from(source));
        let plain = |path: &Path| {
            path.is_absolute()
                && path.components().skip(1).all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        if plain(&target) && plain(&source) && target.components().count() > 1 {
            Ok(Self { target, source, optional })
        } else {
            Err(ConfigError::SandboxPath(text.to_owned()))
        }
    }
}

impl Config {
    /// What the store leaves free.
    ///
    /// # Errors
    /// Less than builds must leave free.
    pub fn store_limits(&self) -> Result<crate::store::collector::Limits, ConfigError> {
        let reserve_bytes = self.limits.disk_free_bytes_min;
        let free_bytes_min = self.store_free_bytes_min.unwrap_or_else(|| reserve_bytes.saturating_mul(2));
        if free_bytes_min < reserve_bytes {
            return Err(ConfigError::StoreFreeBytes(free_bytes_min, reserve_bytes));
        }
        let bytes_max = none_if_zero(self.store_bytes_max);
        Ok(crate::store::collector::Limits { bytes_max, free_bytes_min, reserve_bytes })
    }

    /// The sandbox paths that exist.
    ///
    /// # Errors
    /// Entries that are malformed, or missing and not optional.
    pub fn sandbox_paths(&self) -> Result<Vec<SandboxPath>, ConfigError> {
        let mut paths = Vec::new();
        for text in &self.sandbox.paths {
            let path = SandboxPath::parse(text)?;
            match (path.source.exists(), path.optional) {
                (true, _) => paths.push(path),
                (false, true) => {}
                (false, false) => {
                    return Err(ConfigError::SandboxPathMissing {
                        target: text.clone(),
                        source_path: path.source,
                    });
                }
            }
        }
        Ok(paths)
    }

    /// Certificate authorities for downloads: as configured, or the first that this host has.
    pub fn certificates(&self) -> Option<PathBuf> {
        let usual = || CERTIFICATES.iter().map(PathBuf::from).find(|path| path.exists());
        self.certificates.clone().or_else(usual)
    }

    /// Builds at once.
    pub fn slot_count(&self) -> u32 {
        self.slots.unwrap_or_else(|| processors().div_ceil(2)).clamp(1, 1024)
    }

    /// `NIX_BUILD_CORES`.
    pub fn core_count(&self) -> u32 {
        self.cores.filter(|cores| *cores > 0).unwrap_or_else(processors)
    }

    /// The launcher's path.
    pub fn launcher_path(&self) -> PathBuf {
        let beside = || std::env::current_exe().ok().map(|own| own.with_file_name("elsewhere-launcher"));
        self.launcher.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("elsewhere-launcher"))
    }
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_paths_are_read_as_nix_reads_them() {
        let path = |target: &str, source: &str, optional| {
            Some(SandboxPath { target: target.into(), source: source.into(), optional })
        };
        let cases = [
            ("/bin/sh", path("/bin/sh", "/bin/sh", false)),
            ("/bin/sh=/usr/bin/busybox", path("/bin/sh", "/usr/bin/busybox", false)),
            ("/bin/sh=/usr/bin/busybox?", path("/bin/sh", "/usr/bin/busybox", true)),
            ("bin/sh", None),
            ("/bin/sh=busybox", None),
            ("/bin/../etc", None),
            ("/", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(SandboxPath::parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_short_file_is_enough_and_unknown_keys_are_errors() {
        let tls = "[tls]\nauthority = \"ca.pem\"\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";
        let config: Config = toml::from_str(&format!("coordinator = \"c:7420\"\n{tls}")).unwrap();
        assert_eq!(config.data_listen.port(), 7421);
        assert!(config.platforms.cross && config.emulation.contains_key("aarch64-linux"));
        assert!(config.slot_count() >= 1 && config.core_count() >= 1);
        let limits = config.store_limits().unwrap();
        assert_eq!((limits.bytes_max, limits.free_bytes_min, limits.reserve_bytes), (None, 2 << 30, 1 << 30));
        for (line, is_right) in
            [("store_free_bytes_min = 1", false), ("store_free_bytes_min = 1073741824", true)]
        {
            let config: Config = toml::from_str(&format!("coordinator = \"c:7420\"\n{line}\n{tls}")).unwrap();
            assert_eq!(config.store_limits().is_ok(), is_right, "{line}");
        }
        let unknown = toml::from_str::<Config>(&format!("coordinator = \"c:7420\"\nslotz = 2\n{tls}"));
        assert!(unknown.unwrap_err().to_string().contains("slotz"));
    }
}
