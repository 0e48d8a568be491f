//! Wires the coordinator together: journal, content store, engine, server; ends as it was asked to.
use crate::config::Config;
use crate::content::Contents;
use crate::engine::{self, Engine, EngineHandle, Parts};
use crate::journal::{self, Journal, JournalThread, Recorded, Writing};
use crate::knowledge::Knowledge;
use crate::plans::Plans;
use crate::pull::{Pulled, Puller};
use crate::rpc::blobs::BlobsService;
use crate::rpc::{Services, serve};
use crate::submit::{Submitter, Uploads};
use anyhow::Context;
use cas::{ContentStore, DiskStore};
use model::LeaseId;
use nix_formats::signature::SecretKey;
use node::net::Listen;
use node::shutdown::Shutdown;
use node::tls::{Role, ServerTls};
use scheduler::Settings;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Where the content store is in the state directory.
const CONTENT_DIRECTORY: &str = "content";
/// Pulls whose end waits for the engine.
const PULLS_ENDED_QUEUED_MAX: usize = 64;
/// How long calls may take to end when the coordinator stops.
const CALLS_WAIT: Duration = Duration::from_secs(2);
/// How long the journal may take for what it was given before.
const JOURNAL_WAIT: Duration = Duration::from_secs(2);

/// How long executors may take after a restart to say what they run, in milliseconds: a little more than the longest wait
/// between two of their attempts to connect.
const RESTART_GRACE_MS_MAX: u64 = 12_000;
/// How long an executor gets nothing the first time that one attempt after another failed there, in milliseconds.
const SET_ASIDE_MS: u64 = 60_000;

/// Everything on disk, and what is known from it.
struct Opened {
    journal: Journal,
    thread: JournalThread,
    store: Arc<dyn ContentStore>,
    knowledge: Arc<Knowledge>,
    recorded: Recorded,
    key: SecretKey,
}

/// Runs the coordinator until it must stop.
///
/// # Errors
/// What keeps it from starting, or a journal that failed.
pub async fn run(config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("listen on {}", config.listen))?;
    run_on(listener, config, shutdown, Writing::OnThread).await
}

/// As [`run`], on a listener that is there already.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    listener: impl Listen,
    config: Config,
    shutdown: Shutdown,
    writing: Writing,
) -> anyhow::Result<()> {
    let identity = config.tls.identity().context("find out who this is")?;
    anyhow::ensure!(
        identity.role == Role::Coordinator,
        "the certificate {} is of {identity}, not of a coordinator",
        config.tls.certificate.display()
    );
    let tls = ServerTls::new(config.tls.clone()).context("set up TLS")?;
    let opening = config.clone();
    let opened = node::task::spawn_blocking("open", move || open(&opening, writing))
        .await
        .context("open the state")??;
    let Opened { journal, thread, store, knowledge, recorded, key } = opened;
    let run = recorded.run;
    let plans = Plans::new(run);
    let (engine, commands) = engine::channel();
    let (pulled, pulls_ended) = mpsc::channel(PULLS_ENDED_QUEUED_MAX);
    let parts = Parts {
        journal: journal.clone(),
        knowledge: knowledge.clone(),
        store: store.clone(),
        plans: plans.clone(),
        puller: Puller::new(knowledge.clone(), store.clone(), config.tls.clone(), pulled),
        settings: settings(&config, &recorded),
        limits: config.limits,
        abandoned_after: config.abandoned_after(),
    };
    let mut core = Engine::new(parts);
    let Recorded { plans: recorded_plans, failures, holders, measurements, executors, .. } = recorded;
    core.restore(recorded_plans, failures, holders, measurements, executors).await?;
    let mut engine_task = node::task::spawn("engine", core.run(commands));
    let pulls = node::task::spawn("pulls", forward_pulls(pulls_ended, engine.clone()));
    let reload = node::task::spawn("certificates", reload_on_hangup(tls.clone()));
    let uploads = Uploads::new(knowledge.clone(), store.clone(), journal.clone());
    let contents = Contents::new(knowledge.clone(), store.clone(), key);
    let services = Services {
        engine: engine.clone(),
        submitter: Arc::new(Submitter::new(knowledge.clone(), store, journal.clone(), uploads.clone())),
        blobs: BlobsService::new(Arc::new(contents), uploads),
        knowledge,
        plans,
        shutdown: shutdown.clone(),
        heartbeat_interval_ms: config.heartbeat_interval_ms,
        eviction_after_ms: config.eviction_after_ms,
    };
    tracing::info!(listen = %listener.address()?, run, name = identity.name, "coordinator started");
    let result = until_stopped(serve(listener, tls, services), &mut engine_task, &shutdown).await;
    shutdown.stop();
    engine_task.abort();
    pulls.abort();
    reload.abort();
    drop((journal, engine));
    // What was acknowledged is on the disk already.
    let written = node::task::spawn_blocking("journal", move || thread.join());
    if tokio::time::timeout(JOURNAL_WAIT, written).await.is_err() {
        tracing::debug!("a call still holds the journal");
    }
    tracing::info!("coordinator stopped");
    result
}

/// Waits for the server to end after the shutdown has begun, or for the engine to fail.
async fn until_stopped(
    server: impl Future<Output = Result<(), tonic::transport::Error>>,
    engine: &mut tokio::task::JoinHandle<Result<(), engine::EngineError>>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let late = async {
        shutdown.draining().await;
        tokio::time::sleep(CALLS_WAIT).await;
    };
    tokio::select! {
        served = server => served.context("serve"),
        () = late => {
            tracing::debug!("calls that did not end in time are cut off");
            Ok(())
        }
        () = shutdown.stopping() => Ok(()),
        failed = engine => match failed {
            Ok(Ok(())) => Err(anyhow::anyhow!("the engine ended by itself")),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(anyhow::Error::new(error).context("run the engine")),
        },
    }
}

fn open(config: &Config, writing: Writing) -> anyhow::Result<Opened> {
    let key = read_key(&config.signing_key)?;
    let (journal, thread, mut recorded) = journal::open_with(&config.state_dir, writing)?;
    let directory = config.state_dir.join(CONTENT_DIRECTORY);
    let store: Arc<dyn ContentStore> =
        Arc::new(DiskStore::open(&directory).context("open the content store")?);
    let derivations = std::mem::take(&mut recorded.derivations);
    let contents = std::mem::take(&mut recorded.contents);
    let bindings = std::mem::take(&mut recorded.bindings);
    let knowledge = Knowledge::recorded(derivations, contents, bindings).context("read the journal")?;
    let knowledge = Arc::new(knowledge);
    Ok(Opened { journal, thread, store, knowledge, recorded, key })
}

fn read_key(path: &Path) -> anyhow::Result<SecretKey> {
    let attempt = || format!("read the signing key {}", path.display());
    let text = std::fs::read_to_string(path).with_context(attempt)?;
    SecretKey::parse(text.trim()).with_context(attempt)
}

fn settings(config: &Config, recorded: &Recorded) -> Settings {
    let goes_on = recorded.plans.iter().any(|plan| plan.ended.is_none());
    Settings {
        restart_grace_ms: if goes_on { config.eviction_after_ms.min(RESTART_GRACE_MS_MAX) } else { 0 },
        heartbeat_interval_ms: config.heartbeat_interval_ms,
        eviction_after_ms: config.eviction_after_ms,
        attempts_max: config.attempts_max,
        speculates: config.speculation,
        set_aside_ms: SET_ASIDE_MS,
        // Every run has numbers of its own, so that a lease of an earlier one is never mistaken for a new one.
        first_lease: LeaseId((recorded.run << 32) + 1),
    }
}

/// Tells the engine how pulls ended.
async fn forward_pulls(mut ended: mpsc::Receiver<Pulled>, engine: EngineHandle) {
    while let Some(pulled) = ended.recv().await {
        match pulled {
            Pulled::Stored(content) => engine.stored(content).await,
            Pulled::Failed { content, from } => engine.pull_failed(content, from).await,
        }
    }
}

/// Certificates can be replaced while the coordinator runs.
async fn reload_on_hangup(tls: Arc<ServerTls>) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => return tracing::warn!(%error, "SIGHUP cannot be listened to"),
    };
    while hangups.recv().await.is_some() {
        match tls.reload() {
            Ok(()) => tracing::info!("certificates read again"),
            Err(error) => {
                tracing::error!(error = node::exit::chain(&error), "the old certificates stay in force");
            }
        }
    }
}
