//! The data listener: Blobs over mutual TLS, for executors and the coordinator only.
use super::blobs::BlobsService;
use crate::store::Store;
use anyhow::Context;
use node::net::Listen;
use node::tls::{Peer, Role, ServerTls, ServerWindows, TlsFiles, incoming};
use proto::v1::blobs_server::BlobsServer;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tonic::{Request, Status};

/// Serves what the store holds, until the task is aborted.
///
/// # Errors
/// Certificates that cannot be used.
pub fn serve(listener: impl Listen, files: TlsFiles, store: Arc<Store>) -> anyhow::Result<JoinHandle<()>> {
    let tls = ServerTls::new(files).context("set up TLS of the data listener")?;
    let blobs = BlobsServer::with_interceptor(BlobsService::new(store), authorise);
    let server = ServerWindows::default().apply(tonic::transport::Server::builder()).add_service(blobs);
    Ok(node::task::spawn("data listener", async move {
        if let Err(error) = server.serve_with_incoming(incoming(listener, tls)).await {
            tracing::error!(error = node::exit::chain(&error), "the data listener ended");
        }
    }))
}

/// Executors fetch inputs, the coordinator what plans need; boards and admins have no business here.
fn authorise(request: Request<()>) -> Result<Request<()>, Status> {
    let peer = request.extensions().get::<Peer>().map(|peer| &peer.identity);
    match peer {
        Some(identity) if matches!(identity.role, Role::Executor | Role::Coordinator) => Ok(request),
        Some(identity) => Err(Status::permission_denied(format!("an executor serves nothing to {identity}"))),
        None => Err(Status::unauthenticated("who calls is not known")),
    }
}
