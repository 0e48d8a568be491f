//! Tower layers of our servers: who calls, whether it may, how many and how long, in which trace.

mod authenticate;
mod authorise;
mod limit;
mod trace;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::Layer;

pub use authenticate::Authenticate;
pub use authorise::Authorise;
pub use limit::{Deadline, Limit};
pub use trace::Trace;

use crate::tls::Role;

type CallFuture<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

/// How a call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one response: has a deadline.
    Unary,
    /// A stream in either direction: has none.
    Streaming,
}

/// One method of a service.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Who may.
    pub roles: &'static [Role],
    /// How it goes on.
    pub kind: Kind,
}

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls at once, from all peers; more are refused with `RESOURCE_EXHAUSTED`.
    pub calls_max: usize,
    /// A unary call that takes longer ends with `DEADLINE_EXCEEDED`.
    pub unary_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { calls_max: 4096, unary_timeout: Duration::from_secs(30) }
    }
}

/// All layers of a server, for tonic's `Server::layer`: authenticate, authorise, limit, trace, deadline.
///
/// Handlers find the caller as [`crate::tls::PeerIdentity`] in the extensions of the request.
#[derive(Clone, Debug)]
pub struct CallLayers {
    table: Arc<[Call]>,
    limits: Limits,
    calls: Arc<tokio::sync::Semaphore>,
}

impl CallLayers {
    /// What is not in the table is denied.
    #[must_use]
    pub fn new(table: &[Call], limits: Limits) -> Self {
        let calls = Arc::new(tokio::sync::Semaphore::new(limits.calls_max));
        Self { table: table.into(), limits, calls }
    }
}

impl<S> Layer<S> for CallLayers {
    type Service = Authenticate<Authorise<Limit<Trace<Deadline<S>>>>>;

    fn layer(&self, service: S) -> Self::Service {
        let deadline = Deadline::new(service, self.limits.unary_timeout, self.table.clone());
        let limit = Limit::new(Trace::new(deadline), self.calls.clone());
        Authenticate::new(Authorise::new(limit, self.table.clone()))
    }
}

fn refuse<E: Send + 'static>(status: Status) -> CallFuture<E> {
    Box::pin(std::future::ready(Ok(status.into_http())))
}

fn find<'a>(table: &'a [Call], request: &Request<Body>) -> Option<&'a Call> {
    table.iter().find(|call| call.path == request.uri().path())
}
