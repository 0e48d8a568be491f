//! A board's host: the real command `elsewhere build`, and a daemon in memory whose store outlives the host's crashes.
use crate::record::{self, What};
use client::config::Config;
use nix_daemon::testing::FakeDaemon;
use node::tls::TlsFiles;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UnixListener;

/// Exit codes after which the user gives up: all is there, or a builder failed.
const FINAL: &[u8] = &[0, 100];

/// What stays when the host loses its power.
#[derive(Clone)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// `host:port`.
    pub coordinator: String,
    /// Its certificate.
    pub files: TlsFiles,
    /// For the daemon's socket and the client's state.
    pub directory: PathBuf,
    /// Its store.
    pub daemon: FakeDaemon,
    /// Derivations to build, in one command.
    pub wanted: Vec<String>,
    /// When its user types the command, in virtual time.
    pub begins_at: Duration,
    /// What it waits for besides.
    pub may_begin: Arc<AtomicBool>,
    /// Set when the command has ended for good.
    pub is_done: Arc<AtomicBool>,
}

/// One start of the host, until it crashes. A command that ends with an error that is not the build's is typed again.
pub async fn run(settings: Settings) -> turmoil::Result {
    let Settings { name, coordinator, files, directory, daemon, wanted, begins_at, may_begin, is_done } =
        settings;
    std::fs::create_dir_all(&directory)?;
    let socket = directory.join("daemon.socket");
    let _former = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)?;
    node::task::spawn("nix-daemon", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let daemon = daemon.clone();
            node::task::spawn("connection", async move { daemon.serve(stream).await });
        }
    });
    while record::now() < begins_at || !may_begin.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut words = vec!["build", "--log", "--no-out-link"];
    words.extend(wanted.iter().map(String::as_str));
    while !is_done.load(Ordering::SeqCst) {
        let user = name.clone();
        let config = Config {
            coordinator: coordinator.clone(),
            tls: files.clone(),
            daemon_socket: socket.clone(),
            state_home: directory.join("state"),
        };
        let listener = Arc::new(move |line: &str| record::add(&user, What::Seen(line.to_owned())));
        let code = client::command::perform(config, &words, listener).await?;
        record::add(&name, What::Exit(code));
        if FINAL.contains(&code) {
            is_done.store(true, Ordering::SeqCst);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    // The host goes on.
    std::future::pending().await
}
