//! The wire of `Plans.Submit`: messages to answers, needs to messages, errors to statuses.
use crate::journal::JournalError;
use crate::submit::{Answer, Board, Need, Start, SubmitError, Submitter, Wanted, converse};
use futures_util::FutureExt as _;
use model::StorePath;
use proto::convert::{WireError, store_path};
use proto::v1;
use proto::v1::submit_request::Request;
use proto::v1::submit_response::Response;
use scheduler::NewPlan;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

/// Where the responses of a submission go.
pub type Replies = mpsc::Sender<Result<v1::SubmitResponse, Status>>;

/// A plan to admit.
pub struct Submitted {
    /// What is to be done.
    pub plan: NewPlan,
    /// How long it goes on without anybody who watches, if its client said so.
    pub patience: Option<Duration>,
}

/// Converses until the plan is whole and verified. The caller admits it, and says so as the last response.
///
/// # Errors
/// What ends the call.
pub async fn submit(
    mut requests: Streaming<v1::SubmitRequest>,
    replies: &Replies,
    board: &str,
    submitter: &Submitter,
) -> Result<Submitted, Status> {
    let start = match requests.message().await?.and_then(|message| message.request) {
        Some(Request::Start(start)) => start,
        _ => return Err(Status::invalid_argument("the first message of a submission is not its start")),
    };
    let patience = patience(start.cancel_when_left_s);
    let mut link = Link { requests, replies };
    let plan = converse(start_from(start)?, &mut link, board, submitter).await;
    Ok(Submitted { plan: plan.map_err(|error| status(&error))?, patience })
}

/// 0 is the coordinator's own patience.
pub fn patience(cancel_when_left_s: u32) -> Option<Duration> {
    Some(Duration::from_secs(cancel_when_left_s.into())).filter(|time| !time.is_zero())
}

fn start_from(wire: v1::SubmitStart) -> Result<Start, WireError> {
    let wanted = |wanted: v1::Wanted| {
        let derivation = store_path("derivation", &wanted.derivation)?;
        Ok(Wanted { derivation, outputs: wanted.outputs })
    };
    let wanted = wire.wanted.into_iter().map(wanted).collect::<Result<_, WireError>>()?;
    Ok(Start { protocol_version: wire.protocol_version, wanted })
}

fn answer_from(wire: v1::SubmitRequest) -> Result<Answer, SubmitError> {
    let path =
        |text: &str| store_path("path", text).map_err(|error| SubmitError::Malformed(error.to_string()));
    match wire.request {
        Some(Request::Derivation(derivation)) => {
            Ok(Answer::Derivation(path(&derivation.path)?, Arc::from(&derivation.text[..])))
        }
        Some(Request::SourceUploaded(uploaded)) => Ok(Answer::SourceUploaded(path(&uploaded.path)?)),
        Some(Request::Unavailable(unavailable)) => {
            let mut reason = unavailable.reason;
            reason.truncate(reason.floor_char_boundary(1024));
            Ok(Answer::Unavailable(path(&unavailable.path)?, reason))
        }
        Some(Request::Start(_)) => Err(SubmitError::Malformed("it starts twice".into())),
        None => Err(SubmitError::Malformed("an answer of a kind that is not known".into())),
    }
}

struct Link<'a> {
    requests: Streaming<v1::SubmitRequest>,
    replies: &'a Replies,
}

fn read(message: Result<Option<v1::SubmitRequest>, Status>) -> Result<Answer, SubmitError> {
    match message {
        Ok(Some(request)) => answer_from(request),
        Ok(None) => Err(SubmitError::Gone),
        Err(status) => Err(SubmitError::Call(status.message().to_owned())),
    }
}

impl Board for Link<'_> {
    async fn ask(&mut self, need: Need) -> Result<(), SubmitError> {
        let texts = |paths: Vec<StorePath>| paths.iter().map(ToString::to_string).collect();
        let need = v1::Need { derivations: texts(need.derivations), sources: texts(need.sources) };
        let response = v1::SubmitResponse { response: Some(Response::Need(need)) };
        self.replies.send(Ok(response)).await.map_err(|_| SubmitError::Gone)
    }

    async fn answer(&mut self) -> Result<Answer, SubmitError> {
        read(self.requests.message().await)
    }

    fn answer_at_hand(&mut self) -> Option<Result<Answer, SubmitError>> {
        self.requests.message().now_or_never().map(read)
    }
}

/// What the board is told: wrong content and broken protocol never get better by trying again.
fn status(error: &SubmitError) -> Status {
    let code = match error {
        SubmitError::ProtocolVersion { .. }
        | SubmitError::Unavailable { .. }
        | SubmitError::NotUploaded(_)
        | SubmitError::Sources(_) => Code::FailedPrecondition,
        SubmitError::Malformed(_)
        | SubmitError::TooLarge { .. }
        | SubmitError::Unsolicited(_)
        | SubmitError::Derivation { .. }
        | SubmitError::Verify(_)
        | SubmitError::Cycle(_)
        | SubmitError::NoSuchOutput { .. }
        | SubmitError::Path(_) => Code::InvalidArgument,
        SubmitError::Idle { .. } => Code::DeadlineExceeded,
        SubmitError::Gone | SubmitError::Call(_) => Code::Cancelled,
        SubmitError::Busy | SubmitError::Journal(JournalError::Full) => Code::ResourceExhausted,
        SubmitError::Journal(_) | SubmitError::Store(_) => {
            tracing::error!(error = node::exit::chain(error), "a submission failed");
            Code::Internal
        }
    };
    Status::new(code, node::exit::chain(error))
}
