//! A cluster: a coordinator and executors, each on a host of its own, the executors without Nix and as an ordinary user.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::board::{BOARD_USER, Board, BoardSpec};
use crate::certificates::Certificates;
use crate::client::Client;
use crate::emulation::{FOREIGN, Foreign, Interpreter};
use crate::host::{Bind, Host, HostSpec, User};
use crate::lab::Lab;
use crate::process::{Process, wait_until};
use crate::programs::Programs;
use crate::wall_clock::WallClock;

/// The user that coordinator and executors run as; it has subordinate ids in the executors' root.
pub const SERVICE_USER: User = User::Id(990);
const CONTROL_PORT: u16 = 7420;
const DATA_PORT: u16 = 7421;
/// Where coordinator and executors keep what they have.
pub const STATE_DIRECTORY: &str = "/var/lib/elsewhere";
const CONFIGURATION: &str = "/etc/elsewhere/config.toml";
const SIGNING_KEY: &str = "/etc/elsewhere/nix.key";
/// Where programs write their spans, one JSON object a line.
pub const SPANS: &str = "/tmp/spans.json";
/// Where executors and oracles have the shell that their builds may see.
pub const SANDBOX_SHELL: &str = "/opt/busybox";
/// Where executors have the emulators.
const QEMU: &str = "/opt/qemu";
/// How long a program may take until it listens; an executor proves its platforms before.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// Its executors.
    pub executors: Vec<ExecutorSpec>,
    /// More top-level lines of the coordinator's configuration.
    pub coordinator_lines: String,
    /// Where all programs send their spans: `http://HOST:PORT`.
    pub collector: Option<String>,
    /// Whether every program writes its spans to [`SPANS`] on its host.
    pub spans: bool,
    /// Size of the coordinator's own disk; the machine's otherwise.
    pub coordinator_disk_mb: Option<u32>,
    /// Wall clocks that can be set; the machine's otherwise.
    pub clock: Option<WallClock>,
}

/// One executor, and what it offers.
#[derive(Clone, Debug)]
pub struct ExecutorSpec {
    /// Host name, and the name in its certificate.
    pub name: String,
    /// Builds at once.
    pub slots: u32,
    /// Offers x86_64 derivations.
    pub native: bool,
    /// Offers derivations for other systems.
    pub cross: bool,
    /// Offers emulated derivations, of all foreign systems.
    pub emulated: bool,
    /// Builds see [`SANDBOX_SHELL`] as /bin/sh.
    pub has_shell: bool,
    /// Whose certificate it has, if not its own.
    pub certificate: Option<String>,
    /// Size of its own disk, and what builds must leave of it; the machine's otherwise.
    pub disk_mb: Option<(u32, u32)>,
    /// What its store keeps, at most.
    pub store_mb: Option<u32>,
}

impl ExecutorSpec {
    /// An executor that offers everything, with one slot.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            slots: 1,
            native: true,
            cross: true,
            emulated: true,
            has_shell: false,
            certificate: None,
            disk_mb: None,
            store_mb: None,
        }
    }

    /// An executor of native derivations alone: it is there sooner.
    #[must_use]
    pub fn native(name: &str) -> Self {
        Self { cross: false, emulated: false, ..Self::new(name) }
    }
}

impl Default for ClusterSpec {
    /// Two executors that offer everything.
    fn default() -> Self {
        let executors = ["executor1", "executor2"].map(ExecutorSpec::new).into();
        Self {
            executors,
            coordinator_lines: String::new(),
            collector: None,
            spans: false,
            coordinator_disk_mb: None,
            clock: None,
        }
    }
}

/// A program of the cluster on its host.
#[derive(Debug)]
pub struct Node {
    /// The program. Before the host: it ends first.
    pub process: Process,
    /// Its host.
    pub host: Host,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    lab: Lab,
    programs: Programs,
    certificates: Certificates,
    collector: Option<String>,
    spans: bool,
    clock: Option<WallClock>,
    executors: Vec<Node>,
    coordinator: Node,
}

impl Cluster {
    /// Starts the coordinator and all executors, and waits until each listens.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start(lab: &Lab, spec: ClusterSpec) -> Result<Self> {
        let programs = Programs::find()?;
        let host = service_host(lab, &programs, "coordinator", spec.clock.as_ref())?;
        if let Some(mb) = spec.coordinator_disk_mb {
            host.small_disk(STATE_DIRECTORY, mb, SERVICE_USER)?;
        }
        let certificates = Certificates::new(lab, &programs, "certificates", host.address())?;
        certificates.install(&host, "coordinator", SERVICE_USER)?;
        host.write(SIGNING_KEY, std::fs::read(certificates.file("nix.key"))?, 0o400, SERVICE_USER)?;
        let configuration = format!(
            "listen = \"0.0.0.0:{CONTROL_PORT}\"\nstate_dir = \"{STATE_DIRECTORY}\"\nsigning_key = \"{SIGNING_KEY}\"\n\
             {}\n{}",
            spec.coordinator_lines,
            Certificates::tls_table()
        );
        host.write(CONFIGURATION, configuration, 0o644, SERVICE_USER)?;
        let ClusterSpec { executors, collector, clock, spans, .. } = spec;
        let surroundings = Surroundings {
            programs: &programs,
            collector: collector.as_deref(),
            spans,
            clock: clock.as_ref(),
        };
        let process = surroundings.service(&host, "elsewhere-coordinator")?;
        let coordinator = Node { process, host };
        let lab = lab.clone();
        let mut cluster =
            Self { lab, programs, certificates, collector, spans, clock, executors: vec![], coordinator };
        wait_listening(&mut cluster.coordinator, CONTROL_PORT)?;
        for executor in &executors {
            cluster.start_executor(executor)?;
        }
        for executor in &mut cluster.executors {
            wait_listening(executor, DATA_PORT)?;
        }
        Ok(cluster)
    }

    /// Starts one more executor, and waits until it listens.
    ///
    /// # Errors
    /// It does not come up.
    pub fn add_executor(&mut self, spec: &ExecutorSpec) -> Result<()> {
        self.start_executor(spec)?;
        self.executors.last_mut().map_or(Ok(()), |node| wait_listening(node, DATA_PORT))
    }

    fn start_executor(&mut self, spec: &ExecutorSpec) -> Result<()> {
        let host = service_host(&self.lab, &self.programs, &spec.name, self.clock.as_ref())?;
        if let Some((mb, _)) = spec.disk_mb {
            host.small_disk(STATE_DIRECTORY, mb, SERVICE_USER)?;
        }
        let certificate = spec.certificate.as_ref().unwrap_or(&spec.name);
        let address = format!("{certificate}={}", host.address());
        self.certificates.make(&["--executor", certificate, "--address", &address])?;
        self.certificates.install(&host, certificate, SERVICE_USER)?;
        let configuration = format!(
            "coordinator = \"{}\"\ndata_listen = \"0.0.0.0:{DATA_PORT}\"\ndata_advertise = \"{}:{DATA_PORT}\"\nslots = {}\n{}{}\
             [platforms]\nnative = {}\ncross = {}\nemulated = {}\n{}[sandbox]\npaths = [{}]\n{}",
            self.address(),
            host.address(),
            spec.slots,
            store_limits(spec),
            Certificates::tls_table(),
            spec.native,
            spec.cross,
            spec.emulated,
            emulation(),
            if spec.has_shell { format!("\"/bin/sh={SANDBOX_SHELL}\"") } else { String::new() },
            spec.disk_mb.map(|(_, free_mb)| disk_limit(free_mb)).unwrap_or_default()
        );
        host.write(CONFIGURATION, configuration, 0o644, SERVICE_USER)?;
        let process = self.surroundings().service(&host, "elsewhere-executor")?;
        self.executors.push(Node { process, host });
        Ok(())
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            programs: &self.programs,
            collector: self.collector.as_deref(),
            spans: self.spans,
            clock: self.clock.as_ref(),
        }
    }

    /// Kills the coordinator as a power cut would, and starts it again with what it had on disk.
    ///
    /// # Errors
    /// It does not come up again.
    pub fn restart_coordinator(&mut self) -> Result<()> {
        self.coordinator.process.kill()?;
        self.coordinator.process =
            self.surroundings().service(&self.coordinator.host, "elsewhere-coordinator")?;
        wait_listening(&mut self.coordinator, CONTROL_PORT)
    }

    /// Starts an executor's program again on its host, which runs: at once, or after a while.
    ///
    /// # Errors
    /// It does not come up.
    pub fn restart_executor(&mut self, name: &str) -> Result<()> {
        self.executor(name)?.process.kill()?;
        let found = self.executors.iter().find(|node| node.host.name() == name);
        let host = &found.with_context(|| format!("there is no executor {name}"))?.host;
        let process = self.surroundings().service(host, "elsewhere-executor")?;
        let node = self.executor(name)?;
        node.process = process;
        wait_listening(node, DATA_PORT)
    }

    /// Starts an executor's host again that crashed, and its program.
    ///
    /// # Errors
    /// It does not come up.
    pub fn boot_executor(&mut self, name: &str) -> Result<()> {
        self.executor(name)?.host.boot()?;
        self.restart_executor(name)
    }

    /// `host:port` of the coordinator.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{CONTROL_PORT}", self.coordinator.host.address())
    }

    /// Its certificates.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The coordinator's host.
    #[must_use]
    pub fn coordinator_host(&self) -> &Host {
        &self.coordinator.host
    }

    /// The coordinator.
    pub fn coordinator(&mut self) -> &mut Node {
        &mut self.coordinator
    }

    /// The interpreter files that executors emulate with: theirs have this contents.
    ///
    /// # Errors
    /// The executor's program cannot make them.
    pub fn interpreters(&self) -> Result<Vec<Interpreter>> {
        let interpreter = |foreign| Ok(Interpreter { foreign, file: self.interpreter(foreign)? });
        FOREIGN.iter().map(interpreter).collect()
    }

    fn interpreter(&self, foreign: &Foreign) -> Result<PathBuf> {
        let file = self.lab.directory().join(format!("interpreter-{}", foreign.processor));
        if !file.exists() {
            let qemu = self.lab.cache().product(&format!("qemu/qemu-{}", foreign.processor))?;
            let mut executor = Command::new(self.programs.outside("elsewhere-executor"));
            executor.args(["interpreter", "--system", foreign.system, "--qemu"]).arg(qemu);
            executor.arg("--output").arg(&file);
            let made = executor.output().context("start elsewhere-executor")?;
            ensure!(made.status.success(), "make the interpreter: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(file)
    }

    /// An executor by name.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn executor(&mut self, name: &str) -> Result<&mut Node> {
        let found = self.executors.iter_mut().find(|node| node.host.name() == name);
        found.with_context(|| format!("there is no executor {name}"))
    }

    /// Starts a board that trusts this cluster's key and has a certificate of its own name.
    ///
    /// # Errors
    /// As of [`Board::start`].
    pub fn board(&self, mut spec: BoardSpec) -> Result<Board> {
        self.certificates.make(&["--board", &spec.name])?;
        spec.trusted_keys.push(self.certificates.public_key()?);
        self.stranger(spec)
    }

    /// Starts a board that trusts only the keys that its description names; its certificate was made before.
    ///
    /// # Errors
    /// As of [`Board::start`].
    pub fn stranger(&self, mut spec: BoardSpec) -> Result<Board> {
        let name = spec.name.clone();
        spec.binds.push(self.programs.bind());
        let board = Board::start(&self.lab, spec)?;
        self.certificates.install(&board.host, &name, BOARD_USER)?;
        let configuration = format!("coordinator = \"{}\"\n{}", self.address(), Certificates::tls_table());
        board.host.write(crate::client::CONFIGURATION, configuration, 0o644, BOARD_USER)?;
        Ok(board)
    }

    /// The client on a board.
    #[must_use]
    pub fn client<'a>(&self, board: &'a Board) -> Client<'a> {
        Client::new(board, self.programs.inside("elsewhere"), self.collector.as_deref())
    }
}

/// The tables of an executor's configuration that say how it emulates.
fn emulation() -> String {
    let table = |foreign: &Foreign| {
        format!("[emulation.{}]\nqemu = \"{}\"\n", foreign.system, foreign.qemu(QEMU).display())
    };
    FOREIGN.iter().map(table).collect()
}

/// What the store keeps, and leaves free: no more than builds must, where the disk is small.
fn store_limits(spec: &ExecutorSpec) -> String {
    let max = spec.store_mb.map(|mb| format!("store_bytes_max = {}\n", u64::from(mb) << 20));
    let free = spec.disk_mb.map(|(_, mb)| format!("store_free_bytes_min = {}\n", u64::from(mb) << 20));
    max.unwrap_or_default() + &free.unwrap_or_default()
}

/// The table that says what builds must leave of the disk.
fn disk_limit(free_mb: u32) -> String {
    format!("[limits]\ndisk_free_bytes_min = {}\n", u64::from(free_mb) << 20)
}

fn service_host(lab: &Lab, programs: &Programs, name: &str, clock: Option<&WallClock>) -> Result<Host> {
    let qemu = lab.cache().product("qemu")?;
    let bind = |source, target: &str| Bind { source, target: target.into(), writable: false };
    let shell = lab.cache().product("busybox-amd64")?;
    let mut binds = vec![programs.bind(), bind(qemu, QEMU), bind(shell, SANDBOX_SHELL)];
    if let Some(clock) = clock {
        clock.set(name, 0)?;
        binds.push(clock.bind());
    }
    let root = lab.cache().product("roots/bookworm-executor")?;
    let host = lab.host(HostSpec { name: name.into(), root, binds, ..HostSpec::default() })?;
    host.own(STATE_DIRECTORY, SERVICE_USER)?;
    Ok(host)
}

/// What the cluster's programs start with.
struct Surroundings<'a> {
    programs: &'a Programs,
    collector: Option<&'a str>,
    spans: bool,
    clock: Option<&'a WallClock>,
}

impl Surroundings<'_> {
    fn service(&self, host: &Host, program: &str) -> Result<Process> {
        let mut environment = vec![("HOME", "/root"), ("RUST_BACKTRACE", "1")];
        environment.extend(self.collector.map(|collector| ("OTEL_EXPORTER_OTLP_ENDPOINT", collector)));
        environment.extend(self.spans.then_some(("ELSEWHERE_SPAN_FILE", SPANS)));
        let clock = self.clock.map(|_| WallClock::environment(host.name()));
        let clock = clock.iter().flatten();
        environment.extend(clock.map(|(name, value)| (name.as_str(), value.as_str())));
        let argv = [&self.programs.inside(program), "--config", CONFIGURATION];
        host.service(SERVICE_USER, program, &argv, &environment)
    }
}

fn wait_listening(node: &mut Node, port: u16) -> Result<()> {
    let what = format!("{} to listen on port {port}", node.host.name());
    let listening = wait_until(&what, START_LIMIT, || {
        if let Some(status) = node.process.ended()? {
            bail!("{} ended at once: {status}", node.host.name());
        }
        Ok(node.host.listens(port)?.then_some(()))
    });
    listening.with_context(|| format!("its log:\n{}", node.process.log().unwrap_or_default()))
}
