//! The coordinator's calls in the client's words: the only place that knows the wire's types.

mod blobs;
mod error;
mod events;
mod plans;

pub use blobs::Download;
pub use error::CallError;
pub use plans::{Answer, Events, Need, Submission, SubmitReply, Wanted};

use proto::v1::blobs_client::BlobsClient;
use proto::v1::plans_client::PlansClient;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

type Interceptor = fn(tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status>;

/// A channel that carries the trace's context with every call.
type Transport = InterceptedService<Channel, Interceptor>;

/// Puts the context of the calling span into each call.
const PROPAGATE: Interceptor = node::propagate::interceptor;

/// The coordinator: control and bulk on channels of their own, so that NARs never delay an event.
#[derive(Debug, Clone)]
pub struct Coordinator {
    plans: PlansClient<Transport>,
    control_blobs: BlobsClient<Transport>,
    bulk_blobs: BlobsClient<Transport>,
}

impl Coordinator {
    /// The services over two channels.
    pub fn over(control: Channel, bulk: Channel) -> Self {
        let size = model::limits::CONTROL_MESSAGE_BYTES_MAX;
        let limited = |channel| {
            BlobsClient::with_interceptor(channel, PROPAGATE)
                .max_decoding_message_size(size)
                .max_encoding_message_size(size)
        };
        Self {
            plans: PlansClient::with_interceptor(control.clone(), PROPAGATE)
                .max_decoding_message_size(size)
                .max_encoding_message_size(size),
            control_blobs: limited(control),
            bulk_blobs: limited(bulk),
        }
    }
}
