//! Wires the executor together: state directory, platforms, data server, session; ends as it was asked to.
use crate::blocking::blocking;
use crate::build::directory::remove_leftovers;
use crate::build::inputs::Inputs;
use crate::build::{Settings, Worker};
use crate::builtin::Downloader;
use crate::config::Config;
use crate::platform::{self, Proven};
use crate::rpc::peers::Peers;
use crate::rpc::server;
use crate::session;
use crate::session::connection::Identity;
use crate::session::desk::Desk;
use crate::slots::{self, Slots};
use crate::store::collector::{Collector, Limits};
use crate::store::{Store, write_whole};
use anyhow::Context;
use model::BootId;
use node::shutdown::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long killed builds may take to end when the process must stop at once.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// How often it is written down which paths were used.
const RECORD_USES_INTERVAL: Duration = Duration::from_secs(600);

/// Runs the executor until it has drained or must stop.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    config.limits.of_cgroups()?;
    let store_limits = config.store_limits()?;
    let state = State::open(&config).await?;
    let proven = prove(&config).await;
    report(&proven);
    let listener = TcpListener::bind(config.data_listen)
        .await
        .with_context(|| format!("listen on data address {}", config.data_listen))?;
    let data_address = data_address(&config, listener.local_addr()?.port())?;
    let server = server::serve(listener, config.tls.clone(), state.store.clone())?;
    let desk = Arc::new(desk(&config, &proven, &state.store, store_limits)?);
    let collector = Arc::new(Collector::new(state.store.clone(), store_limits));
    let uses = state.store.clone();
    node::task::spawn("record uses", async move {
        loop {
            tokio::time::sleep(RECORD_USES_INTERVAL).await;
            let store = uses.clone();
            blocking(move || store.record_uses()).await;
        }
    });
    let identity = Identity {
        boot_id: BootId(*uuid::Uuid::new_v4().as_bytes()),
        data_address,
        capability: proven.capability,
    };
    tracing::info!(
        coordinator = config.coordinator,
        data_address = identity.data_address,
        "executor started"
    );
    let draining = shutdown.clone();
    let to_drain = desk.clone();
    node::task::spawn("drain", async move {
        draining.draining().await;
        to_drain.drain();
    });
    tokio::select! {
        () = session::run(&config.coordinator, &config.tls, &desk, &state.store, &collector, &identity) => {
            tracing::info!("drained: nothing here is needed any more");
        }
        () = shutdown.stopping() => {
            desk.cancel_all();
            if tokio::time::timeout(STOP_WAIT, desk.idle()).await.is_err() {
                tracing::warn!("builds did not end in time");
            }
        }
    }
    server.abort();
    state.close().await;
    Ok(())
}

/// Proves the platforms and returns what would be advertised; for `self-test`.
pub async fn prove(config: &Config) -> Proven {
    let ids = slots::host_ids(config, user_id()).map_err(|error| node::exit::chain(&error));
    let first = ids.and_then(|ids| ids.first().copied().ok_or_else(|| "there are no slots".to_owned()));
    let directory = config.state_dir.join(format!("self-test-{}", std::process::id()));
    platform::prove(config, first, &directory).await
}

fn report(proven: &Proven) {
    for offer in &proven.capability.offers {
        tracing::info!(platform = %offer.platform, detail = offer.detail, "offered");
    }
    for withheld in &proven.capability.withheld {
        tracing::warn!(platform = %withheld.platform, reason = withheld.reason, "withheld");
    }
}

fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn desk(config: &Config, proven: &Proven, store: &Arc<Store>, store_limits: Limits) -> anyhow::Result<Desk> {
    let sources = Arc::new(Peers::new(config.tls.clone(), config.coordinator.clone()));
    let inputs = Inputs::new(store.clone(), sources);
    // Without ids nothing was proven, so nothing is leased: no slots.
    let ids = slots::host_ids(config, user_id()).unwrap_or_default();
    let offers = &proven.capability.offers;
    let settings = Settings {
        launcher: config.launcher_path(),
        builds_directory: builds_directory(config),
        cores: config.core_count(),
        limits: config.limits.into(),
        sandbox_paths: config.sandbox_paths()?,
        dev_shm_size: config.sandbox.dev_shm_size.clone().unwrap_or_else(|| "50%".into()),
        has_kvm: proven.capability.features.iter().any(|feature| **feature == *"kvm"),
        fixed_output_network: proven.fixed_outputs.network.clone(),
        downloader: Downloader::new(config.downloads, config.certificates().as_deref())?,
        certificates: config.certificates(),
        interpreters: proven.interpreters.clone(),
        resources: proven.resources.clone(),
        store_limits,
        platforms: offers.iter().map(|offer| offer.platform.clone()).collect(),
        user_id: user_id(),
    };
    let worker = Worker::new(settings, store.clone(), inputs, Slots::new(&ids));
    let slot_count = usize::try_from(config.slot_count()).unwrap_or(1);
    let results = config.state_dir.join("results");
    Desk::open(&results, slot_count, Arc::new(worker))
        .with_context(|| format!("open results directory '{}'", results.display()))
}

fn builds_directory(config: &Config) -> PathBuf {
    config.state_dir.join("builds")
}

/// Where others reach this executor: as configured, or the host's own name.
fn data_address(config: &Config, port: u16) -> anyhow::Result<String> {
    if let Some(address) = &config.data_advertise {
        return Ok(address.clone());
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the host's name")?;
    Ok(format!("{}:{port}", host.trim()))
}

/// What is on disk.
struct State {
    store: Arc<Store>,
    directory: PathBuf,
}

impl State {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let directory = config.state_dir.clone();
        let opened = directory.clone();
        let store = blocking(move || open_store(&opened)).await?;
        remove_leftovers(&config.launcher_path(), &builds_directory(config))
            .await
            .with_context(|| format!("clean up '{}'", builds_directory(config).display()))?;
        Ok(Self { store: Arc::new(store), directory })
    }

    /// Everything is on disk: the next start need not verify it.
    async fn close(self) {
        blocking(move || {
            self.store.record_uses();
            self.store.flush();
            let _ = write_whole(&clean_mark(&self.directory), b"");
        })
        .await;
    }
}

/// Says that the last process ended with everything written back.
fn clean_mark(state_dir: &Path) -> PathBuf {
    state_dir.join("clean")
}

/// Opens the store; verifies it when the machine went down since the last start without a clean end.
fn open_store(state_dir: &Path) -> anyhow::Result<Store> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir);
    created.with_context(|| format!("create state directory '{}'", state_dir.display()))?;
    // Builds run as other ids: nothing below is for them.
    std::fs::set_permissions(state_dir, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("close state directory '{}' to others", state_dir.display()))?;
    let kernel_boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let recorded = state_dir.join("kernel-boot-id");
    let before = std::fs::read_to_string(&recorded).ok();
    let was_clean = std::fs::remove_file(clean_mark(state_dir)).is_ok();
    let verify = before.is_some_and(|before| before != kernel_boot) && !was_clean;
    if verify {
        tracing::warn!("the machine went down without a clean end: every held path is read again");
    }
    let store = Store::open(&state_dir.join("store"), verify)?;
    write_whole(&recorded, kernel_boot.as_bytes()).context("record the kernel's boot id")?;
    Ok(store)
}
