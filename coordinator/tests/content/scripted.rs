//! A board that answers from a store of its own: honestly, unless a test changed the store.
use crate::cluster::Cluster;
use crate::graph::{Drv, Source};
use node::tls::Role;
use proto::v1;
use proto::v1::blobs_client::BlobsClient;
use proto::v1::plans_client::PlansClient;
use proto::v1::submit_request::Request;
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

/// A board.
pub struct Board {
    pub plans: PlansClient<Channel>,
    pub blobs: BlobsClient<Channel>,
    /// Texts by path.
    pub texts: HashMap<String, Vec<u8>>,
    /// Sources by path.
    pub sources: HashMap<String, Source>,
    /// Every need that it was told, of all submissions.
    pub needs: Vec<v1::Need>,
    /// Every source as stored.
    pub uploaded: Vec<v1::PathInfo>,
}

/// A path is wanted, all its outputs.
pub fn wanted(derivation: &str) -> v1::Wanted {
    v1::Wanted { derivation: derivation.into(), outputs: Vec::new() }
}

/// The first message.
pub fn start(protocol_version: u32, wanted: Vec<v1::Wanted>) -> Request {
    Request::Start(v1::SubmitStart { protocol_version, wanted, keep_going: true, cancel_when_left_s: 0 })
}

/// A derivation as an answer.
pub fn answer(path: &str, text: &[u8]) -> Request {
    Request::Derivation(v1::Derivation { path: path.into(), text: text.to_vec().into() })
}

/// A source as an upload, in chunks of this size, every other one as a zstd frame.
pub async fn upload(
    blobs: &mut BlobsClient<Channel>,
    source: &Source,
    chunk: usize,
) -> Result<v1::PathInfo, Status> {
    use v1::upload_request::Part;
    let info = std::iter::once(Part::Info(source.info.clone()));
    let chunks = source.nar.chunks(chunk).enumerate().map(|(at, chunk)| match at % 2 {
        0 => Part::Chunk(chunk.to_vec().into()),
        _ => Part::ZstdChunk(zstd::bulk::compress(chunk, 1).unwrap().into()),
    });
    let parts: Vec<_> = info.chain(chunks).map(|part| v1::UploadRequest { part: Some(part) }).collect();
    let response = blobs.upload(tokio_stream::iter(parts)).await?;
    Ok(response.into_inner().info.unwrap())
}

impl Board {
    pub async fn new(cluster: &Cluster, name: &str) -> Self {
        Self {
            plans: cluster.plans(name).await,
            blobs: cluster.blobs(Role::Board, name).await,
            texts: HashMap::new(),
            sources: HashMap::new(),
            needs: Vec::new(),
            uploaded: Vec::new(),
        }
    }

    pub fn with(mut self, derivations: &[&Drv], sources: &[&Source]) -> Self {
        self.texts.extend(derivations.iter().map(|drv| (drv.path.clone(), drv.text.clone())));
        self.sources.extend(sources.iter().map(|source| (source.path.clone(), (*source).clone())));
        self
    }

    /// Submits, and answers until the end.
    pub async fn submit(&mut self, derivation: &str) -> Result<v1::Admitted, Status> {
        self.submit_start(start(1, vec![wanted(derivation)])).await
    }

    pub async fn submit_start(&mut self, start: Request) -> Result<v1::Admitted, Status> {
        let (answers, requests) = mpsc::channel(4);
        let requests =
            ReceiverStream::new(requests).map(|request| v1::SubmitRequest { request: Some(request) });
        answers.send(start).await.unwrap();
        let mut responses = self.plans.submit(requests).await?.into_inner();
        while let Some(response) = responses.message().await? {
            match response.response.unwrap() {
                v1::submit_response::Response::Admitted(admitted) => return Ok(admitted),
                v1::submit_response::Response::Need(need) => {
                    self.needs.push(need.clone());
                    for path in need.derivations {
                        let request = match self.texts.get(&path) {
                            Some(text) => answer(&path, text),
                            None => unavailable(path),
                        };
                        // The call has ended: its status says why.
                        let _ended = answers.send(request).await;
                    }
                    for path in need.sources {
                        let request = self.source(path).await?;
                        let _ended = answers.send(request).await;
                    }
                }
            }
        }
        panic!("the submission ended without an end")
    }

    async fn source(&mut self, path: String) -> Result<Request, Status> {
        let Some(source) = self.sources.get(&path) else { return Ok(unavailable(path)) };
        self.uploaded.push(upload(&mut self.blobs, source, 999).await?);
        Ok(Request::SourceUploaded(v1::SourceUploaded { path }))
    }

    /// In which domain a source was stored.
    pub fn domain(&self, path: &str) -> &str {
        let is_it = |info: &&v1::PathInfo| info.id.as_ref().unwrap().path == path;
        &self.uploaded.iter().find(is_it).unwrap().id.as_ref().unwrap().trust_domain
    }
}

fn unavailable(path: String) -> Request {
    Request::Unavailable(v1::Unavailable { path, reason: "it is not valid here".into() })
}
