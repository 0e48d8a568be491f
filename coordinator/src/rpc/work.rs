//! The Work service: the sessions of executors, from hello to their end.
use super::hello::{Hello, hello};
use super::plans::{caller, stopping};
use super::work_session::{WorkSession, forward};
use crate::engine::EngineHandle;
use crate::knowledge::Knowledge;
use crate::plans::Plans;
use crate::session::{End, ORDERS_QUEUED_MAX, Session};
use model::{ExecutorName, limits};
use node::shutdown::Shutdown;
use node::tls::Peer;
use proto::v1;
use proto::v1::work_server::Work;
use scheduler::Event;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// How long an executor may take for its hello.
const HELLO_WAIT: Duration = Duration::from_secs(20);
/// Messages between a session and its connection.
const MESSAGES_QUEUED_MAX: usize = 16;

/// Serves executors.
#[derive(Debug)]
pub(super) struct WorkService {
    pub(super) engine: EngineHandle,
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) plans: Plans,
    pub(super) shutdown: Shutdown,
    /// What executors are told in the hello.
    pub(super) heartbeat_interval_ms: u64,
    pub(super) eviction_after_ms: u64,
    /// Sessions so far.
    pub(super) sessions: AtomicU64,
}

/// What one session needs to go on.
struct Opened {
    session: WorkSession,
    orders: mpsc::Receiver<crate::session::Order>,
    end: oneshot::Receiver<End>,
}

#[tonic::async_trait]
impl Work for WorkService {
    type SessionStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::ExecutorMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let executor = ExecutorName(caller(&request)?.name.into());
        let host = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(HELLO_WAIT, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let hello = hello(first)?;
        let (messages, stream) = mpsc::channel(MESSAGES_QUEUED_MAX);
        // The hello of the coordinator is the first message: the channel is new and has room.
        drop(messages.try_send(Ok(self.own_hello())));
        let opened = self.open(executor, host, hello).await?;
        let stopped = self.shutdown.draining();
        node::task::spawn("session", async move {
            let Opened { session, orders, end } = opened;
            let status = tokio::select! {
                ended = session.receive(&mut incoming) => ended,
                ended = forward(&session, orders, &messages) => ended,
                () = messages.closed() => None,
                end = end => Some(ended(end)),
                () = stopped => Some(stopping()),
            };
            let problem = status.as_ref().map(|status| status.message().to_owned());
            tracing::info!(executor = %session.executor, problem, "session ended");
            session.close().await;
            if let Some(status) = status {
                // Without room the executor sees the connection end instead.
                drop(messages.try_send(Err(status)));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl WorkService {
    fn own_hello(&self) -> v1::CoordinatorMessage {
        let ms = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let hello = v1::CoordinatorHello {
            protocol_version: limits::PROTOCOL_VERSION,
            heartbeat_interval_ms: ms(self.heartbeat_interval_ms),
            eviction_after_ms: ms(self.eviction_after_ms),
        };
        v1::CoordinatorMessage { message: Some(v1::coordinator_message::Message::Hello(hello)) }
    }

    async fn open(
        &self,
        executor: ExecutorName,
        host: Option<IpAddr>,
        hello: Hello,
    ) -> Result<Opened, Status> {
        let Hello { boot, data_address, capability, running, software_version } = hello;
        tracing::info!(
            %executor,
            software_version,
            slots = capability.slots,
            running = running.len(),
            "executor says hello"
        );
        for withheld in &capability.withheld {
            tracing::info!(%executor, platform = %withheld.platform, reason = withheld.reason, "withheld");
        }
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        let (orders, queue) = mpsc::channel(ORDERS_QUEUED_MAX);
        let (end, ended) = oneshot::channel();
        let session = WorkSession::new(
            self.engine.clone(),
            self.knowledge.clone(),
            self.plans.clone(),
            executor.clone(),
            number,
            &running,
        );
        let engine_end =
            Session { number, executor: executor.clone(), boot, host, data_address, orders, end };
        let connected = Event::ExecutorConnected { executor, boot, capability, running };
        self.engine.open(engine_end, connected).await.map_err(|_| stopping())?;
        Ok(Opened { session, orders: queue, end: ended })
    }
}

/// What an executor is told whose session the engine ended.
fn ended(end: Result<End, oneshot::error::RecvError>) -> Status {
    match end {
        Ok(End::Replaced) => Status::aborted("another session of this executor began"),
        Ok(End::Lost) => Status::unavailable("nothing was heard for too long: the executor counts as lost"),
        Ok(End::Rival(address)) => Status::already_exists(format!(
            "another executor with the same certificate lives at {address}: each needs a certificate of its own"
        )),
        Ok(End::Slow) => Status::resource_exhausted("the executor does not take its orders"),
        Err(_) => stopping(),
    }
}
