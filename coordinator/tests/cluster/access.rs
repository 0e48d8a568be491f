//! Every call refuses every role that it is not for; nobody without a certificate of the cluster gets past the handshake.
use crate::board::Board;
use crate::executor::Executor;
use crate::running::{Coordinator, soon};
use coordinator::rpc::CALLS;
use http::uri::PathAndQuery;
use node::testing::{Authority, Certificate};
use node::tls::{ExpectedPeer, Role, client_config};
use prost::Message as _;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::ServerName;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Who may call what of our own services: written down here once more, so that a slip in the table shows.
const ALLOWED: &[(&str, &[Role])] = &[
    ("/elsewhere.v1.Plans/Submit", &[Role::Board]),
    ("/elsewhere.v1.Plans/Watch", &[Role::Board, Role::Admin]),
    ("/elsewhere.v1.Plans/Cancel", &[Role::Board, Role::Admin]),
    ("/elsewhere.v1.Work/Session", &[Role::Executor]),
    ("/elsewhere.v1.Blobs/Missing", &[Role::Board, Role::Executor, Role::Admin]),
    ("/elsewhere.v1.Blobs/Upload", &[Role::Board]),
    ("/elsewhere.v1.Blobs/Download", &[Role::Board, Role::Executor, Role::Admin]),
    ("/elsewhere.v1.Blobs/Closure", &[Role::Board, Role::Admin]),
];

/// Every method of the wire, from its descriptors.
fn methods() -> BTreeSet<String> {
    let descriptors = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let mut methods = BTreeSet::new();
    for file in &descriptors.file {
        for service in &file.service {
            let path = |method: &prost_types::MethodDescriptorProto| {
                format!("/{}.{}/{}", file.package(), service.name(), method.name())
            };
            methods.extend(service.method.iter().map(path));
        }
    }
    methods
}

/// Calls a method with an empty message, as a stream: what every kind of call begins with.
async fn call(channel: Channel, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path: PathAndQuery = path.parse().unwrap();
    let request = Request::new(tokio_stream::once(()));
    let mut answer = soon("an answer", grpc.streaming(request, path, codec)).await?.into_inner();
    soon("the end of the answer", answer.message()).await.map(drop)
}

#[tokio::test]
async fn every_call_refuses_every_role_that_it_is_not_for() {
    let coordinator = Coordinator::start("").await;
    let methods = methods();
    let listed: BTreeSet<String> = ALLOWED.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(methods, listed, "a call of the wire has no line in this test");
    let own = CALLS.iter().filter(|call| call.path.starts_with("/elsewhere."));
    assert_eq!(methods, own.map(|call| call.path.to_owned()).collect(), "a call has no line in the table");
    for role in Role::ALL {
        let channel = coordinator.channel(role, "someone").await;
        for (path, roles) in ALLOWED {
            let refused = matches!(call(channel.clone(), path).await, Err(status) if status.code() == Code::PermissionDenied);
            assert_eq!(refused, !roles.contains(&role), "{role} calls {path}");
        }
        let unknown = call(channel, "/elsewhere.v1.Plans/Steal").await.unwrap_err();
        assert_eq!(unknown.code(), Code::PermissionDenied);
    }
}

#[tokio::test]
async fn health_is_for_everyone_with_a_certificate() {
    let coordinator = Coordinator::start("").await;
    for role in Role::ALL {
        let mut health = HealthClient::new(coordinator.channel(role, "someone").await);
        for service in ["", "elsewhere.v1.Plans"] {
            let request = HealthCheckRequest { service: service.into() };
            let answer = health.check(request).await.unwrap().into_inner();
            assert_eq!(answer.status, 1, "{service:?} serves");
        }
    }
}

#[tokio::test]
async fn nobody_without_a_good_certificate_gets_in() {
    let coordinator = Coordinator::start("").await;
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Authority::new(elsewhere.path()).unwrap().issue(Role::Board, "b").unwrap();
    // It trusts our server all the same: the refusal is the server's.
    let ours = coordinator.authority.issue(Role::Board, "b").unwrap();
    let foreign = node::tls::TlsFiles { authority: ours.authority.clone(), ..foreign };
    let expired = Certificate { expired: true, file: "expired".into(), ..Certificate::of(Role::Board, "b") };
    let nameless =
        Certificate { uris: Vec::new(), file: "nameless".into(), ..Certificate::of(Role::Board, "b") };
    let certify = |wanted: &Certificate| coordinator.authority.certify(wanted).unwrap();
    for (what, files) in
        [("foreign", foreign), ("expired", certify(&expired)), ("without a name", certify(&nameless))]
    {
        // With TLS 1.3 the client may learn it with its first call only.
        let answer = match coordinator.try_channel(&files).await {
            Ok(channel) => call(channel, "/elsewhere.v1.Plans/Watch").await.map_err(|status| status.code()),
            Err(_) => Err(Code::Unavailable),
        };
        assert!(
            !matches!(answer, Ok(()) | Err(Code::InvalidArgument | Code::NotFound)),
            "{what}: {answer:?}"
        );
    }
    let plain = tonic::transport::Endpoint::from_shared(format!("http://{}", coordinator.address)).unwrap();
    let refused = match plain.connect().await {
        Ok(channel) => call(channel, "/elsewhere.v1.Plans/Watch").await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "without TLS");
}

/// A client that has no certificate to show.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_told_so_and_hears_nothing_else() {
    let coordinator = Coordinator::start("").await;
    let files = coordinator.authority.issue(Role::Board, "b").unwrap();
    let mut config = Arc::unwrap_or_clone(client_config(&files, ExpectedPeer::coordinator()).unwrap());
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    let connection = TcpStream::connect(coordinator.address).await.unwrap();
    let name = ServerName::from(coordinator.address.ip());
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, connection);
    // With TLS 1.3 our side is done before the server has looked at what we have not sent.
    let mut stream = soon("a handshake", connecting).await.unwrap();
    let _closed = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let mut heard = Vec::new();
    let error = soon("the end", stream.read_to_end(&mut heard)).await.unwrap_err();
    assert_eq!(heard, b"");
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

#[tokio::test]
async fn a_plan_is_of_its_board_alone() {
    let coordinator = Coordinator::start("").await;
    let mut owner = Board::new(&coordinator, "owner").await;
    let mut other = Board::new(&coordinator, "other").await;
    let mut admin = Board::with_role(&coordinator, Role::Admin, "admin").await;
    let lib = crate::graph::drv("lib", &[], &[]);
    let plan = owner.submit(&lib, &[&lib]).await.plan_id;
    assert_eq!(other.watch(&plan, 0, false).await.err().unwrap().code(), Code::NotFound);
    assert_eq!(other.cancel(&plan).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(owner.cancel("no plan").await.unwrap_err().code(), Code::InvalidArgument);
    let unknown = "0".repeat(32);
    assert_eq!(owner.watch(&unknown, 0, false).await.err().unwrap().code(), Code::NotFound);
    let mut watch = admin.watch(&plan, 0, false).await.unwrap();
    assert!(admin.cancel(&plan).await.unwrap());
    let ended = watch.until("its end", |event| match event {
        proto::v1::plan_event::Event::Finished(finished) => Some(finished),
        _ => None,
    });
    assert!(ended.await.cancelled);
}

#[tokio::test]
async fn a_name_is_the_certificates() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let _session = executor.connect(&coordinator).await;
    let mut board = Board::new(&coordinator, "b").await;
    let lib = crate::graph::drv("lib", &[], &[]);
    let plan = board.submit(&lib, &[&lib]).await.plan_id;
    let mut watch = board.watch(&plan, 0, false).await.unwrap();
    assert_eq!(watch.state(&lib, proto::v1::TaskState::Running).await.executor, "x1");
}
