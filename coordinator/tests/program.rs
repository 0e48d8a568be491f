//! The program itself: what it says of itself, what it refuses, how it stops, and that a kill loses nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nix_formats::signature::SecretKey;
use node::testing::Authority;
use node::tls::{ChannelSettings, ExpectedPeer, Role, TlsFiles, client_channel};
use proto::v1;
use proto::v1::plans_client::PlansClient;
use proto::v1::work_client::WorkClient;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tonic::Code;

const START_MAX: Duration = Duration::from_secs(20);
/// A few seconds, whoever is connected.
const STOP_MAX: Duration = Duration::from_secs(5);

struct Place {
    directory: TempDir,
    authority: Authority,
    address: SocketAddr,
    config: PathBuf,
}

impl Place {
    fn new(more: &str) -> Self {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let authority = Authority::new(directory.path()).unwrap();
        let tls = authority.issue(Role::Coordinator, "c").unwrap();
        let key = directory.path().join("nix.key");
        std::fs::write(&key, SecretKey::from_seed("cluster-1", &[7; 32]).to_text()).unwrap();
        // Free now; nobody else in this test's machine takes it so soon.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = directory.path().join("config.toml");
        let shown = |path: &Path| path.display().to_string();
        let text = format!(
            "listen = \"{address}\"\nstate_dir = \"{}\"\nsigning_key = \"{}\"\n{more}\n[tls]\ncertificate = \"{}\"\n\
             key = \"{}\"\nauthority = \"{}\"\n",
            shown(&directory.path().join("state")),
            shown(&key),
            shown(&tls.certificate),
            shown(&tls.key),
            shown(&tls.authority),
        );
        std::fs::write(&config, text).unwrap();
        Self { directory, authority, address, config }
    }

    fn command(&self) -> Command {
        let mut command = program();
        command.arg("--config").arg(&self.config);
        command
    }

    /// Starts it, and waits until it answers a handshake.
    async fn start(&self) -> Child {
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let child = self.command().stderr(log).kill_on_drop(true).spawn().unwrap();
        let files = self.authority.issue(Role::Board, "b").unwrap();
        let since = Instant::now();
        while self.channel(&files).await.is_none() {
            assert!(since.elapsed() < START_MAX, "it does not come up: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        child
    }

    async fn channel(&self, files: &TlsFiles) -> Option<tonic::transport::Channel> {
        let address = self.address.to_string();
        client_channel(&address, files, ExpectedPeer::coordinator(), ChannelSettings::control()).await.ok()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_elsewhere-coordinator"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).env_remove("ELSEWHERE_LOG");
    command
}

async fn said(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = tokio::time::timeout(START_MAX, output).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn terminate(child: &Child, signal: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

#[tokio::test]
async fn help_teaches() {
    let mut command = program();
    command.arg("--help");
    let (code, help, _) = said(command).await;
    assert_eq!(code, Some(0));
    for word in ["signing_key", "[tls]", "SIGTERM", "SIGHUP", "ELSEWHERE_LOG", "--config", "--state-dir"] {
        assert!(help.contains(word), "{word} is not explained:\n{help}");
    }
}

#[tokio::test]
async fn what_it_cannot_use_is_named() {
    let missing = {
        let mut command = program();
        command.args(["--config", "/nowhere/c.toml"]);
        command
    };
    let unknown = Place::new("evict_after = 3");
    let eviction = Place::new("eviction_after_ms = 1");
    let key = Place::new("");
    std::fs::write(key.directory.path().join("nix.key"), "no key").unwrap();
    let certificate = Place::new("");
    let executor = certificate.authority.issue(Role::Executor, "x").unwrap();
    let own = certificate.directory.path().join("coordinator-c.pem");
    std::fs::copy(executor.certificate, own).unwrap();
    let later = Place::new("");
    let state = later.directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    rusqlite::Connection::open(state.join("journal.sqlite"))
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    for (what, command, code, words) in [
        ("no file", missing, 2, "read configuration file /nowhere/c.toml"),
        ("an unknown key", unknown.command(), 2, "unknown field `evict_after`"),
        ("an impossible eviction", eviction.command(), 1, "must be at least 3 times heartbeat_interval_ms"),
        ("no key", key.command(), 1, "read the signing key"),
        ("another role", certificate.command(), 1, "is of executor x, not of a coordinator"),
        ("a later journal", later.command(), 1, "has version 99"),
    ] {
        let (found, _, stderr) = said(command).await;
        assert!(found == Some(code) && stderr.contains(words), "{what}: {found:?} {stderr}");
    }
}

#[tokio::test]
async fn it_stops_at_once_whoever_is_connected() {
    let place = Place::new("");
    let mut child = place.start().await;
    let executor = place.authority.issue(Role::Executor, "x").unwrap();
    let mut work = WorkClient::new(place.channel(&executor).await.unwrap());
    let hello = v1::ExecutorHello {
        protocol_version: 1,
        boot_id: vec![1; 16].into(),
        data_address: "127.0.0.1:1".into(),
        capability: Some(v1::Capability { slots: 1, ..Default::default() }),
        ..Default::default()
    };
    let message = v1::executor_message::Message::Hello(hello);
    let first = v1::ExecutorMessage { message: Some(message) };
    let outgoing = tokio_stream::StreamExt::chain(tokio_stream::once(first), tokio_stream::pending());
    let mut session = work.session(outgoing).await.unwrap().into_inner();
    session.message().await.unwrap().unwrap();
    // A submission that waits for its board.
    let board = place.authority.issue(Role::Board, "b").unwrap();
    let mut plans = PlansClient::new(place.channel(&board).await.unwrap());
    let mut submission = plans.submit(tokio_stream::pending()).await.unwrap().into_inner();
    // A second one must not use the same state.
    let (code, _, stderr) = {
        let mut second = place.command();
        second.args(["--listen", "127.0.0.1:0"]);
        said(second).await
    };
    assert!(code == Some(1) && stderr.contains("does another coordinator use it?"), "{code:?} {stderr}");
    terminate(&child, "-TERM");
    let stopped = tokio::time::timeout(STOP_MAX, child.wait()).await;
    let status = stopped.unwrap_or_else(|_| panic!("it does not stop: {}", place.log())).unwrap();
    assert_eq!(status.code(), Some(0), "{}", place.log());
    for status in [session.message().await.map(drop), submission.message().await.map(drop)] {
        let status = status.unwrap_err();
        assert_eq!(
            (status.code(), status.message().contains("is stopping")),
            (Code::Unavailable, true),
            "{status}"
        );
    }
    assert!(place.log().contains("coordinator stopped"));
}

#[tokio::test]
async fn a_killed_coordinator_comes_back_and_certificates_are_read_again() {
    let place = Place::new("");
    let mut child = place.start().await;
    child.kill().await.unwrap();
    let mut child = place.start().await;
    let run = |log: &str| {
        log.lines().any(|line| line.contains("coordinator started") && line.contains("\"run\":2"))
    };
    assert!(run(&place.log()), "{}", place.log());
    terminate(&child, "-HUP");
    let since = Instant::now();
    while !place.log().contains("certificates read again") {
        assert!(since.elapsed() < START_MAX, "{}", place.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    terminate(&child, "-INT");
    assert_eq!(tokio::time::timeout(STOP_MAX, child.wait()).await.unwrap().unwrap().code(), Some(0));
}
