//! The Plans service: submit, watch, cancel.
use super::error::CallError;
use super::{Coordinator, events};
use crate::event::PlanEvent;
use model::{PlanId, StorePath, limits};
use proto::convert::store_path;
use proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Answers on their way; the coordinator takes them in its own time.
const ANSWERS_QUEUED_MAX: usize = 4;

/// Outputs of a derivation that the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The derivation.
    pub derivation: StorePath,
    /// Output names; never empty.
    pub outputs: Vec<String>,
}

/// What the coordinator does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Derivations whose text it wants.
    pub derivations: Vec<StorePath>,
    /// Store paths that it wants uploaded.
    pub sources: Vec<StorePath>,
}

/// What the client answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A derivation's text.
    Derivation(StorePath, Vec<u8>),
    /// The upload of a source succeeded.
    SourceUploaded(StorePath),
    /// The board does not have it.
    Unavailable(StorePath, String),
}

/// What the coordinator says to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitReply {
    /// It needs more.
    Need(Need),
    /// The plan belongs to the cluster.
    Admitted {
        /// Its name, for ever.
        plan: PlanId,
        /// Derivations in the plan.
        tasks_total: u32,
        /// Tasks that will be built.
        tasks_to_build: u32,
        /// Tasks whose outputs are there.
        tasks_held: u32,
    },
}

/// A submission under way.
pub struct Submission {
    answers: mpsc::Sender<v1::SubmitRequest>,
    replies: Streaming<v1::SubmitResponse>,
}

const SUBMIT: &str = "submit the plan";

impl Submission {
    /// Sends an answer. A stream that has ended shows in the next reply.
    pub async fn answer(&self, answer: Answer) {
        use v1::submit_request::Request;
        let request = match answer {
            Answer::Derivation(path, text) => {
                Request::Derivation(v1::Derivation { path: path.to_string(), text: text.into() })
            }
            Answer::SourceUploaded(path) => {
                Request::SourceUploaded(v1::SourceUploaded { path: path.to_string() })
            }
            Answer::Unavailable(path, reason) => {
                Request::Unavailable(v1::Unavailable { path: path.to_string(), reason })
            }
        };
        // The receiver is gone only when the call has ended, and `reply` says why.
        let _ended = self.answers.send(v1::SubmitRequest { request: Some(request) }).await;
    }

    /// The next thing the coordinator says.
    pub async fn reply(&mut self) -> Result<SubmitReply, CallError> {
        use v1::submit_response::Response;
        loop {
            let message =
                self.replies.message().await.map_err(|status| CallError::status(SUBMIT, &status))?;
            let wire = |error| CallError::wire(SUBMIT, &error);
            match message.ok_or_else(|| CallError::ended(SUBMIT))?.response {
                // Of a later version: not understood, not needed.
                None => {}
                Some(Response::Need(need)) => {
                    let paths = |field, paths: Vec<String>| -> Result<Vec<StorePath>, CallError> {
                        paths.iter().map(|path| store_path(field, path).map_err(wire)).collect()
                    };
                    let derivations = paths("derivations", need.derivations)?;
                    return Ok(SubmitReply::Need(Need {
                        derivations,
                        sources: paths("sources", need.sources)?,
                    }));
                }
                Some(Response::Admitted(admitted)) => {
                    let plan = PlanId::parse(&admitted.plan_id).ok_or_else(|| {
                        let problem = format!("`{}` is not 32 hexadecimal digits", admitted.plan_id);
                        wire(proto::convert::WireError::new("plan_id", problem))
                    })?;
                    return Ok(SubmitReply::Admitted {
                        plan,
                        tasks_total: admitted.tasks_total,
                        tasks_to_build: admitted.tasks_to_build,
                        tasks_held: admitted.tasks_held,
                    });
                }
            }
        }
    }
}

/// The events of a plan.
pub struct Events(Streaming<v1::PlanEvent>);

const WATCH: &str = "follow the plan";

impl Events {
    /// The next event with its sequence number; nothing when the coordinator ended the stream. Can be dropped
    /// at any moment without losing an event.
    pub async fn next(&mut self) -> Result<Option<(u64, PlanEvent)>, CallError> {
        loop {
            let message = self.0.message().await.map_err(|status| CallError::status(WATCH, &status))?;
            let Some(message) = message else { return Ok(None) };
            // An event of a later version is skipped.
            if let Some(event) = message.event {
                let event = events::plan_event(event).map_err(|error| CallError::wire(WATCH, &error))?;
                return Ok(Some((message.sequence, event)));
            }
        }
    }
}

impl Coordinator {
    /// Begins a submission. `cancel_when_left_s`: see the wire; 0 for a plan that goes on.
    pub async fn submit(&self, wanted: &[Wanted], cancel_when_left_s: u32) -> Result<Submission, CallError> {
        let (answers, queue) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let start = v1::SubmitStart {
            protocol_version: limits::PROTOCOL_VERSION,
            wanted: wanted
                .iter()
                .map(|wanted| v1::Wanted {
                    derivation: wanted.derivation.to_string(),
                    outputs: wanted.outputs.clone(),
                })
                .collect(),
            keep_going: true,
            cancel_when_left_s,
        };
        let start = v1::SubmitRequest { request: Some(v1::submit_request::Request::Start(start)) };
        // The queue is empty and its receiver is here: this cannot wait or fail.
        let _sent = answers.send(start).await;
        let replies = self
            .plans
            .clone()
            .submit(ReceiverStream::new(queue))
            .await
            .map_err(|status| CallError::status(SUBMIT, &status))?;
        Ok(Submission { answers, replies: replies.into_inner() })
    }

    /// Follows a plan from a sequence number on. `cancel_when_left_s`: see the wire; 0 for a plan that goes on.
    pub async fn watch(
        &self,
        plan: PlanId,
        from_sequence: u64,
        logs: bool,
        cancel_when_left_s: u32,
    ) -> Result<Events, CallError> {
        let request = v1::WatchRequest { plan_id: plan.to_string(), from_sequence, logs, cancel_when_left_s };
        let events = self.plans.clone().watch(request).await;
        Ok(Events(events.map_err(|status| CallError::status(WATCH, &status))?.into_inner()))
    }

    /// Whether the coordinator can be reached, and knows us.
    pub async fn reach(&self) -> Result<(), CallError> {
        let asked = self.control_blobs.clone().missing(v1::MissingRequest { ids: Vec::new() }).await;
        asked.map(drop).map_err(|status| CallError::status("reach the cluster", &status))
    }

    /// Ends a plan at the cluster; whether it was running.
    pub async fn cancel(&self, plan: PlanId) -> Result<bool, CallError> {
        let request = v1::CancelRequest { plan_id: plan.to_string() };
        let response = self.plans.clone().cancel(request).await;
        let doing = format!("cancel plan {plan}");
        Ok(response.map_err(|status| CallError::status(doing, &status))?.into_inner().was_running)
    }
}
