//! A board: submits derivations without sources, watches, cancels.
use crate::graph::Drv;
use crate::running::{Coordinator, soon};
use node::tls::Role;
use proto::v1;
use proto::v1::blobs_client::BlobsClient;
use proto::v1::plan_event::Event;
use proto::v1::plans_client::PlansClient;
use proto::v1::submit_request::Request;
use proto::v1::submit_response::Response;
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// A board, or an admin, with its connection.
pub struct Board {
    pub plans: PlansClient<Channel>,
    pub blobs: BlobsClient<Channel>,
}

impl Board {
    pub async fn new(coordinator: &Coordinator, name: &str) -> Self {
        Self::with_role(coordinator, Role::Board, name).await
    }

    pub async fn with_role(coordinator: &Coordinator, role: Role, name: &str) -> Self {
        let channel = coordinator.channel(role, name).await;
        Self { plans: PlansClient::new(channel.clone()), blobs: BlobsClient::new(channel) }
    }

    /// Submits one derivation of some, with all its outputs.
    pub async fn submit(&mut self, wanted: &Drv, derivations: &[&Drv]) -> v1::Admitted {
        self.submit_impatiently(wanted, derivations, 0).await
    }

    /// Submits a plan that is to end when nobody has watched it for so many seconds.
    pub async fn submit_impatiently(
        &mut self,
        wanted: &Drv,
        derivations: &[&Drv],
        cancel_when_left_s: u32,
    ) -> v1::Admitted {
        let (answers, requests) = mpsc::channel(16);
        let requests =
            ReceiverStream::new(requests).map(|request| v1::SubmitRequest { request: Some(request) });
        let wanted = vec![v1::Wanted { derivation: wanted.path.clone(), outputs: Vec::new() }];
        let texts: HashMap<&str, &Drv> = derivations.iter().map(|drv| (drv.path.as_str(), *drv)).collect();
        let start = v1::SubmitStart { protocol_version: 1, wanted, keep_going: true, cancel_when_left_s };
        answers.send(Request::Start(start)).await.unwrap();
        let mut responses = self.plans.submit(requests).await.unwrap().into_inner();
        loop {
            let response = soon("a response", responses.message()).await.unwrap().unwrap();
            match response.response.unwrap() {
                Response::Admitted(admitted) => return admitted,
                Response::Need(need) => {
                    assert!(need.sources.is_empty());
                    for path in need.derivations {
                        let text = texts[path.as_str()].text.clone().into();
                        answers.send(Request::Derivation(v1::Derivation { path, text })).await.unwrap();
                    }
                }
            }
        }
    }

    /// Follows a plan.
    pub async fn watch(&mut self, plan: &str, from_sequence: u64, logs: bool) -> Result<Watch, Status> {
        self.watch_impatiently(plan, from_sequence, logs, 0).await
    }

    /// Follows a plan that is to end when this watch has been gone for so many seconds.
    pub async fn watch_impatiently(
        &mut self,
        plan: &str,
        from_sequence: u64,
        logs: bool,
        cancel_when_left_s: u32,
    ) -> Result<Watch, Status> {
        let request = v1::WatchRequest { plan_id: plan.into(), from_sequence, logs, cancel_when_left_s };
        Ok(Watch { events: self.plans.watch(request).await?.into_inner(), last: 0 })
    }

    /// Ends a plan.
    pub async fn cancel(&mut self, plan: &str) -> Result<bool, Status> {
        let request = v1::CancelRequest { plan_id: plan.into() };
        Ok(self.plans.cancel(request).await?.into_inner().was_running)
    }
}

/// Events of a plan.
pub struct Watch {
    events: Streaming<v1::PlanEvent>,
    /// Number of the last event that came.
    pub last: u64,
}

impl Watch {
    /// The next event; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Event>, Status> {
        let Some(event) = soon("an event", self.events.message()).await? else { return Ok(None) };
        self.last = event.sequence;
        Ok(Some(event.event.unwrap()))
    }

    /// The first event that is this.
    pub async fn until<T>(&mut self, what: &str, mut find: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            let event = self.next().await.unwrap();
            let event = event.unwrap_or_else(|| panic!("the plan's events ended without {what}"));
            if let Some(found) = find(event) {
                return found;
            }
        }
    }

    /// The change of a derivation to a state.
    pub async fn state(&mut self, drv: &Drv, state: v1::TaskState) -> v1::TaskChanged {
        let what = format!("{state:?} of {}", drv.path);
        self.until(&what, |event| match event {
            Event::TaskChanged(change) if change.derivation == drv.path && change.state() == state => {
                Some(change)
            }
            Event::Snapshot(snapshot) => {
                snapshot.tasks.into_iter().find(|task| task.derivation == drv.path && task.state() == state)
            }
            _ => None,
        })
        .await
    }

    /// How the plan ended, which is the last event.
    pub async fn finished(mut self) -> v1::PlanFinished {
        let finished = self
            .until("its end", |event| match event {
                Event::Finished(finished) => Some(finished),
                _ => None,
            })
            .await;
        assert_eq!(self.next().await.unwrap(), None, "after the end");
        finished
    }
}
