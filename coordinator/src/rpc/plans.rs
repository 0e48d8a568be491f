//! The Plans service: submissions, watches, cancellations. A plan belongs to the board that submitted it.
use super::submit;
use super::wire::plan_event;
use crate::engine::EngineHandle;
use crate::knowledge::Knowledge;
use crate::plans::{Plans, Viewer};
use crate::resolution;
use crate::submit::Submitter;
use model::{PlanId, StorePath};
use node::shutdown::Shutdown;
use node::tls::{PeerIdentity, Role};
use proto::convert::WireError;
use proto::v1;
use proto::v1::plans_server;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Messages between a call and its connection.
const RESPONSES_QUEUED_MAX: usize = 16;

/// Serves plans.
#[derive(Debug)]
pub(super) struct PlansService {
    pub(super) engine: EngineHandle,
    pub(super) plans: Plans,
    pub(super) submitter: Arc<Submitter>,
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) shutdown: Shutdown,
}

/// Who calls, from its certificate.
pub(super) fn caller<T>(request: &Request<T>) -> Result<PeerIdentity, Status> {
    let caller = request.extensions().get::<PeerIdentity>();
    caller.cloned().ok_or_else(|| Status::unauthenticated("who calls is not known"))
}

/// What calls are told that end because the coordinator does.
pub(super) fn stopping() -> Status {
    Status::unavailable("the coordinator is stopping; plans go on when it is back")
}

/// Adds what Nix calls outputs whose paths their derivations do not say.
fn name_realisations(event: &mut v1::PlanEvent, knowledge: &Knowledge) {
    use v1::plan_event::Event;
    let roots = match &mut event.event {
        Some(Event::Snapshot(snapshot)) => snapshot.roots.as_mut_slice(),
        Some(Event::RootAvailable(root)) => std::slice::from_mut(root),
        _ => return,
    };
    for root in roots {
        let derivation = StorePath::from_validated(&root.derivation);
        root.realisation =
            resolution::realisation_id(&derivation, &root.output, knowledge).unwrap_or_default();
    }
}

fn viewer(caller: &PeerIdentity) -> Viewer<'_> {
    match caller.role {
        Role::Admin => Viewer::Admin,
        _ => Viewer::Board(&caller.name),
    }
}

fn plan_id(text: &str) -> Result<PlanId, WireError> {
    PlanId::parse(text)
        .ok_or_else(|| WireError::new("plan_id", format!("`{text}` is not 32 hexadecimal digits")))
}

fn not_found(plan: PlanId) -> Status {
    Status::not_found(format!("there is no plan {plan} of yours"))
}

#[tonic::async_trait]
impl plans_server::Plans for PlansService {
    type SubmitStream = ReceiverStream<Result<v1::SubmitResponse, Status>>;
    type WatchStream = ReceiverStream<Result<v1::PlanEvent, Status>>;

    async fn submit(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        let board = caller(&request)?.name;
        let (replies, stream) = mpsc::channel(RESPONSES_QUEUED_MAX);
        let (engine, submitter, plans, stopped) =
            (self.engine.clone(), self.submitter.clone(), self.plans.clone(), self.shutdown.draining());
        node::task::spawn("submit", async move {
            let admitted = async {
                let submit::Submitted { plan, patience } =
                    submit::submit(request.into_inner(), &replies, &board, &submitter).await?;
                let (id, plan_id) = (plan.id, plan.id.to_string());
                let counts = engine.admit(plan, &board).await.map_err(|_| stopping())?;
                plans.be_patient(id, patience);
                Ok(v1::Admitted {
                    plan_id,
                    tasks_total: counts.tasks_total,
                    tasks_to_build: counts.tasks_to_build,
                    tasks_held: counts.tasks_held,
                })
            };
            let admitted: Result<v1::Admitted, Status> = tokio::select! {
                admitted = admitted => admitted,
                () = stopped => Err(stopping()),
            };
            let last = admitted.map(|admitted| v1::SubmitResponse {
                response: Some(v1::submit_response::Response::Admitted(admitted)),
            });
            // A client that left submits again; its plan is its own all the same.
            let _ = replies.send(last).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let plan = plan_id(&request.plan_id)?;
        let patience = submit::patience(request.cancel_when_left_s);
        let mut watch = self
            .plans
            .watch(plan, viewer(&caller), request.from_sequence, request.logs, patience)
            .ok_or_else(|| not_found(plan))?;
        let (events, stream) = mpsc::channel(RESPONSES_QUEUED_MAX);
        let (engine, stopped) = (self.engine.clone(), self.shutdown.draining());
        let knowledge = self.knowledge.clone();
        node::task::spawn("watch", async move {
            let told = async {
                while let Some((sequence, event)) = watch.next(&engine).await {
                    let mut event = plan_event(sequence, event);
                    name_realisations(&mut event, &knowledge);
                    if events.send(Ok(event)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = told => {}
                () = events.closed() => {}
                // Without room the client is slow: it sees the connection end instead.
                () = stopped => drop(events.try_send(Err(stopping()))),
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        let caller = caller(&request)?;
        let plan = plan_id(&request.get_ref().plan_id)?;
        if !self.plans.is_visible(plan, viewer(&caller)) {
            return Err(not_found(plan));
        }
        let was_running = self.engine.cancel(plan).await.map_err(|_| stopping())?;
        tracing::info!(%plan, by = %caller, was_running, "cancellation");
        Ok(Response::new(v1::CancelResponse { was_running }))
    }
}
