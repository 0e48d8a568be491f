//! An executor: a session that the test speaks in, and a data server that serves what it is said to have built.
use crate::graph::{Drv, file, hashed};
use crate::running::{Coordinator, soon};
use model::limits;
use nix_formats::content_address::ContentAddress;
use nix_formats::derivation::Output;
use nix_formats::hash::{HashAlgorithm, sha256};
use node::tls::{Role, ServerTls, incoming};
use proto::v1;
use proto::v1::blobs_server::{Blobs, BlobsServer};
use proto::v1::coordinator_message::Message as Order;
use proto::v1::executor_message::Message;
use proto::v1::work_client::WorkClient;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

type Held = Arc<Mutex<HashMap<String, (v1::PathInfo, Vec<u8>)>>>;

/// An executor that lives as long as the test.
pub struct Executor {
    pub name: String,
    pub boot: [u8; 16],
    pub data_address: SocketAddr,
    held: Held,
}

impl Executor {
    /// One that serves nothing yet.
    pub async fn new(coordinator: &Coordinator, name: &str) -> Self {
        let files = coordinator.authority.issue(Role::Executor, name).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let data_address = listener.local_addr().unwrap();
        let held = Held::default();
        let server = tonic::transport::Server::builder().add_service(BlobsServer::new(Data(held.clone())));
        let incoming = incoming(listener, ServerTls::new(files).unwrap());
        node::task::spawn("data", server.serve_with_incoming(incoming));
        Self { name: name.into(), boot: [7; 16], data_address, held }
    }

    /// Its usual first message.
    pub fn hello(&self) -> v1::ExecutorHello {
        let system = |kind: v1::platform::Kind, system: &str| v1::Offer {
            platform: Some(v1::Platform { kind: kind.into(), system: system.into() }),
            detail: String::new(),
        };
        v1::ExecutorHello {
            protocol_version: limits::PROTOCOL_VERSION,
            boot_id: self.boot.to_vec().into(),
            data_address: self.data_address.to_string(),
            capability: Some(v1::Capability {
                memory_bytes: 64 << 30,
                build_memory_bytes: 64 << 30,
                offers: vec![system(v1::platform::Kind::Native, "x86_64-linux")],
                slots: 4,
                features: vec!["ca-derivations".into(), "fixed-output-network".into()],
                ..Default::default()
            }),
            running: Vec::new(),
            software_version: "test".into(),
        }
    }

    /// Opens a session; says what it holds.
    pub async fn connect(&self, coordinator: &Coordinator) -> Session {
        let mut session = self.try_connect(coordinator, self.hello()).await.unwrap();
        session.hello().await;
        session.say(Message::Inventory(v1::Inventory { held: self.infos(), last: true })).await;
        session
    }

    /// Opens a session with some first message.
    pub async fn try_connect(
        &self,
        coordinator: &Coordinator,
        hello: v1::ExecutorHello,
    ) -> Result<Session, Status> {
        let (messages, queue) = mpsc::channel(64);
        messages.send(Message::Hello(hello)).await.unwrap();
        let outgoing =
            ReceiverStream::new(queue).map(|message| v1::ExecutorMessage { message: Some(message) });
        let mut client = WorkClient::new(coordinator.channel(Role::Executor, &self.name).await);
        let orders = soon("an answer to the hello", client.session(outgoing)).await?.into_inner();
        Ok(Session { messages, orders })
    }

    pub fn infos(&self) -> Vec<v1::PathInfo> {
        self.held.lock().unwrap().values().map(|(info, _)| info.clone()).collect()
    }

    /// Makes the output of a derivation, a file with this text, and serves it.
    pub fn make(&self, drv: &Drv, domain: &str, text: &[u8]) -> v1::BuiltOutput {
        let nar = file(text, false);
        let content_address = match drv.derivation.outputs["out"] {
            Output::Floating { .. } => {
                ContentAddress::Recursive(hashed(HashAlgorithm::Sha256, &nar)).to_string()
            }
            _ => String::new(),
        };
        let info = v1::PathInfo {
            id: Some(v1::ContentId { trust_domain: domain.into(), path: drv.out.clone() }),
            nar_sha256: sha256(&nar).to_vec().into(),
            nar_size: nar.len() as u64,
            deriver: drv.path.clone(),
            content_address,
            ..Default::default()
        };
        self.held.lock().unwrap().insert(drv.out.clone(), (info.clone(), nar));
        v1::BuiltOutput { name: "out".into(), info: Some(info) }
    }
}

/// A session.
pub struct Session {
    messages: mpsc::Sender<Message>,
    orders: Streaming<v1::CoordinatorMessage>,
}

impl Session {
    pub async fn say(&self, message: Message) {
        self.messages.send(message).await.unwrap();
    }

    /// The next order, or how the session ended.
    pub async fn order(&mut self) -> Result<Order, Status> {
        let message = soon("an order", self.orders.message()).await?;
        Ok(message.ok_or_else(|| Status::ok("ended"))?.message.unwrap())
    }

    pub async fn hello(&mut self) -> v1::CoordinatorHello {
        match self.order().await.unwrap() {
            Order::Hello(hello) => hello,
            other => panic!("not a hello: {other:?}"),
        }
    }

    /// The next order, which is a lease of this derivation.
    pub async fn lease(&mut self, drv: &Drv) -> v1::Lease {
        match self.order().await.unwrap() {
            Order::Lease(lease) if lease.derivation.as_ref().unwrap().path == drv.path => lease,
            other => panic!("not a lease of {}: {other:?}", drv.path),
        }
    }

    pub async fn acknowledge(&mut self, lease: &v1::Lease) {
        match self.order().await.unwrap() {
            Order::Acknowledge(done) => {
                assert_eq!((done.lease_id, done.epoch), (lease.lease_id, lease.epoch))
            }
            other => panic!("not an acknowledgement: {other:?}"),
        }
    }

    pub async fn heartbeat(&self, running: &[&v1::Lease]) {
        let running = running.iter().map(|lease| self::running(lease)).collect();
        self.say(Message::Heartbeat(v1::Heartbeat { free_disk_bytes: 1 << 40, running, is_full: false }))
            .await;
    }

    pub async fn log(&self, lease: &v1::Lease, phase: &str, text: &str) {
        let (lease_id, epoch) = (lease.lease_id, lease.epoch);
        let log = text.as_bytes().to_vec().into();
        self.say(Message::Progress(v1::Progress { lease_id, epoch, phase: phase.into(), log, log_end: 0 }))
            .await;
    }

    pub async fn built(&self, lease: &v1::Lease, outputs: Vec<v1::BuiltOutput>) {
        self.report(lease, v1::report::Outcome::Built(v1::Built { outputs })).await;
    }

    pub async fn failed(&self, lease: &v1::Lease, class: v1::FailureClass, message: &str) {
        let failure = v1::Failure {
            failure_class: class.into(),
            message: message.into(),
            exit_status: Some(1),
            ..Default::default()
        };
        self.report(lease, v1::report::Outcome::Failed(failure)).await;
    }

    async fn report(&self, lease: &v1::Lease, outcome: v1::report::Outcome) {
        let report = v1::Report {
            lease_id: lease.lease_id,
            epoch: lease.epoch,
            outcome: Some(outcome),
            times: None,
            usage: Some(v1::Usage { memory_bytes_peak: 64 << 20, ..Default::default() }),
            derivation: lease.derivation.clone(),
        };
        self.say(Message::Report(report)).await;
    }
}

/// A lease as its executor names it.
pub fn running(lease: &v1::Lease) -> v1::RunningLease {
    v1::RunningLease {
        lease_id: lease.lease_id,
        epoch: lease.epoch,
        derivation: lease.derivation.clone(),
        platform: lease.platform.clone(),
    }
}

/// The data server.
struct Data(Held);

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Blobs for Data {
    type DownloadStream = Responses<v1::DownloadResponse>;
    type ClosureStream = Responses<v1::ClosureResponse>;

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        use v1::download_response::Part;
        let request = request.into_inner();
        let path = request.id.unwrap().path;
        let held = self.0.lock().unwrap().get(&path).cloned();
        let (info, nar) = held.ok_or_else(|| Status::not_found(path))?;
        let rest = nar[usize::try_from(request.offset).unwrap()..].to_vec().into();
        let parts = [Part::Info(info), Part::Chunk(rest)];
        let parts = parts.map(|part| Ok(v1::DownloadResponse { part: Some(part) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn missing(&self, _: Request<v1::MissingRequest>) -> Result<Response<v1::MissingResponse>, Status> {
        Err(Status::unimplemented("an executor serves downloads"))
    }

    async fn upload(
        &self,
        _: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        Err(Status::unimplemented("an executor serves downloads"))
    }

    async fn closure(&self, _: Request<v1::ClosureRequest>) -> Result<Response<Self::ClosureStream>, Status> {
        Err(Status::unimplemented("an executor serves downloads"))
    }
}
