//! The coordinator's configuration: one TOML file, read once; unknown keys are errors.
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Heartbeats that must fit into the time after which an executor is lost: one that is late must not lose it.
const HEARTBEATS_PER_EVICTION_MIN: u64 = 3;
/// Heartbeat intervals that executors believe, in milliseconds.
const HEARTBEAT_INTERVAL_MS: std::ops::RangeInclusive<u64> = 50..=60_000;

/// Everything that a coordinator is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where boards and executors connect.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Journal and content store.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The Nix secret key (a file as `nix-store --generate-binary-cache-key` writes it) that served content is signed with.
    pub signing_key: PathBuf,
    /// Certificate, key and authority.
    pub tls: node::tls::TlsFiles,
    /// How often executors say that they live, in milliseconds.
    #[serde(default = "default_heartbeat_interval_ms")]
    pub heartbeat_interval_ms: u64,
    /// Without a heartbeat for so long an executor is lost, in milliseconds.
    #[serde(default = "default_eviction_after_ms")]
    pub eviction_after_ms: u64,
    /// A plan that no client has watched for so long is cancelled, and an ended one forgotten, in seconds.
    #[serde(default = "default_abandoned_after_s")]
    pub abandoned_after_s: u64,
    /// Attempts of one task that may end by an executor's own trouble.
    #[serde(default = "default_attempts_max")]
    pub attempts_max: u32,
    /// Slots that no task wants may run a second time what takes much longer elsewhere than it should.
    #[serde(default = "default_speculation")]
    pub speculation: bool,
    /// Limits of every build.
    #[serde(default)]
    pub limits: BuildLimits,
}

/// Limits of every build; 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BuildLimits {
    /// Seconds from start to end.
    pub timeout_s: u64,
    /// Seconds without output.
    pub max_silent_s: u64,
    /// Bytes of log.
    pub log_bytes_max: u64,
}

/// A setting that cannot work.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingError {
    /// Executors would be lost by one late heartbeat.
    #[error(
        "eviction_after_ms = {eviction_after_ms} must be at least {HEARTBEATS_PER_EVICTION_MIN} times heartbeat_interval_ms = \
         {heartbeat_interval_ms}"
    )]
    Eviction {
        /// As set.
        heartbeat_interval_ms: u64,
        /// As set.
        eviction_after_ms: u64,
    },
    /// Executors would not keep to it.
    #[error("heartbeat_interval_ms = {0} must be within 50 to 60000")]
    Heartbeat(u64),
    /// Nothing would ever be tried.
    #[error("attempts_max must be at least 1")]
    Attempts,
}

impl Config {
    /// Whether the settings fit together.
    ///
    /// # Errors
    /// They do not.
    pub fn check(&self) -> Result<(), SettingError> {
        let Self { heartbeat_interval_ms, eviction_after_ms, .. } = *self;
        if !HEARTBEAT_INTERVAL_MS.contains(&heartbeat_interval_ms) {
            return Err(SettingError::Heartbeat(heartbeat_interval_ms));
        }
        if eviction_after_ms < heartbeat_interval_ms.saturating_mul(HEARTBEATS_PER_EVICTION_MIN) {
            return Err(SettingError::Eviction { heartbeat_interval_ms, eviction_after_ms });
        }
        if self.attempts_max == 0 { Err(SettingError::Attempts) } else { Ok(()) }
    }

    /// How long a plan lives without a client.
    pub fn abandoned_after(&self) -> Duration {
        Duration::from_secs(self.abandoned_after_s)
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7420))
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/elsewhere")
}

fn default_heartbeat_interval_ms() -> u64 {
    1_000
}

/// With the last heartbeat and the engine's own tick, an executor that dies is lost at most 15 s later.
fn default_eviction_after_ms() -> u64 {
    12_000
}

fn default_abandoned_after_s() -> u64 {
    24 * 60 * 60
}

fn default_attempts_max() -> u32 {
    3
}

fn default_speculation() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const NEEDED: &str = "signing_key = \"/k\"\n";
    const TLS: &str = "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\nauthority = \"/a\"\n";

    fn config(more: &str) -> Config {
        node::config::parse(&format!("{NEEDED}{more}{TLS}"), Path::new("c.toml")).unwrap()
    }

    #[test]
    fn little_needs_to_be_said() {
        let config = config("");
        assert_eq!(config.check(), Ok(()));
        assert_eq!((config.heartbeat_interval_ms, config.eviction_after_ms), (1_000, 12_000));
        assert_eq!(config.abandoned_after(), Duration::from_secs(86_400));
        assert_eq!(config.limits, BuildLimits::default());
    }

    #[test]
    fn unknown_keys_are_errors() {
        let text = format!("{NEEDED}eviction_ms = 3\n{TLS}");
        let error = node::config::parse::<Config>(&text, Path::new("c.toml")).unwrap_err().to_string();
        assert!(error.starts_with("c.toml:2:1: unknown field `eviction_ms`"), "{error}");
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let lost = SettingError::Eviction { heartbeat_interval_ms: 1_000, eviction_after_ms: 2_000 };
        assert_eq!(config("eviction_after_ms = 2000\n").check(), Err(lost));
        assert_eq!(config("heartbeat_interval_ms = 10\n").check(), Err(SettingError::Heartbeat(10)));
        assert_eq!(config("attempts_max = 0\n").check(), Err(SettingError::Attempts));
    }
}
