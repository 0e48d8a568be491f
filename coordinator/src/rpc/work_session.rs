//! What is said in one executor's session: its messages become events, orders become messages.
use super::hello::key;
use super::wire::coordinator_message;
use crate::engine::{EngineHandle, EngineStopped};
use crate::knowledge::Knowledge;
use crate::plans::Plans;
use crate::resolution;
use crate::session::Order;
use model::limits::{CONTROL_MESSAGE_BYTES_MAX, DROPS_ASKED_MAX};
use model::{ContentId, ExecutorName, Failure, FailureClass, Outcome, TaskId};
use prost::Message as _;
use proto::convert::SignedPathInfo;
use proto::v1;
use proto::v1::executor_message::Message;
use scheduler::{Event, Held, Holder, KnownContent, LeaseKey, RunningLease};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// One session.
#[derive(Debug)]
pub(super) struct WorkSession {
    engine: EngineHandle,
    knowledge: Arc<Knowledge>,
    plans: Plans,
    pub(super) executor: ExecutorName,
    number: u64,
    /// What is leased in it, for reports that do not name their task.
    leases: Mutex<HashMap<LeaseKey, TaskId>>,
}

impl WorkSession {
    pub(super) fn new(
        engine: EngineHandle,
        knowledge: Arc<Knowledge>,
        plans: Plans,
        executor: ExecutorName,
        number: u64,
        running: &[RunningLease],
    ) -> Self {
        let leases = running.iter().map(|running| (running.lease, running.task.clone())).collect();
        Self { engine, knowledge, plans, executor, number, leases: Mutex::new(leases) }
    }

    /// The session's connection has ended.
    pub(super) async fn close(&self) {
        self.engine.close(&self.executor, self.number).await;
    }

    /// Takes what the executor says, until it says no more. Without a status the executor ended it.
    pub(super) async fn receive(&self, incoming: &mut Streaming<v1::ExecutorMessage>) -> Option<Status> {
        loop {
            let message = match incoming.message().await {
                Ok(message) => message?.message,
                Err(status) => return Some(status),
            };
            // Of a later version: not understood, not needed.
            let Some(message) = message else { continue };
            if let Err(EngineStopped) = self.take(message).await {
                return Some(super::plans::stopping());
            }
        }
    }

    async fn take(&self, message: Message) -> Result<(), EngineStopped> {
        let executor = self.executor.clone();
        let event = match message {
            Message::Hello(_) => {
                tracing::warn!(%executor, "a second hello is ignored");
                return Ok(());
            }
            Message::Progress(progress) => {
                self.progress(progress);
                return Ok(());
            }
            Message::Inventory(inventory) => Event::ExecutorHolds(self.inventory(inventory)),
            Message::Heartbeat(heartbeat) => {
                let running = heartbeat.running.iter().map(|running| key(running.lease_id, running.epoch));
                Event::Heartbeat { executor, running: running.collect(), is_full: heartbeat.is_full }
            }
            Message::WouldDrop(would_drop) => {
                let number = would_drop.number;
                Event::ExecutorWouldDrop { executor, number, contents: self.would_drop(would_drop) }
            }
            Message::Report(report) => {
                let lease = key(report.lease_id, report.epoch);
                let memory_bytes = report.usage.as_ref().map_or(0, |usage| usage.memory_bytes_peak);
                let times = report.times.unwrap_or_default();
                let Some(reported) = self.report(report) else { return Ok(()) };
                self.said(Event::AttemptUsed {
                    executor,
                    lease,
                    memory_bytes,
                    fetched_bytes: times.input_bytes_fetched,
                    fetch_ms: times.inputs_ms,
                })
                .await?;
                reported
            }
            Message::Draining(_) => {
                tracing::info!(%executor, "executor drains");
                Event::ExecutorDraining(executor)
            }
        };
        self.said(event).await
    }

    async fn said(&self, event: Event) -> Result<(), EngineStopped> {
        self.engine.said(&self.executor, self.number, event).await
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<LeaseKey, TaskId>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self, progress: v1::Progress) {
        let lease = key(progress.lease_id, progress.epoch);
        let phase = Some(progress.phase.as_str()).filter(|phase| !phase.is_empty());
        self.plans.progress(&self.executor, lease, phase, (progress.log_end, progress.log));
    }

    /// What an executor holds counts when hash and size are the recorded ones.
    fn inventory(&self, inventory: v1::Inventory) -> Held {
        let mut contents = Vec::with_capacity(inventory.held.len());
        for info in inventory.held {
            match SignedPathInfo::try_from(info) {
                Ok(info) => contents.extend(self.known(info)),
                Err(error) => {
                    tracing::warn!(executor = %self.executor, %error, "part of an inventory is ignored");
                }
            }
        }
        Held { executor: self.executor.clone(), contents, is_last: inventory.last }
    }

    /// What is not a path cannot be allowed; what is too much is asked for again.
    fn would_drop(&self, would_drop: v1::WouldDrop) -> Vec<ContentId> {
        let mut contents = Vec::new();
        for id in would_drop.ids.into_iter().take(DROPS_ASKED_MAX) {
            match ContentId::try_from(id) {
                Ok(id) => contents.push(id),
                Err(error) => {
                    tracing::warn!(executor = %self.executor, %error, "part of what it would drop is ignored");
                }
            }
        }
        contents
    }

    fn known(&self, info: SignedPathInfo) -> Option<KnownContent> {
        let Some(known) = self.knowledge.content(&info.id) else {
            tracing::debug!(executor = %self.executor, path = %info.id.path, "held, and nothing is known about it");
            return None;
        };
        let (recorded, said) = (&known.facts, &info.facts);
        if recorded.nar_sha256 != said.nar_sha256 || recorded.nar_size != said.nar_size {
            tracing::warn!(executor = %self.executor, path = %info.id.path, "held with other bytes than recorded: ignored");
            return None;
        }
        Some(KnownContent {
            id: info.id,
            references: known.references.clone(),
            nar_sha256: recorded.nar_sha256,
            nar_size: recorded.nar_size,
            holders: vec![Holder::Executor(self.executor.clone())],
        })
    }

    /// A report as an event; none for a lease of nobody knows what.
    fn report(&self, report: v1::Report) -> Option<Event> {
        let lease = key(report.lease_id, report.epoch);
        let leased = self.leases().get(&lease).cloned();
        let named = report.derivation.map(ContentId::try_from);
        let Some(task) = leased.or_else(|| named.and_then(Result::ok)) else {
            tracing::warn!(executor = %self.executor, lease = lease.id.0, "a report of no derivation is ignored");
            return None;
        };
        let outcome = match report.outcome.map(Outcome::try_from) {
            Some(Ok(outcome)) => match resolution::check_outcome(&task, &outcome, &self.knowledge) {
                Ok(()) => outcome,
                Err(problem) => misreported(problem),
            },
            Some(Err(error)) => misreported(error.to_string()),
            None => misreported("it has no outcome".to_owned()),
        };
        if let Some(times) = report.times {
            let usage = report.usage.unwrap_or_default();
            tracing::info!(
                executor = %self.executor,
                path = %task.path,
                inputs_ms = times.inputs_ms,
                build_ms = times.build_ms,
                outputs_ms = times.outputs_ms,
                input_bytes_fetched = times.input_bytes_fetched,
                memory_bytes_peak = usage.memory_bytes_peak,
                user_ms = usage.user_ms,
                system_ms = usage.system_ms,
                read_bytes = usage.read_bytes,
                written_bytes = usage.written_bytes,
                "reported"
            );
        }
        Some(Event::LeaseReported { executor: self.executor.clone(), lease, task, outcome })
    }

    /// Notes what an order does to the session's leases.
    fn note(&self, order: &Order) {
        match order {
            Order::Lease(order) => drop(self.leases().insert(order.lease, order.task.clone())),
            Order::Acknowledge(lease) => drop(self.leases().remove(lease)),
            Order::Cancel(_) | Order::Prefetch(_) | Order::MayLeave | Order::MayDrop { .. } => {}
        }
    }
}

/// An executor that reports nonsense: its own trouble, another may do better.
fn misreported(problem: String) -> Outcome {
    failed(FailureClass::Infrastructure, format!("the executor's report cannot be understood: {problem}"))
}

fn failed(class: FailureClass, message: String) -> Outcome {
    Outcome::Failed(Failure { class, message, exit_status: None, missing_inputs: Vec::new() })
}

/// Sends orders to the executor, until its connection ends.
pub(super) async fn forward(
    session: &WorkSession,
    mut orders: mpsc::Receiver<Order>,
    messages: &mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
) -> Option<Status> {
    while let Some(order) = orders.recv().await {
        session.note(&order);
        let leased = match &order {
            Order::Lease(order) => Some((order.lease, order.task.clone(), order.inputs.len())),
            _ => None,
        };
        let message = coordinator_message(order);
        let bytes = message.encoded_len();
        if let Some((lease, task, inputs)) = leased
            && bytes > CONTROL_MESSAGE_BYTES_MAX
        {
            let problem = format!(
                "the lease with {inputs} inputs takes {bytes} bytes, more than {CONTROL_MESSAGE_BYTES_MAX}: \
                 the derivation's input closure is too large"
            );
            let outcome = failed(FailureClass::InputRejected, problem);
            let executor = session.executor.clone();
            let refused = Event::LeaseReported { executor, lease, task, outcome };
            if session.said(refused).await.is_err() {
                return Some(super::plans::stopping());
            }
            continue;
        }
        if messages.send(Ok(message)).await.is_err() {
            return None;
        }
    }
    // The engine has let go of the session, and says why elsewhere.
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BuildLimits;
    use crate::session::{LeaseOrder, OrderedInput, Source};
    use model::{Epoch, LeaseId, PathFacts, Platform, StorePath, System, TrustDomain};

    fn content(name: &str) -> ContentId {
        let path = format!("/nix/store/w51084ksv60sy0fkcb9hz4rxv8rv2avb-{name}");
        ContentId { domain: TrustDomain::Shared, path: StorePath::from_validated(&path) }
    }

    /// A lease with so many inputs, each with the references of a large path.
    fn lease(number: u64, inputs: usize) -> Order {
        let references = (0..100).map(|index| content(&format!("reference-{index}")).path).collect();
        let facts =
            PathFacts { nar_sha256: [1; 32], nar_size: 1, references, deriver: None, content_address: None };
        let input = OrderedInput { id: content("input"), facts, sources: vec![Source::ContentStore] };
        Order::Lease(Box::new(LeaseOrder {
            lease: LeaseKey { id: LeaseId(number), epoch: Epoch(1) },
            task: content("task.drv"),
            text: b"Derive"[..].into(),
            resolved_path: None,
            platform: Platform::Native(System("x86_64-linux".into())),
            inputs: vec![input; inputs],
            trace: HashMap::new(),
            limits: BuildLimits::default(),
        }))
    }

    #[tokio::test]
    async fn a_lease_that_fits_no_message_fails_its_task_and_the_session_goes_on() {
        let (engine, mut commands) = crate::engine::channel();
        let executor = ExecutorName("x".into());
        let session = WorkSession::new(engine, Arc::default(), Plans::new(1), executor.clone(), 7, &[]);
        let (orders, queue) = mpsc::channel(4);
        let (messages, mut sent) = mpsc::channel(4);
        // An input takes more than a kilobyte.
        let too_many = CONTROL_MESSAGE_BYTES_MAX / 1_000;
        for order in [lease(1, too_many), lease(2, 1)] {
            orders.send(order).await.unwrap();
        }
        let forwarding = forward(&session, queue, &messages);
        let check = async {
            let (by, number, event) = commands.said_for_tests().await.unwrap();
            assert_eq!((&by, number), (&executor, 7));
            let Event::LeaseReported { lease, task, outcome: Outcome::Failed(failure), .. } = event else {
                panic!("{event:?}")
            };
            assert_eq!(
                (lease.id, task, failure.class),
                (LeaseId(1), content("task.drv"), FailureClass::InputRejected)
            );
            let start = format!("the lease with {too_many} inputs takes");
            assert!(failure.message.starts_with(&start), "{}", failure.message);
            sent.recv().await.unwrap().unwrap()
        };
        let message = tokio::select! {
            message = tokio::time::timeout(std::time::Duration::from_secs(60), check) => message.unwrap(),
            ended = forwarding => panic!("{ended:?}"),
        };
        let Some(v1::coordinator_message::Message::Lease(lease)) = message.message else {
            panic!("{message:?}")
        };
        assert_eq!((lease.lease_id, lease.inputs.len()), (2, 1));
    }
}
