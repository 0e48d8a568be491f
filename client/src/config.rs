//! Configuration: one TOML file, then the environment, then the command line.
use node::config::ConfigError;
use node::tls::TlsFiles;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The file as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    coordinator: Option<String>,
    daemon_socket: Option<PathBuf>,
    tls: Tls,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Tls {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    authority: Option<PathBuf>,
}

/// What the command line or the environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Overrides {
    /// Configuration file (default: ~/.config/elsewhere/client.toml, then /etc/elsewhere/client.toml)
    #[arg(long, global = true, env = "ELSEWHERE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The coordinator, as host:port
    #[arg(long, global = true, env = "ELSEWHERE_COORDINATOR", value_name = "HOST:PORT")]
    pub coordinator: Option<String>,
    /// This board's certificate, PEM
    #[arg(long, global = true, env = "ELSEWHERE_CERTIFICATE", value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, global = true, env = "ELSEWHERE_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The cluster's certificate authority, PEM
    #[arg(long, global = true, env = "ELSEWHERE_AUTHORITY", value_name = "FILE")]
    pub authority: Option<PathBuf>,
    /// Socket of this board's nix-daemon
    #[arg(long, global = true, env = "NIX_DAEMON_SOCKET_PATH", value_name = "SOCKET")]
    pub daemon_socket: Option<PathBuf>,
}

/// Everything that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `host:port`.
    pub coordinator: String,
    /// Who this board is, and whom it trusts.
    pub tls: TlsFiles,
    /// Where the board's nix-daemon listens.
    pub daemon_socket: PathBuf,
    /// `$XDG_STATE_HOME`, or `~/.local/state`.
    pub state_home: PathBuf,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// A setting that nobody gave.
    #[error("`{key}` is not set: put it into {}, or give --{key}", file.display())]
    Missing {
        /// The key.
        key: &'static str,
        /// Where it belongs.
        file: PathBuf,
    },
}

/// The parts of the environment that say where things are.
#[derive(Debug, Clone, Default)]
pub struct Homes {
    /// `XDG_CONFIG_HOME`, or below `HOME`.
    pub config: Option<PathBuf>,
    /// `XDG_STATE_HOME`, or below `HOME`.
    pub state: Option<PathBuf>,
}

impl Homes {
    /// As the environment has it.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let below_home = |name| variable("HOME").map(|home| home.join(name));
        Self {
            config: variable("XDG_CONFIG_HOME").or_else(|| below_home(".config")),
            state: variable("XDG_STATE_HOME").or_else(|| below_home(".local/state")),
        }
    }
}

const SYSTEM_FILE: &str = "/etc/elsewhere/client.toml";

/// Reads the configuration.
pub fn load(overrides: &Overrides, homes: &Homes) -> Result<Config, Error> {
    let user_file = homes.config.as_ref().map(|home| home.join("elsewhere/client.toml"));
    let path = match (&overrides.config, user_file) {
        (Some(path), _) => path.clone(),
        (None, Some(path)) if path.exists() => path,
        _ => PathBuf::from(SYSTEM_FILE),
    };
    // A file that was named must be there; everything can come from the command line otherwise.
    let file: File = if overrides.config.is_some() || path.exists() {
        node::config::load(&path)?
    } else {
        File::default()
    };
    // Relative paths of the file are relative to the file.
    let base = path.parent().unwrap_or(Path::new("/")).to_owned();
    let from_file = |value: Option<PathBuf>| value.map(|value| base.join(value));
    let need = |key, value: Option<PathBuf>| value.ok_or_else(|| Error::Missing { key, file: path.clone() });
    let coordinator = overrides.coordinator.clone().or(file.coordinator);
    Ok(Config {
        coordinator: coordinator.ok_or_else(|| Error::Missing { key: "coordinator", file: path.clone() })?,
        tls: TlsFiles {
            certificate: need(
                "certificate",
                overrides.certificate.clone().or(from_file(file.tls.certificate)),
            )?,
            key: need("key", overrides.key.clone().or(from_file(file.tls.key)))?,
            authority: need("authority", overrides.authority.clone().or(from_file(file.tls.authority)))?,
            revoked: None,
        },
        daemon_socket: overrides
            .daemon_socket
            .clone()
            .or(from_file(file.daemon_socket))
            .unwrap_or_else(|| PathBuf::from(nix_daemon::SOCKET_PATH)),
        // A service without a home, such as nix-daemon's children.
        state_home: homes.state.clone().unwrap_or_else(|| PathBuf::from("/var/lib")),
    })
}
