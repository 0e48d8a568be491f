//! How many calls at once (more are shed, not queued), and how long a unary call may take.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::{Call, CallFuture, Kind, find, refuse};

/// Refuses calls beyond a number; a stream counts until its last message.
#[derive(Clone, Debug)]
pub struct Limit<S> {
    inner: S,
    calls: Arc<Semaphore>,
}

impl<S> Limit<S> {
    pub(super) fn new(inner: S, calls: Arc<Semaphore>) -> Self {
        Self { inner, calls }
    }
}

impl<S> Service<Request<Body>> for Limit<S>
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
        let Ok(permit) = self.calls.clone().try_acquire_owned() else {
            return refuse(Status::resource_exhausted("too many calls at once; try again later"));
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let (parts, body) = answer.await?.into_parts();
            Ok(Response::from_parts(parts, Body::new(Counted { body, _permit: permit })))
        })
    }
}

/// A response that counts as a call until it ends or is dropped.
struct Counted {
    body: Body,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// Gives unary calls a deadline.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    timeout: Duration,
    table: Arc<[Call]>,
}

impl<S> Deadline<S> {
    pub(super) fn new(inner: S, timeout: Duration, table: Arc<[Call]>) -> Self {
        Self { inner, timeout, table }
    }
}

impl<S> Service<Request<Body>> for Deadline<S>
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
        let timeout = self.timeout;
        let streams = find(&self.table, &request).is_some_and(|call| call.kind == Kind::Streaming);
        let answer = self.inner.call(request);
        if streams {
            return Box::pin(answer);
        }
        Box::pin(async move {
            match tokio::time::timeout(timeout, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::deadline_exceeded(format!("no answer within {timeout:?}")).into_http()),
            }
        })
    }
}
