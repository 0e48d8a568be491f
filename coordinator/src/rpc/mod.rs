//! The server: one listener with mutual TLS, the table of who may call what, and the services.
pub mod blobs;
pub mod download;
mod hello;
mod plans;
pub mod submit;
mod wire;
mod work;
mod work_session;

use crate::engine::EngineHandle;
use crate::knowledge::Knowledge;
use crate::plans::Plans;
use crate::submit::Submitter;
use blobs::BlobsService;
use model::limits::CONTROL_MESSAGE_BYTES_MAX;
use node::layers::{Call, CallLayers, Kind, Limits};
use node::net::Listen;
use node::shutdown::Shutdown;
use node::tls::{Role, ServerTls, ServerWindows, incoming};
use plans::PlansService;
use proto::v1::blobs_server::BlobsServer;
use proto::v1::plans_server::PlansServer;
use proto::v1::work_server::WorkServer;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use work::WorkService;

const BOARDS: &[Role] = &[Role::Board];
const VIEWERS: &[Role] = &[Role::Board, Role::Admin];
const EXECUTORS: &[Role] = &[Role::Executor];
const READERS: &[Role] = &[Role::Board, Role::Executor, Role::Admin];

const fn call(path: &'static str, roles: &'static [Role], kind: Kind) -> Call {
    Call { path, roles, kind }
}

/// Who may call what; what is not here is denied.
pub const CALLS: &[Call] = &[
    call("/elsewhere.v1.Plans/Submit", BOARDS, Kind::Streaming),
    call("/elsewhere.v1.Plans/Watch", VIEWERS, Kind::Streaming),
    call("/elsewhere.v1.Plans/Cancel", VIEWERS, Kind::Unary),
    call("/elsewhere.v1.Work/Session", EXECUTORS, Kind::Streaming),
    call("/elsewhere.v1.Blobs/Missing", READERS, Kind::Unary),
    call("/elsewhere.v1.Blobs/Upload", BOARDS, Kind::Streaming),
    call("/elsewhere.v1.Blobs/Download", READERS, Kind::Streaming),
    call("/elsewhere.v1.Blobs/Closure", VIEWERS, Kind::Streaming),
    call("/grpc.health.v1.Health/Check", &Role::ALL, Kind::Unary),
    call("/grpc.health.v1.Health/List", &Role::ALL, Kind::Unary),
    call("/grpc.health.v1.Health/Watch", &Role::ALL, Kind::Streaming),
];

/// What the services work with.
#[derive(Debug)]
pub struct Services {
    /// For what is decided.
    pub engine: EngineHandle,
    /// For inventories.
    pub knowledge: Arc<Knowledge>,
    /// For watchers.
    pub plans: Plans,
    /// For submissions.
    pub submitter: Arc<Submitter>,
    /// For bytes.
    pub blobs: BlobsService,
    /// Ends calls that have no end of their own.
    pub shutdown: Shutdown,
    /// What executors are told, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// What executors are told, in milliseconds.
    pub eviction_after_ms: u64,
}

/// Serves until the shutdown drains and the last call has ended.
///
/// # Errors
/// The server failed.
pub async fn serve(
    listener: impl Listen,
    tls: Arc<ServerTls>,
    services: Services,
) -> Result<(), tonic::transport::Error> {
    let Services { engine, knowledge, plans, submitter, blobs, shutdown, .. } = services;
    let work = WorkService {
        engine: engine.clone(),
        knowledge: knowledge.clone(),
        plans: plans.clone(),
        shutdown: shutdown.clone(),
        heartbeat_interval_ms: services.heartbeat_interval_ms,
        eviction_after_ms: services.eviction_after_ms,
        sessions: AtomicU64::new(1),
    };
    let stopped = shutdown.draining();
    let plans = PlansService { engine, plans, submitter, knowledge, shutdown };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<PlansServer<PlansService>>().await;
    let size = CONTROL_MESSAGE_BYTES_MAX;
    ServerWindows::default()
        .apply(tonic::transport::Server::builder())
        .layer(CallLayers::new(CALLS, Limits::default()))
        .add_service(health_service)
        .add_service(PlansServer::new(plans).max_decoding_message_size(size).max_encoding_message_size(size))
        .add_service(WorkServer::new(work).max_decoding_message_size(size).max_encoding_message_size(size))
        .add_service(BlobsServer::new(blobs).max_decoding_message_size(size).max_encoding_message_size(size))
        .serve_with_incoming_shutdown(incoming(listener, tls), stopped)
        .await
}
