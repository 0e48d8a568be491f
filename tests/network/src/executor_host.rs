//! An executor's host: the real session, desk, store, data server and input fetches, and a builder that only takes its time.
use crate::graph::{Work, archive, contents};
use crate::record::{self, What};
use crate::wire::Listener;
use executor::build::failure::failure;
use executor::build::inputs::{Inputs, InputsError};
use executor::lease::{Lease, Times};
use executor::rpc::peers::Peers;
use executor::rpc::server;
use executor::session;
use executor::session::connection::Identity;
use executor::session::desk::{Builder, Desk};
use executor::session::uplink::Uplink;
use executor::store::Store;
use executor::store::collector::{Collector, Limits};
use futures_util::future::BoxFuture;
use model::{
    BootId, BuiltOutput, Capability, ContentId, Failure, FailureClass, Offer, Outcome, PathFacts, Platform,
    StorePath, System,
};
use nix_formats::hash::sha256;
use nix_formats::store_path::StoreDir;
use node::tls::TlsFiles;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Builds at once.
const SLOTS: usize = 2;
/// Where executors serve what they hold.
const DATA_PORT: u16 = 7421;

/// What stays when the process ends.
#[derive(Clone)]
pub struct Settings {
    /// Its name, and its host's.
    pub name: String,
    /// `host:port`.
    pub coordinator: String,
    /// Its certificate.
    pub files: TlsFiles,
    /// Its disk.
    pub directory: PathBuf,
}

static DESKS: Mutex<BTreeMap<String, Weak<Desk>>> = Mutex::new(BTreeMap::new());

/// Leases that an executor still believes in, as text; nothing when it does not run.
pub fn believed(name: &str) -> Option<Vec<String>> {
    let desks = DESKS.lock().unwrap_or_else(PoisonError::into_inner);
    let desk = desks.get(name)?.upgrade()?;
    Some(
        desk.believed()
            .into_iter()
            .map(|(key, subject)| format!("{key} of {}", subject.derivation.path))
            .collect(),
    )
}

/// One start of the process, until it is killed.
pub async fn run(settings: Settings, boot: u128) -> turmoil::Result {
    let Settings { name, coordinator, files, directory } = settings;
    let store = loop {
        // Threads of the process that was killed may hold its store for a moment; the kernel would have ended them.
        match Store::open(&directory.join("store"), false) {
            Ok(store) => break Arc::new(store),
            Err(error) => {
                tracing::debug!(%error, "the store is not free yet");
                std::thread::sleep(Duration::from_millis(1));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let _server = server::serve(Listener::bind(DATA_PORT).await?, files.clone(), store.clone())?;
    let inputs = Inputs::new(store.clone(), Arc::new(Peers::new(files.clone(), coordinator.clone())));
    let builder =
        Pretending { name: name.clone(), store: store.clone(), inputs, slots: Semaphore::new(SLOTS) };
    let desk = Arc::new(Desk::open(&directory.join("results"), SLOTS, Arc::new(builder))?);
    DESKS.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), Arc::downgrade(&desk));
    let limits = Limits { bytes_max: None, free_bytes_min: 0, reserve_bytes: 0 };
    let collector = Arc::new(Collector::new(store.clone(), limits));
    let capability = Capability {
        offers: vec![Offer {
            platform: Platform::Native(System("x86_64-linux".into())),
            detail: String::new(),
        }],
        withheld: Vec::new(),
        features: Vec::new(),
        slots: u32::try_from(SLOTS)?,
        speed: 1_000,
        memory_bytes: 8 << 30,
        build_memory_bytes: 8 << 30,
    };
    let identity = Identity {
        boot_id: BootId(boot.to_be_bytes()),
        data_address: format!("{name}:{DATA_PORT}"),
        capability,
    };
    session::run(&coordinator, &files, &desk, &store, &collector, &identity).await;
    Ok(())
}

/// Builds nothing: answers after the time that the derivation says, with bytes that its output's path says.
struct Pretending {
    name: String,
    store: Arc<Store>,
    inputs: Inputs,
    slots: Semaphore,
}

impl Builder for Pretending {
    fn build(
        self: Arc<Self>,
        lease: Lease,
        uplink: Arc<Uplink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, (Outcome, Times)> {
        Box::pin(async move {
            let mut times = Times::default();
            let drv = lease.derivation.path.to_string();
            let outcome = tokio::select! {
                built = self.attempt(&lease, &uplink, &mut times) => built,
                () = cancel.cancelled() => Err(failure(FailureClass::Cancelled, "cancelled")),
            };
            let outcome = outcome.map_or_else(Outcome::Failed, Outcome::Built);
            let how = match &outcome {
                Outcome::Built(_) => "built".to_owned(),
                Outcome::Failed(failure) => format!("{:?}: {}", failure.class, failure.message),
            };
            record::add(&self.name, What::Ended(drv, how));
            (outcome, times)
        })
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Pretending {
    async fn attempt(
        &self,
        lease: &Lease,
        uplink: &Uplink,
        times: &mut Times,
    ) -> Result<Vec<BuiltOutput>, Failure> {
        let derivation = nix_formats::derivation::parse(&lease.derivation_text, &StoreDir::default());
        let derivation =
            derivation.map_err(|error| failure(FailureClass::InputRejected, error.to_string()))?;
        let work = Work::of(&derivation);
        let drv = lease.derivation.path.to_string();
        let out = std::str::from_utf8(&derivation.environment[b"out".as_slice()]).unwrap().to_owned();
        let id = ContentId { domain: lease.derivation.domain.clone(), path: StorePath::from_validated(&out) };
        let output = |facts| vec![BuiltOutput { name: "out".into(), path: id.path.clone(), facts }];
        if let Some(held) = self.store.get(&id) {
            record::add(&self.name, What::Held(drv));
            return Ok(output(held.as_ref().clone()));
        }
        let begun = Instant::now();
        times.input_bytes_fetched = self.inputs.ensure(&lease.inputs).await.map_err(of_inputs)?;
        times.inputs_ms = milliseconds(begun);
        let _slot = self.slots.acquire().await;
        record::add(&self.name, What::Started(drv, lease.key.to_string()));
        let begun = Instant::now();
        for line in 0..work.lines {
            tokio::time::sleep(Duration::from_millis(work.ms / work.lines)).await;
            uplink.progress(lease.key, None, format!("line {line} of {}\n", self.name).as_bytes()).await;
        }
        if work.fails {
            return Err(failure(FailureClass::BuildFailed, format!("builder for '{}' failed", lease.built)));
        }
        let facts = self.make(&id, work, lease);
        times.build_ms = milliseconds(begun);
        Ok(output(facts))
    }

    /// Writes the output into the store.
    fn make(&self, id: &ContentId, work: Work, lease: &Lease) -> PathFacts {
        let bytes = contents(id.path.as_str(), work);
        let nar = archive(&bytes);
        // Whatever the lease names directly or not: the cluster believes what an executor says of its own outputs.
        let references: BTreeSet<_> = lease.inputs.iter().map(|input| input.id.path.clone()).collect();
        let facts = PathFacts {
            nar_sha256: sha256(&nar),
            nar_size: nar.len() as u64,
            references: references.into_iter().collect(),
            deriver: Some(lease.derivation.path.clone()),
            content_address: None,
        };
        let partial = self.store.partial(id).unwrap();
        std::fs::write(&partial, &bytes).unwrap();
        self.store.adopt(id, facts, &partial).unwrap().as_ref().clone()
    }
}

/// As the real builder has it.
fn of_inputs(error: InputsError) -> Failure {
    let (class, missing) = match &error {
        InputsError::Missing { path, .. } => (FailureClass::InputMissing, vec![path.clone()]),
        InputsError::OutOfDisk { .. } => (FailureClass::OutOfDisk, Vec::new()),
        InputsError::Store { .. } => (FailureClass::Infrastructure, Vec::new()),
    };
    Failure { missing_inputs: missing, ..failure(class, node::exit::chain(&error)) }
}
