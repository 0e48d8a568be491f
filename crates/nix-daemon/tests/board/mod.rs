//! A board for tests: a real nix-daemon on a private store, in a mount namespace that ends with it.
#![allow(dead_code, reason = "shared by several test programs, none of which uses all")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Which Nix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nix {
    /// The one of this machine.
    Host,
    /// The one of Debian sid, in the root that `cargo xtask setup` makes.
    Sid,
}

impl Nix {
    /// The root file system that it lives in.
    fn root(self) -> PathBuf {
        let cache = std::env::var_os("ELSEWHERE_CACHE").unwrap_or_else(|| "/var/cache/elsewhere".into());
        let root = match self {
            Self::Host => PathBuf::from("/"),
            Self::Sid => PathBuf::from(cache).join("roots/sid"),
        };
        assert!(
            root.join("usr/bin/nix-daemon").exists(),
            "no Nix in {}: run cargo xtask setup",
            root.display()
        );
        root
    }
}

/// Enters a root with the private store at /nix and the private directory at /mnt, and runs what follows.
const ENTER: &str = r#"set -e
root=$1 private=$2; shift 2
[ "$root" = / ] && root=
# A machine that has the programs need not have a store.
mkdir -p "$root/nix"
mount --bind "$private/nix" "$root/nix"
if [ -n "$root" ]; then
  mount --rbind /dev "$root/dev"
  mount --rbind /proc "$root/proc"
fi
mount --bind "$private/mnt" "$root/mnt"
exec chroot "$root/" "$@"
"#;

/// A running daemon whose clients are not trusted.
pub struct Board {
    /// Where it listens, as this process sees it.
    pub socket: PathBuf,
    nix: Nix,
    configuration: String,
    directory: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Board {
    /// Starts a daemon with some lines of configuration of its own.
    pub fn start(nix: Nix, configuration: &str) -> Self {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let directory = tempfile::TempDir::new_in(base).unwrap();
        for name in ["nix/store", "nix/var", "mnt"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let configuration = format!(
            "build-users-group =\nsandbox = false\nsubstituters =\ntrusted-users = nobody-at-all\n{configuration}\n"
        );
        let mut board =
            Self { socket: directory.path().join("mnt/socket"), nix, configuration, directory, daemon: None };
        board.run(&["nix-store", "--init"]);
        board.daemon = Some(board.command(&["nix-daemon"]).stderr(Stdio::null()).spawn().unwrap());
        for _attempt in 0..600 {
            if std::os::unix::net::UnixStream::connect(&board.socket).is_ok() {
                return board;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("nix-daemon does not listen at {}", board.socket.display());
    }

    /// A path of the private /mnt as this process sees it.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.directory.path().join("mnt").join(name)
    }

    /// A file of the private store as this process sees it.
    pub fn store_file(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.trim_start_matches('/'))
    }

    /// A program inside.
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--map-root-user", "--kill-child", "--fork", "sh", "-c", ENTER, "sh"])
            .arg(self.nix.root())
            .arg(self.directory.path())
            .args(argv)
            .env("NIX_CONFIG", &self.configuration)
            .env("NIX_DAEMON_SOCKET_PATH", "/mnt/socket")
            .env("NIX_STATE_DIR", "/nix/var/nix")
            .env("HOME", "/mnt")
            .env_remove("NIX_REMOTE");
        command
    }

    /// Runs a program inside, and gives the lines that it printed.
    pub fn run(&self, argv: &[&str]) -> Vec<String> {
        let output = self.command(argv).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{argv:?}: {}\n{errors}", output.status);
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Adds a file to the store, by its hash.
    pub fn add(&self, name: &str, contents: &[u8]) -> String {
        fs::write(self.outside(name), contents).unwrap();
        self.run(&["nix-store", "--add", &format!("/mnt/{name}")]).remove(0)
    }

    /// A derivation of two outputs.
    pub fn instantiate(&self) -> String {
        let expression = r#"derivation { name = "two"; system = "x86_64-linux"; builder = "/bin/sh"; outputs = [ "out" "dev" ]; }"#;
        self.run(&["nix-instantiate", "--expr", expression]).remove(0)
    }

    /// A link in the private /mnt.
    pub fn link(&self, name: &str, target: &str) {
        symlink(target, self.outside(name)).unwrap();
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // unshare takes the namespace's processes with it.
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}
