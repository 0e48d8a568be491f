//! A coordinator's services for content and submissions on loopback, behind its layers; clients with certificates.
use cas::{ContentStore, DiskStore};
use coordinator::content::Contents;
use coordinator::journal::{self, JournalThread};
use coordinator::knowledge::Knowledge;
use coordinator::rpc::blobs::BlobsService;
use coordinator::rpc::submit::{Submitted, submit};
use coordinator::submit::{Submitter, Uploads};
use model::{ContentId, StorePath, TrustDomain};
use nix_formats::signature::SecretKey;
use node::layers::{Call, CallLayers, Kind, Limits};
use node::testing::Authority;
use node::tls::{
    ChannelSettings, ExpectedPeer, PeerIdentity, Role, ServerTls, ServerWindows, TlsFiles, client_channel,
    incoming,
};
use proto::v1;
use proto::v1::blobs_client::BlobsClient;
use proto::v1::blobs_server::BlobsServer;
use proto::v1::plans_client::PlansClient;
use proto::v1::plans_server::{Plans, PlansServer};
use scheduler::NewPlan;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

const EVERYONE: &[Role] = &[Role::Board, Role::Executor];

fn call(path: &'static str, roles: &'static [Role], kind: Kind) -> Call {
    Call { path, roles, kind }
}

/// The services, and what they work on.
pub struct Cluster {
    pub directory: TempDir,
    pub authority: Authority,
    pub address: SocketAddr,
    pub knowledge: Arc<Knowledge>,
    pub store: Arc<dyn ContentStore>,
    pub key: SecretKey,
    /// Plans that were whole.
    pub plans: Arc<Mutex<Vec<NewPlan>>>,
    server: Running,
}

struct Running {
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    journal: JournalThread,
}

impl Cluster {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path()).unwrap();
        Self::open(directory, authority).await
    }

    async fn open(directory: TempDir, authority: Authority) -> Self {
        let (journal, thread, recorded) = journal::open(&directory.path().join("state")).unwrap();
        let knowledge = Arc::new(
            Knowledge::recorded(recorded.derivations, recorded.contents, recorded.bindings).unwrap(),
        );
        let store: Arc<dyn ContentStore> =
            Arc::new(DiskStore::open(&directory.path().join("content")).unwrap());
        let key = SecretKey::from_seed("cluster-1", &[7; 32]);
        let contents = Arc::new(Contents::new(knowledge.clone(), store.clone(), key.clone()));
        let uploads = Uploads::new(knowledge.clone(), store.clone(), journal.clone());
        let submitter = Arc::new(Submitter::new(knowledge.clone(), store.clone(), journal, uploads.clone()));
        let plans = Arc::new(Mutex::new(Vec::new()));
        let submissions = Submissions { submitter, plans: plans.clone() };
        let files = authority.issue(Role::Coordinator, "coordinator").unwrap();
        let (address, stop, served) = serve(files, BlobsService::new(contents, uploads), submissions).await;
        let server = Running { stop, served, journal: thread };
        Self { directory, authority, address, knowledge, store, key, plans, server }
    }

    /// Stops and starts it again on the same state directory.
    pub async fn restart(self) -> Self {
        let Self { directory, authority, server, store, .. } = self;
        server.stop.send(()).unwrap();
        server.served.await.unwrap();
        tokio::task::spawn_blocking(move || server.journal.join()).await.unwrap();
        drop(store);
        Self::open(directory, authority).await
    }

    pub async fn channel(&self, role: Role, name: &str) -> Channel {
        let files = self.authority.issue(role, name).unwrap();
        let address = self.address.to_string();
        client_channel(&address, &files, ExpectedPeer::coordinator(), ChannelSettings::control())
            .await
            .unwrap()
    }

    pub async fn blobs(&self, role: Role, name: &str) -> BlobsClient<Channel> {
        BlobsClient::new(self.channel(role, name).await)
    }

    pub async fn plans(&self, board: &str) -> PlansClient<Channel> {
        PlansClient::new(self.channel(Role::Board, board).await)
    }

    /// Whether anything of this path is known or stored, in any of these domains.
    pub fn is_registered(&self, path: &str) -> bool {
        let path = StorePath::from_validated(path);
        let domains = [TrustDomain::Shared, TrustDomain::Board("a".into()), TrustDomain::Board("b".into())];
        let known = domains.map(|domain| self.knowledge.content(&ContentId { domain, path: path.clone() }));
        let full = |id: &cas::BlobId| format!("/nix/store/{}", id.path);
        known.iter().any(Option::is_some)
            || self.store.ids().iter().any(|id| full(id) == path.as_str())
            || self.knowledge.derivation(&path).is_some()
    }

    /// The newest plan.
    pub fn plan(&self) -> NewPlan {
        self.plans.lock().unwrap().last().unwrap().clone()
    }
}

async fn serve(
    files: TlsFiles,
    blobs: BlobsService,
    submissions: Submissions,
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let table = [
        call("/elsewhere.v1.Plans/Submit", &[Role::Board], Kind::Streaming),
        call("/elsewhere.v1.Blobs/Missing", EVERYONE, Kind::Unary),
        call("/elsewhere.v1.Blobs/Upload", &[Role::Board], Kind::Streaming),
        call("/elsewhere.v1.Blobs/Download", EVERYONE, Kind::Streaming),
        call("/elsewhere.v1.Blobs/Closure", EVERYONE, Kind::Streaming),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = ServerTls::new(files).unwrap();
    let server = ServerWindows::default()
        .apply(Server::builder())
        .layer(CallLayers::new(&table, Limits::default()))
        .add_service(BlobsServer::new(blobs))
        .add_service(
            PlansServer::new(submissions).max_decoding_message_size(model::limits::CONTROL_MESSAGE_BYTES_MAX),
        );
    let (stop, stopped) = oneshot::channel::<()>();
    let served = node::task::spawn("server", async move {
        let stopped = async { drop(stopped.await) };
        server.serve_with_incoming_shutdown(incoming(listener, tls), stopped).await.unwrap();
    });
    (address, stop, served)
}

/// `Plans` as far as it is about submissions: a plan that is whole is kept for the test to look at.
struct Submissions {
    submitter: Arc<Submitter>,
    plans: Arc<Mutex<Vec<NewPlan>>>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Plans for Submissions {
    type SubmitStream = Responses<v1::SubmitResponse>;
    type WatchStream = Responses<v1::PlanEvent>;

    async fn submit(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let board = request.extensions().get::<PeerIdentity>().unwrap().name.clone();
        let (replies, stream) = mpsc::channel(16);
        let (submitter, plans) = (self.submitter.clone(), self.plans.clone());
        node::task::spawn("submit", async move {
            let last = match submit(request.into_inner(), &replies, &board, &submitter).await {
                Ok(Submitted { plan, .. }) => {
                    let tasks_total = u32::try_from(plan.tasks.len()).unwrap();
                    let admitted =
                        v1::Admitted { plan_id: plan.id.to_string(), tasks_total, ..Default::default() };
                    plans.lock().unwrap().push(plan);
                    let response = Some(v1::submit_response::Response::Admitted(admitted));
                    Ok(v1::SubmitResponse { response })
                }
                Err(status) => Err(status),
            };
            let _gone = replies.send(last).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not about submissions"))
    }

    async fn cancel(&self, _: Request<v1::CancelRequest>) -> Result<Response<v1::CancelResponse>, Status> {
        Err(Status::unimplemented("not about submissions"))
    }
}
