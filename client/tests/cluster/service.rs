//! The services of the cluster for tests.
use super::{PLAN, State, derivation};
use bytes::Bytes;
use proto::chunk::{Chunk, Packer, Unpacker};
use proto::v1;
use proto::v1::blobs_server::Blobs;
use proto::v1::plans_server::Plans;
use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
pub struct Service {
    pub state: Arc<State>,
}

impl Service {
    fn note_trace<T>(&self, request: &Request<T>) {
        if let Some(parent) = request.metadata().get("traceparent") {
            self.state.trace_parents.lock().unwrap().push(parent.to_str().unwrap().to_owned());
        }
    }

    /// Asks for everything below what is wanted, one need at a time.
    async fn converse(
        &self,
        mut requests: Streaming<v1::SubmitRequest>,
        replies: &mpsc::Sender<Result<v1::SubmitResponse, Status>>,
    ) -> Result<(), Status> {
        use v1::submit_request::Request;
        let reply = |response| replies.send(Ok(v1::SubmitResponse { response: Some(response) }));
        let Some(Request::Start(start)) = requests.message().await?.and_then(|message| message.request)
        else {
            return Err(Status::invalid_argument("the first message is not a start"));
        };
        if start.protocol_version != 1 {
            return Err(Status::failed_precondition("unknown protocol version"));
        }
        let mut wanted: VecDeque<String> =
            start.wanted.iter().map(|wanted| wanted.derivation.clone()).collect();
        let (mut sources, mut seen) = (BTreeSet::new(), BTreeSet::new());
        while let Some(path) = wanted.pop_front() {
            if !seen.insert(path.clone()) {
                continue;
            }
            let need = v1::Need { derivations: vec![path.clone()], sources: Vec::new() };
            reply(v1::submit_response::Response::Need(need)).await.map_err(|_| Status::cancelled("gone"))?;
            let text = match requests.message().await?.and_then(|message| message.request) {
                Some(Request::Derivation(found)) if found.path == path => found.text,
                Some(Request::Unavailable(missing)) => {
                    return Err(Status::failed_precondition(format!("{}: {}", missing.path, missing.reason)));
                }
                _ => return Err(Status::invalid_argument("not the derivation that was asked for")),
            };
            let known = derivation(&text);
            self.state.derivations.lock().unwrap().insert(path, text.to_vec());
            let full = |path: &nix_formats::store_path::StorePath| format!("/nix/store/{path}");
            wanted.extend(known.input_derivations.keys().map(full));
            sources.extend(known.input_sources.iter().map(full));
        }
        for path in sources {
            let need = v1::Need { derivations: Vec::new(), sources: vec![path.clone()] };
            reply(v1::submit_response::Response::Need(need)).await.map_err(|_| Status::cancelled("gone"))?;
            match requests.message().await?.and_then(|message| message.request) {
                Some(Request::SourceUploaded(done)) if done.path == path => {
                    if !self.state.uploads.lock().unwrap().contains_key(&path) {
                        return Err(Status::invalid_argument("said to be uploaded and is not"));
                    }
                }
                _ => return Err(Status::failed_precondition("a source is missing")),
            }
        }
        self.admit(&start);
        let tasks_total = u32::try_from(seen.len()).unwrap();
        let admitted =
            v1::Admitted { plan_id: PLAN.into(), tasks_total, tasks_to_build: tasks_total, tasks_held: 0 };
        let _gone = reply(v1::submit_response::Response::Admitted(admitted)).await;
        Ok(())
    }

    fn admit(&self, start: &v1::SubmitStart) {
        let tell = self.state.tell.lock().unwrap();
        let Some(tell) = tell.as_ref() else { return };
        for wanted in &start.wanted {
            let text = self.state.derivations.lock().unwrap()[&wanted.derivation].clone();
            self.state.say(tell(&wanted.derivation, &derivation(&text)));
        }
    }
}

#[tonic::async_trait]
impl Plans for Service {
    type SubmitStream = Replies<v1::SubmitResponse>;
    type WatchStream = Replies<v1::PlanEvent>;

    async fn submit(
        &self,
        request: Request<Streaming<v1::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStream>, Status> {
        self.note_trace(&request);
        let (replies, stream) = mpsc::channel(4);
        let service = self.clone();
        node::task::spawn("submit", async move {
            if let Err(status) = service.converse(request.into_inner(), &replies).await {
                let _gone = replies.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.note_trace(&request);
        let request = request.into_inner();
        if *self.state.is_forgetful.lock().unwrap() {
            return Err(Status::not_found("no such plan"));
        }
        self.state.watches.lock().unwrap().push(request.from_sequence);
        let (replies, stream) = mpsc::channel(4);
        let state = self.state.clone();
        node::task::spawn("watch", async move {
            let mut next = request.from_sequence.max(1);
            loop {
                let event = state.events.lock().unwrap().get(next as usize - 1).cloned();
                let Some(event) = event else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    if replies.is_closed() {
                        return;
                    }
                    continue;
                };
                if event.event.is_none() {
                    next += 1;
                    continue;
                }
                let is_last = matches!(event.event, Some(v1::plan_event::Event::Finished(_)));
                if replies.send(Ok(event)).await.is_err() || is_last {
                    return;
                }
                next += 1;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        self.note_trace(&request);
        self.state.cancelled.lock().unwrap().push(request.into_inner().plan_id);
        Ok(Response::new(v1::CancelResponse { was_running: true }))
    }
}

#[tonic::async_trait]
impl Blobs for Service {
    type DownloadStream = Replies<v1::DownloadResponse>;
    type ClosureStream = Replies<v1::ClosureResponse>;

    async fn missing(
        &self,
        _request: Request<v1::MissingRequest>,
    ) -> Result<Response<v1::MissingResponse>, Status> {
        Err(Status::unimplemented("not asked by a client"))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        use v1::upload_request::Part;
        self.note_trace(&request);
        let mut parts = request.into_inner();
        let Some(Part::Info(info)) = parts.message().await?.and_then(|message| message.part) else {
            return Err(Status::invalid_argument("the first message is not path information"));
        };
        let (mut nar, mut unpacker) = (Vec::new(), Unpacker::default());
        while let Some(message) = parts.message().await? {
            let chunk = Chunk::try_from(message.part)?;
            nar.extend_from_slice(&unpacker.unpack(chunk, 64 << 10)?);
        }
        if nar.len() as u64 != info.nar_size {
            return Err(Status::invalid_argument("truncated"));
        }
        let path = info.id.clone().unwrap().path;
        self.state.uploads.lock().unwrap().insert(path, (info.clone(), nar));
        Ok(Response::new(v1::UploadResponse { info: Some(info) }))
    }

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        use v1::download_response::Part;
        self.note_trace(&request);
        let request = request.into_inner();
        let path = request.id.clone().unwrap().path;
        self.state.downloads.lock().unwrap().push((path.clone(), request.offset));
        let known = self.state.blobs.lock().unwrap().get(&path).cloned();
        let (info, blob) = known.ok_or_else(|| Status::not_found(format!("{path} is not here")))?;
        let (replies, stream) = mpsc::channel(4);
        node::task::spawn("download", async move {
            let send = |part| replies.send(Ok(v1::DownloadResponse { part: Some(part) }));
            if send(Part::Info(info)).await.is_err() {
                return;
            }
            let chunk_bytes = u64::from(request.chunk_bytes_max);
            let mut offset = request.offset;
            let mut packer = if request.zstd { Packer::new() } else { Packer::plain() };
            while offset < blob.sent_size() {
                let end = blob.sent_size().min(offset + chunk_bytes);
                if send(packer.pack(Bytes::from(blob.sent(offset..end))).into()).await.is_err() {
                    return;
                }
                offset = end;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn closure(
        &self,
        request: Request<v1::ClosureRequest>,
    ) -> Result<Response<Self::ClosureStream>, Status> {
        self.note_trace(&request);
        let mut order = Vec::new();
        for id in &request.get_ref().ids {
            self.visit(&id.path, &mut order)?;
        }
        if request.get_ref().alone {
            order.retain(|info| request.get_ref().ids.contains(info.id.as_ref().unwrap()));
        }
        let responses: Vec<_> =
            order.into_iter().map(|info| Ok(v1::ClosureResponse { infos: vec![info] })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(responses))))
    }
}

impl Service {
    /// References before referrers.
    fn visit(&self, path: &str, order: &mut Vec<v1::PathInfo>) -> Result<(), Status> {
        if order.iter().any(|info| info.id.as_ref().unwrap().path == path) {
            return Ok(());
        }
        let known = self.state.blobs.lock().unwrap().get(path).cloned();
        let (info, _) = known.ok_or_else(|| Status::not_found(format!("{path} is not here")))?;
        for reference in info.references.iter().filter(|reference| *reference != path) {
            self.visit(reference, order)?;
        }
        order.push(info);
        Ok(())
    }
}
