//! A cluster for tests: real gRPC over mutual TLS, behind a wire that can be cut; what it says is the test's choice.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blob;
mod service;
mod wire;

pub use blob::Blob;
pub use wire::Wire;

use nix_formats::derivation::{Derivation, parse};
use nix_formats::narinfo::PathInfo;
use nix_formats::signature::SecretKey;
use nix_formats::store_path::{StoreDir, StorePath};
use node::testing::Authority;
use node::tls::{Role, ServerTls, TlsFiles, incoming};
use proto::v1;
use proto::v1::blobs_server::BlobsServer;
use proto::v1::plan_event::Event;
use proto::v1::plans_server::PlansServer;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Name of every plan here.
pub const PLAN: &str = "0123456789abcdef0123456789abcdef";

/// What the coordinator says of a derivation, given its path and itself.
pub type Tell = Box<dyn Fn(&str, &Derivation) -> Vec<Event> + Send + Sync>;

/// What the coordinator has and was told.
#[derive(Default)]
pub struct State {
    /// What can be downloaded, by path.
    pub blobs: Mutex<BTreeMap<String, (v1::PathInfo, Blob)>>,
    /// What was uploaded.
    pub uploads: Mutex<BTreeMap<String, (v1::PathInfo, Vec<u8>)>>,
    /// Texts of derivations that came with a submission.
    pub derivations: Mutex<BTreeMap<String, Vec<u8>>>,
    /// The plan's events; more may come while someone watches.
    pub events: Mutex<Vec<v1::PlanEvent>>,
    /// Plans that were cancelled.
    pub cancelled: Mutex<Vec<String>>,
    /// Offsets of all downloads, in order.
    pub downloads: Mutex<Vec<(String, u64)>>,
    /// Where each watch began.
    pub watches: Mutex<Vec<u64>>,
    /// `traceparent` of every call.
    pub trace_parents: Mutex<Vec<String>>,
    /// Answers Watch as if it had never heard of the plan.
    pub is_forgetful: Mutex<bool>,
    /// What an admitted plan's events are.
    pub tell: Mutex<Option<Tell>>,
}

impl State {
    /// Adds events to the plan. A log without text is one that is not kept any more: only its number is left.
    pub fn say(&self, events: impl IntoIterator<Item = Event>) {
        let mut known = self.events.lock().unwrap();
        for event in events {
            let sequence = known.len() as u64 + 1;
            let is_kept = !matches!(&event, Event::LogChunk(log) if log.text.is_empty());
            known.push(v1::PlanEvent { sequence, event: is_kept.then_some(event) });
        }
    }
}

/// A running coordinator.
pub struct Cluster {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it has and was told.
    pub state: Arc<State>,
    /// The key that it signs with.
    pub key: SecretKey,
    /// A board's certificate.
    pub board_tls: TlsFiles,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Starts a coordinator.
    pub async fn start() -> Self {
        let directory = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let authority = Authority::new(directory.path()).unwrap();
        let tls = ServerTls::new(authority.issue(Role::Coordinator, "c").unwrap()).unwrap();
        let board_tls = authority.issue(Role::Board, "b").unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let service = service::Service { state: state.clone() };
        let server = tonic::transport::Server::builder()
            .add_service(PlansServer::new(service.clone()))
            .add_service(BlobsServer::new(service));
        node::task::spawn("cluster", server.serve_with_incoming(incoming(listener, tls)));
        let key = SecretKey::from_seed("cluster-1", &[7; 32]);
        Self { address, state, key, board_tls, directory }
    }

    /// The client's configuration file, for a coordinator at an address.
    pub fn configuration(&self, address: SocketAddr) -> std::path::PathBuf {
        let TlsFiles { certificate, key, authority, .. } = &self.board_tls;
        let text = format!(
            "coordinator = \"{address}\"\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\nauthority = \"{}\"\n",
            certificate.display(),
            key.display(),
            authority.display()
        );
        let path = self.directory.path().join(format!("client-{}.toml", address.port()));
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Says how the plan goes once it is admitted.
    pub fn tell(&self, tell: impl Fn(&str, &Derivation) -> Vec<Event> + Send + Sync + 'static) {
        *self.state.tell.lock().unwrap() = Some(Box::new(tell));
    }
}

/// Makes a path downloadable: signed, with true path information.
pub fn serve(state: &State, key: &SecretKey, path: &str, references: &[&str], blob: Blob) {
    let store = StoreDir::default();
    let parsed = |path: &str| -> StorePath { store.parse(path).unwrap() };
    let mut info = PathInfo {
        path: parsed(path),
        nar_sha256: blob.sha256(),
        nar_size: blob.size(),
        references: references.iter().map(|path| parsed(path)).collect(),
        deriver: None,
        content_address: None,
        signatures: Vec::new(),
    };
    info.sign(&store, key);
    let wire = v1::PathInfo {
        id: Some(v1::ContentId { trust_domain: "shared".into(), path: path.into() }),
        nar_sha256: info.nar_sha256.to_vec().into(),
        nar_size: info.nar_size,
        references: references.iter().map(|path| (*path).to_owned()).collect(),
        deriver: String::new(),
        content_address: String::new(),
        signatures: info.signatures,
    };
    state.blobs.lock().unwrap().insert(path.to_owned(), (wire, blob));
}

/// A derivation from its text.
pub fn derivation(text: &[u8]) -> Derivation {
    parse(text, &StoreDir::default()).unwrap()
}

/// The full path of an output.
pub fn output(derivation: &Derivation, name: &str) -> String {
    StoreDir::default().display(derivation.outputs[name].path().unwrap())
}

/// A change of a task.
pub fn task(derivation: &str, state: v1::TaskState) -> v1::TaskChanged {
    v1::TaskChanged {
        derivation: derivation.to_owned(),
        state: state.into(),
        executor: "x1".into(),
        attempt: 1,
        ..v1::TaskChanged::default()
    }
}

/// An output is available.
pub fn root(derivation: &str, name: &str, path: &str) -> Event {
    Event::RootAvailable(v1::RootAvailable {
        derivation: derivation.to_owned(),
        output: name.to_owned(),
        path: path.to_owned(),
        realisation: String::new(),
    })
}

/// The plan ended.
pub fn finished(succeeded: bool) -> Event {
    Event::Finished(v1::PlanFinished { succeeded, tasks_built: 1, duration_ms: 1234, ..Default::default() })
}

/// Whether a file is there.
pub fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
