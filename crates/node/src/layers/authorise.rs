//! The table of calls and roles: what it does not allow is `PERMISSION_DENIED`, known call or not.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::{Call, CallFuture, find, refuse};
use crate::tls::PeerIdentity;

/// See the module.
#[derive(Clone, Debug)]
pub struct Authorise<S> {
    inner: S,
    table: Arc<[Call]>,
}

impl<S> Authorise<S> {
    pub(super) fn new(inner: S, table: Arc<[Call]>) -> Self {
        Self { inner, table }
    }

    fn check(&self, request: &Request<Body>) -> Result<(), Status> {
        let path = request.uri().path();
        let Some(caller) = request.extensions().get::<PeerIdentity>() else {
            return Err(Status::unauthenticated("nobody is calling"));
        };
        match find(&self.table, request) {
            Some(call) if call.roles.contains(&caller.role) => Ok(()),
            Some(_) => {
                tracing::info!(%caller, path, "call denied");
                Err(Status::permission_denied(format!("{path} is not for the role {}", caller.role)))
            }
            None => Err(Status::permission_denied("this server has no such call")),
        }
    }
}

impl<S> Service<Request<Body>> for Authorise<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = CallFuture<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.check(&request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => refuse(status),
        }
    }
}
