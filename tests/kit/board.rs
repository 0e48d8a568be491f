//! A board: a host with a real nix-daemon that trusts the cluster's key, and an ordinary user who may not do much.

use std::time::Duration;

use anyhow::Result;

use crate::host::{Bind, Host, HostSpec, User};
use crate::lab::Lab;
use crate::nix_store::NixStore;
use crate::oracle::Release;
use crate::process::{Process, wait_until};

/// The user that runs the client on a board.
pub const BOARD_USER: User = User::Id(1000);

const DAEMON_SOCKET: &str = "/nix/var/nix/daemon-socket/socket";

/// What a board is made of.
#[derive(Clone, Debug, Default)]
pub struct BoardSpec {
    /// Host name, and by habit the name in its certificate.
    pub name: String,
    /// Which real Nix it has.
    pub release: Release,
    /// Public keys that its daemon trusts.
    pub trusted_keys: Vec<String>,
    /// What else it sees of the machine.
    pub binds: Vec<Bind>,
    /// More lines for its `nix.conf`.
    pub configuration: String,
}

/// A running board: empty store, nix-daemon, ordinary user.
#[derive(Debug)]
pub struct Board {
    /// Its host.
    pub host: Host,
    /// Its daemon.
    pub daemon: Process,
}

impl Board {
    /// Starts a board with Nix from a root of set-up. It builds nothing itself (`max-jobs = 0`).
    ///
    /// # Errors
    /// Set-up was not run, or the daemon does not come up.
    pub fn start(lab: &Lab, spec: BoardSpec) -> Result<Self> {
        let root = lab.cache().product(spec.release.root())?;
        let host = lab.host(HostSpec { name: spec.name, root, binds: spec.binds, ..HostSpec::default() })?;
        let configuration = format!(
            "build-users-group = nixbld\nsandbox = true\nrequire-sigs = true\nmax-jobs = 0\nsubstituters =\n\
             trusted-public-keys = {}\ntrusted-users = root\nallowed-users = *\n{}",
            spec.trusted_keys.join(" "),
            spec.configuration
        );
        host.write("/etc/nix/nix.conf", configuration, 0o644, User::Root)?;
        add_user(&host)?;
        let daemon = host.service(User::Root, "nix-daemon", &["nix-daemon", "--daemon"], &[])?;
        let board = Self { host, daemon };
        wait_until("the board's nix-daemon", Duration::from_secs(30), || {
            Ok(board.host.outside(DAEMON_SOCKET).exists().then_some(()))
        })?;
        Ok(board)
    }

    /// The board's store as its ordinary user sees it, through the daemon.
    #[must_use]
    pub fn store(&self) -> NixStore<'_> {
        NixStore { host: &self.host, user: BOARD_USER, environment: USER_ENVIRONMENT }
    }
}

/// What the ordinary user's programs need.
pub const USER_ENVIRONMENT: &[(&str, &str)] =
    &[("HOME", "/home/board"), ("USER", "board"), ("NIX_REMOTE", "daemon")];

fn add_user(host: &Host) -> Result<()> {
    let passwd = std::fs::read_to_string(host.outside("/etc/passwd"))?;
    let group = std::fs::read_to_string(host.outside("/etc/group"))?;
    host.write("/etc/passwd", passwd + "board:x:1000:1000::/home/board:/bin/sh\n", 0o644, User::Root)?;
    host.write("/etc/group", group + "board:x:1000:\n", 0o644, User::Root)?;
    host.make_directory("/home/board", BOARD_USER)
}
