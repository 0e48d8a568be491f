//! A board and a cluster, and the program between them.
use crate::board::{Board, Nix};
use crate::cluster::Cluster;
use nix_formats::store_path::StoreDir;
use std::net::SocketAddr;
use std::process::Stdio;

/// A derivation of two outputs with one source.
pub const TWO: &str = r#"
{ name ? "two" }: rec {
  two = derivation {
    inherit name;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" "exit 3" ];
    outputs = [ "out" "dev" ];
    source = builtins.toFile "source.txt" "a source\n";
  };
  after = derivation {
    name = "after";
    system = "x86_64-linux";
    builder = "/bin/sh";
    inherit two;
  };
  fixed = derivation {
    name = "fixed";
    system = "x86_64-linux";
    builder = "/bin/sh";
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = "sha256-pQpattmS9VmO3ZIQUFn66az8GSmB4IvYhTTCFn6SUmo=";
  };
}
"#;

/// A board, a cluster whose key the board trusts, and the program.
pub struct Scene {
    pub board: Board,
    pub cluster: Cluster,
}

/// What the program did.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Scene {
    /// Starts both.
    pub async fn new() -> Self {
        let cluster = Cluster::start().await;
        let trusted = cluster.key.public_key();
        let configuration = format!("require-sigs = true\ntrusted-public-keys = {trusted}");
        Self { board: Board::start(Nix::Host, &configuration), cluster }
    }

    /// Writes a file into the board's /mnt, which is where the program runs.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.board.outside(name), text).unwrap();
    }

    /// The derivation of an attribute.
    pub fn instantiate(&self, text: &str, attribute: &str) -> String {
        self.write("given.nix", text);
        self.board.run(&["nix-instantiate", "/mnt/given.nix", "-A", attribute]).remove(0)
    }

    /// The path of an output.
    pub fn output(&self, derivation: &str, name: &str) -> String {
        let known = nix_formats::derivation::parse(
            &std::fs::read(self.board.store_file(derivation)).unwrap(),
            &StoreDir::default(),
        );
        crate::cluster::output(&known.unwrap(), name)
    }

    /// Whether the board's Nix knows a path.
    pub fn is_valid(&self, path: &str) -> bool {
        self.board
            .command(&["nix-store", "--check-validity", path])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    }

    /// The program's arguments behind its configuration.
    pub fn command(&self, address: SocketAddr, arguments: &[&str]) -> tokio::process::Command {
        let configuration = self.cluster.configuration(address);
        let mut argv = vec![
            "env",
            "-C",
            "/mnt",
            env!("CARGO_BIN_EXE_elsewhere"),
            "--config",
            configuration.to_str().unwrap(),
        ];
        argv.extend_from_slice(arguments);
        let mut command = tokio::process::Command::from(self.board.command(&argv));
        command.env("XDG_STATE_HOME", "/mnt/state").env("NIX_REMOTE", "daemon").stdin(Stdio::null());
        command
    }

    /// Runs the program.
    pub async fn elsewhere(&self, arguments: &[&str]) -> Done {
        self.elsewhere_at(self.cluster.address, arguments).await
    }

    /// Runs the program against another address.
    pub async fn elsewhere_at(&self, address: SocketAddr, arguments: &[&str]) -> Done {
        done(self.command(address, arguments)).await
    }

    /// Runs the program with more environment.
    pub async fn elsewhere_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Done {
        let mut command = self.command(self.cluster.address, arguments);
        command.envs(environment.iter().copied());
        done(command).await
    }

    /// Names of the plans that the board remembers.
    pub fn unfinished_plans(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.board.outside("state/elsewhere/plans")) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

async fn done(mut command: tokio::process::Command) -> Done {
    let output = command.output().await.unwrap();
    Done {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
