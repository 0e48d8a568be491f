//! Runs the tiny program of an architecture in the real sandbox.
use super::program::{Architecture, program};
use crate::blocking::blocking;
use crate::build::jail::{self, InputKind, Jail, JailInput, JailNetwork};
use crate::build::log::Piece;
use crate::build::run::{self, Ended, LogSink};
use crate::lease::Limits;
use crate::tree;
use node::exit::chain;
use sandbox::binfmt::Rule;
use sandbox::spec::{ByteString, Command, Ids, Request};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How long the program may take, in seconds; it needs some milliseconds.
const TIMEOUT_S: u64 = 20;
/// Where the program appears; no real path has this hash.
const BASE_NAME: &str = "00000000000000000000000000000000-self-test";

/// What it takes to run a self-test.
#[derive(Clone, Debug)]
pub struct SelfTest {
    /// The launcher.
    pub launcher: PathBuf,
    /// May be removed and made anew.
    pub directory: PathBuf,
    /// Ids that the program runs as.
    pub ids: Ids,
}

/// What differs between self-tests.
#[derive(Debug)]
struct Surroundings<'a> {
    rules: &'a [Rule],
    network: JailNetwork,
    cgroup: Option<ByteString>,
    /// Has variables that would show if an emulator listened to them.
    is_steered: bool,
}

impl Default for Surroundings<'_> {
    fn default() -> Self {
        Self { rules: &[], network: JailNetwork::None, cgroup: None, is_steered: true }
    }
}

/// What the program saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ran {
    /// AT_HWCAP of its processor.
    pub hwcap: u64,
    /// Whether anything was written to the log: the program writes nothing.
    pub wrote_log: bool,
}

#[derive(Default)]
struct Written(String);

impl LogSink for Written {
    async fn piece(&mut self, piece: Piece) {
        if let Piece::Text(text) = piece
            && self.0.len() < 1024
        {
            self.0.push_str(&String::from_utf8_lossy(&text[..text.len().min(1024)]));
        }
    }
}

impl SelfTest {
    /// Runs the program; the error is for people.
    pub async fn run(&self, architecture: Architecture, rules: &[Rule]) -> Result<Ran, String> {
        self.run_with(architecture, Surroundings { rules, ..Surroundings::default() }).await
    }

    /// The same with the host's emulator, which listens to variables of the build.
    pub async fn run_by_host(&self, architecture: Architecture) -> Result<Ran, String> {
        let surroundings = Surroundings { is_steered: false, ..Surroundings::default() };
        self.run_with(architecture, surroundings).await
    }

    /// The same with a network.
    pub async fn run_joined(&self, architecture: Architecture, network: JailNetwork) -> Result<Ran, String> {
        self.run_with(architecture, Surroundings { network, ..Surroundings::default() }).await
    }

    /// The same in a cgroup.
    pub async fn run_in(&self, architecture: Architecture, cgroup: ByteString) -> Result<Ran, String> {
        let surroundings = Surroundings { cgroup: Some(cgroup), ..Surroundings::default() };
        self.run_with(architecture, surroundings).await
    }

    async fn run_with(
        &self,
        architecture: Architecture,
        surroundings: Surroundings<'_>,
    ) -> Result<Ran, String> {
        let (directory, test) = (self.directory.clone(), self.clone());
        let made = blocking(move || test.make(architecture)).await;
        made.map_err(|error| format!("cannot prepare the self-test in '{}': {error}", directory.display()))?;
        let result = self.run_made(architecture, surroundings).await;
        if let Err(error) = blocking(move || tree::remove(&directory)).await {
            tracing::warn!(error = chain(&error), "the self-test's directory stays");
        }
        result
    }

    fn make(&self, architecture: Architecture) -> io::Result<()> {
        tree::remove(&self.directory).map_err(io::Error::other)?;
        for name in ["root", "scratch"] {
            std::fs::create_dir_all(self.directory.join(name))?;
        }
        let file = self.directory.join("program");
        std::fs::write(&file, program(architecture))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o555))
    }

    async fn run_made(
        &self,
        architecture: Architecture,
        surroundings: Surroundings<'_>,
    ) -> Result<Ran, String> {
        let Surroundings { rules, network, cgroup, is_steered } = surroundings;
        let scratch = self.directory.join("scratch");
        let request = Request::Run(Box::new(jail::spec(Jail {
            root: &self.directory.join("root"),
            scratch: &scratch,
            command: command(is_steered),
            build_files: Vec::new(),
            inputs: vec![JailInput {
                base_name: BASE_NAME.into(),
                source: self.directory.join("program"),
                kind: InputKind::Mounted,
            }],
            outputs: Vec::new(),
            network,
            cgroup,
            system: architecture.system(),
            host_ids: self.ids,
            is_emulated: !architecture.is_of_own_processor(),
            interpreters: rules.to_vec(),
            sandbox_paths: &[],
            dev_shm_size: "50%",
            has_kvm: false,
            certificates: None,
        })));
        let limits = Limits { timeout_s: Some(TIMEOUT_S), ..Limits::default() };
        let mut log = Written::default();
        let run = run::run(&self.launcher, None, &request, limits, std::future::pending(), &mut log).await;
        match run.map_err(|error| chain(&error))?.ended {
            Ended::Exited(0) => {}
            ended => {
                return Err(format!("the self-test program ended with {ended:?}; it wrote: {:?}", log.0));
            }
        }
        Ok(Ran { hwcap: read_result(&scratch)?, wrote_log: !log.0.is_empty() })
    }
}

/// The program; steered, with two variables for an emulator.
fn command(is_steered: bool) -> Command {
    let variables: &[&str] = if is_steered { &["QEMU_CPU=max", "QEMU_STRACE=1"] } else { &[] };
    Command {
        program: format!("/nix/store/{BASE_NAME}").into(),
        arguments: vec!["self-test".into(), "/build/result".into()],
        environment: variables.iter().map(|variable| (*variable).into()).collect(),
        directory: jail::BUILD_DIRECTORY.into(),
    }
}

fn read_result(scratch: &Path) -> Result<u64, String> {
    let path = scratch.join("result");
    let bytes = std::fs::read(&path).map_err(|error| format!("the self-test left no result: {error}"))?;
    let bytes = bytes.try_into().map_err(|_| "the self-test's result is not 8 bytes long".to_owned())?;
    Ok(u64::from_le_bytes(bytes))
}
