//! The worker protocol of nix-daemon (1.34 to 1.38) over any byte stream, in constant memory: its client, and a server for builds.

mod connection;
mod error;
mod handshake;
mod incoming;
mod message;
mod nar_export;
mod nar_import;
mod path_info;
mod server;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use connection::{Connection, Options};
pub use error::Error;
pub use handshake::Trust;
pub use nar_export::NarExport;
pub use nar_import::NarImport;
pub use path_info::PathInfo;
pub use server::{BuildRequest, BuildResult, BuildStatus, Reply, Request, Server, ServerError};

/// Largest frame of an upload, and largest chunk of a download, in bytes.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Where the daemon listens, unless the environment says otherwise (`NIX_DAEMON_SOCKET_PATH`).
pub const SOCKET_PATH: &str = "/nix/var/nix/daemon-socket/socket";
