//! One connection to the coordinator, from hello to its end.
use super::desk::Desk;
use super::uplink::{Outgoing, QUEUE_MESSAGES_MAX};
use crate::lease::LeaseKey;
use crate::rpc::messages;
use crate::store::Store;
use crate::store::collector::Collector;
use futures_util::stream::{PollNext, StreamExt, select_with_strategy};
use model::{BootId, Capability, ContentId, Epoch, LeaseId, PathFacts, limits};
use proto::v1;
use proto::v1::coordinator_message::Message as Incoming;
use proto::v1::executor_message::Message;
use proto::v1::work_client::WorkClient;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Paths in one part of the inventory.
const INVENTORY_PATHS_MAX: usize = 256;
/// How often it is told what was fetched, and looked whether the store is within its limits.
const STORE_INTERVAL: Duration = Duration::from_millis(500);
/// Control messages that wait for the connection.
const CONTROL_MESSAGES_MAX: usize = 16;
/// How long the coordinator may take for its hello.
const HELLO_WAIT: Duration = Duration::from_secs(20);
/// Heartbeat intervals that are believed.
const HEARTBEAT_MS: std::ops::RangeInclusive<u32> = 50..=60_000;

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The coordinator refused or broke off.
    #[error("the coordinator answered: {}", .0.message())]
    Status(tonic::Status),
    /// It does not speak as agreed.
    #[error("the coordinator's first message is not its hello")]
    NoHello,
    /// It is of another version.
    #[error(
        "the coordinator speaks protocol version {theirs}, this executor {min} to {max}: update the older of the two",
        min = limits::PROTOCOL_VERSION_MIN,
        max = limits::PROTOCOL_VERSION
    )]
    Version {
        /// What it speaks.
        theirs: u32,
    },
    /// It is silent.
    #[error("the coordinator said nothing for {} s", HELLO_WAIT.as_secs())]
    Silent,
    /// It closed the session.
    #[error("the coordinator closed the session")]
    Closed,
}

impl From<tonic::Status> for ConnectionError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(status)
    }
}

impl ConnectionError {
    /// Whether the coordinator has another executor of this name: asking again soon is of no use.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status(status) if status.code() == tonic::Code::AlreadyExists)
    }
}

/// What every connection tells the coordinator.
#[derive(Debug)]
pub struct Identity {
    /// This start of the process.
    pub boot_id: BootId,
    /// Where others fetch what this executor holds.
    pub data_address: String,
    /// What it can do.
    pub capability: Capability,
}

/// Speaks with the coordinator until the connection ends; returns without error when the executor may leave.
///
/// # Errors
/// Why it ended. `established` is set once the coordinator has accepted the session.
pub async fn converse(
    channel: Channel,
    desk: &Arc<Desk>,
    store: &Arc<Store>,
    collector: &Arc<Collector>,
    identity: &Identity,
    established: &mut bool,
) -> Result<(), ConnectionError> {
    let (control, control_receiver) = mpsc::channel(CONTROL_MESSAGES_MAX);
    let (builds, builds_receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
    let hello =
        messages::hello(identity.boot_id, &identity.data_address, &identity.capability, &desk.believed());
    // The channel is new and has room.
    let _ = control.try_send(hello);
    let reporting = desk.clone();
    let of_builds = ReceiverStream::new(builds_receiver)
        .filter_map(move |outgoing| std::future::ready(build_message(&reporting, outgoing)));
    // Heartbeats and inventory before logs: a flood of log must not look like death.
    let first_control = |(): &mut ()| PollNext::Left;
    let outgoing = select_with_strategy(ReceiverStream::new(control_receiver), of_builds, first_control)
        .map(|message| v1::ExecutorMessage { message: Some(message) });
    let mut client = WorkClient::new(channel)
        .max_decoding_message_size(limits::CONTROL_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::CONTROL_MESSAGE_BYTES_MAX);
    let mut incoming = tokio::time::timeout(HELLO_WAIT, client.session(outgoing))
        .await
        .map_err(|_| ConnectionError::Silent)??
        .into_inner();
    let interval = accept_hello(&mut incoming).await?;
    *established = true;
    tracing::info!(heartbeat_ms = interval.as_millis(), "session with the coordinator established");
    let ended = tokio::select! {
        ended = receive(&mut incoming, desk, collector, &control) => Err(ended),
        never = announce(desk, store, collector, &control, &builds) => match never {},
        never = beat(interval, desk, store, collector, &control) => match never {},
        () = desk.left() => Ok(()),
    };
    desk.uplink().disconnect();
    collector.disconnect();
    ended
}

async fn accept_hello(incoming: &mut Streaming<v1::CoordinatorMessage>) -> Result<Duration, ConnectionError> {
    let first =
        tokio::time::timeout(HELLO_WAIT, incoming.message()).await.map_err(|_| ConnectionError::Silent)??;
    let Some(Incoming::Hello(hello)) = first.and_then(|message| message.message) else {
        return Err(ConnectionError::NoHello);
    };
    let spoken = limits::PROTOCOL_VERSION_MIN..=limits::PROTOCOL_VERSION;
    if !spoken.contains(&hello.protocol_version) {
        return Err(ConnectionError::Version { theirs: hello.protocol_version });
    }
    let interval_ms = hello.heartbeat_interval_ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end());
    Ok(Duration::from_millis(interval_ms.into()))
}

/// Handles what the coordinator says, until it says no more.
async fn receive(
    incoming: &mut Streaming<v1::CoordinatorMessage>,
    desk: &Arc<Desk>,
    collector: &Arc<Collector>,
    control: &mpsc::Sender<Message>,
) -> ConnectionError {
    loop {
        let message = match incoming.message().await {
            Ok(Some(message)) => message.message,
            Ok(None) => return ConnectionError::Closed,
            Err(status) => return status.into(),
        };
        match message {
            Some(Incoming::Lease(wire)) => receive_lease(wire, desk).await,
            Some(Incoming::Cancel(cancel)) => desk.cancel(key(cancel.lease_id, cancel.epoch)),
            Some(Incoming::Acknowledge(done)) => desk.acknowledge(key(done.lease_id, done.epoch)),
            Some(Incoming::Drain(_)) => {
                tracing::info!("the coordinator asks this executor to drain");
                desk.drain();
            }
            Some(Incoming::Prefetch(hint)) => match messages::prefetch(hint) {
                Ok(hint) => desk.prefetch(hint),
                Err(error) => tracing::warn!(%error, "a hint that cannot be read is ignored"),
            },
            Some(Incoming::MayLeave(_)) => desk.allow_leave(),
            Some(Incoming::MayDrop(may_drop)) => {
                let (number, ids) = messages::may_drop(may_drop);
                let kept = collector.answer(number, ids);
                if !kept.is_empty() {
                    // A closed channel is seen here soon.
                    let _ = control.send(messages::inventory(by_reference(&kept), false)).await;
                }
            }
            Some(Incoming::Hello(_)) => tracing::warn!("a second hello is ignored"),
            // Of a later version.
            None => tracing::debug!("a message of an unknown kind is ignored"),
        }
    }
}

fn key(lease_id: u64, epoch: u64) -> LeaseKey {
    LeaseKey { id: LeaseId(lease_id), epoch: Epoch(epoch) }
}

async fn receive_lease(wire: v1::Lease, desk: &Arc<Desk>) {
    let key = key(wire.lease_id, wire.epoch);
    let derivation = wire.derivation.clone().map(ContentId::try_from);
    match messages::lease(wire) {
        Ok(lease) => desk.lease(lease).await,
        Err(error) => match derivation {
            Some(Ok(derivation)) => desk.reject(key, derivation, &error.to_string()).await,
            // Nobody can be told about a lease of nothing.
            _ => tracing::error!(lease = %key, %error, "a lease without a derivation is ignored"),
        },
    }
}

/// What one build has to say, as a message; `None` when a result was acknowledged meanwhile.
fn build_message(desk: &Desk, outgoing: Outgoing) -> Option<Message> {
    match outgoing {
        Outgoing::Progress { key, phase, end, log } => Some(messages::progress(key, phase, (end, log))),
        Outgoing::Report(key) => desk.report(key).map(Message::Report),
    }
}

/// Tells what is held, then connects the builds, what they said before first, then reports what nobody acknowledged; then
/// says when this executor drains, what its store has fetched, and what that would like to drop.
async fn announce(
    desk: &Desk,
    store: &Store,
    collector: &Collector,
    control: &mpsc::Sender<Message>,
    builds: &mpsc::Sender<Outgoing>,
) -> std::convert::Infallible {
    let held = store.held();
    let parts = held.len().div_ceil(INVENTORY_PATHS_MAX).max(1);
    for part in 0..parts {
        let paths = by_reference(&held).skip(part * INVENTORY_PATHS_MAX).take(INVENTORY_PATHS_MAX);
        let message = messages::inventory(paths, part + 1 == parts);
        // A closed channel is seen by the receiving side first.
        let _ = control.send(message).await;
    }
    desk.uplink().connect(builds.clone()).await;
    for key in desk.unacknowledged() {
        let _ = builds.send(Outgoing::Report(key)).await;
    }
    let drain = async {
        desk.draining().await;
        let _ = control.send(Message::Draining(v1::Draining {})).await;
        std::future::pending().await
    };
    tokio::select! {
        never = drain => never,
        never = keep_store(store, collector, control) => never,
    }
}

/// Tells what the store has fetched: others may fetch it here. Asks what may go, again and again while there is too little room.
async fn keep_store(
    store: &Store,
    collector: &Collector,
    control: &mpsc::Sender<Message>,
) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(STORE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        loop {
            let fetched = store.take_untold(INVENTORY_PATHS_MAX);
            if fetched.is_empty() {
                break;
            }
            let _ = control.send(messages::inventory(by_reference(&fetched), false)).await;
        }
        if let Some((number, ids)) = collector.question() {
            let _ = control.send(messages::would_drop(number, &ids)).await;
        }
    }
}

fn by_reference(paths: &[(ContentId, Arc<PathFacts>)]) -> impl Iterator<Item = (&ContentId, &PathFacts)> {
    paths.iter().map(|(id, facts)| (id, facts.as_ref()))
}

/// Says regularly that this executor lives.
async fn beat(
    interval: Duration,
    desk: &Desk,
    store: &Store,
    collector: &Collector,
    control: &mpsc::Sender<Message>,
) -> std::convert::Infallible {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let message = messages::heartbeat(store.free_disk_bytes(), collector.is_full(), &desk.believed());
        // A full queue means that the link is stuck: another heartbeat in it would not help.
        let _ = control.try_send(message);
    }
}
