//! The other side of the protocol: a store that real Nix drives (`ssh-ng` with a program of ours at its far end).
mod request;

pub use request::{BuildRequest, Request};

use crate::handshake::{CLIENT_MAGIC, SERVER_MAGIC, VERSION_MAX, VERSION_MIN};
use crate::incoming::{Incoming, ReadError};
use crate::message::{ERROR, LAST, NEXT, RESULT, START, STOP};
use crate::path_info::{PathInfo, realisation};
use crate::wire::{Put, malformed};
use bytes::{Bytes, BytesMut};
use std::io;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Why a conversation ended.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The client left, or its stream broke.
    #[error("talk to Nix")]
    Stream(#[source] io::Error),
    /// Not the worker protocol, or a version of it that is not spoken here.
    #[error("Nix sent what is not understood: {0}")]
    Malformed(String),
}

impl ServerError {
    /// Whether the client just ended the conversation.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Stream(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe))
    }
}

impl From<ReadError> for ServerError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Stream(error) => Self::Stream(error),
            ReadError::Malformed(problem) => Self::Malformed(problem),
        }
    }
}

/// How a build ended, by the numbers of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "Nix's own words")]
pub enum BuildStatus {
    Built = 0,
    PermanentFailure = 3,
    InputRejected = 4,
    OutputRejected = 5,
    TransientFailure = 6,
    TimedOut = 8,
    MiscFailure = 9,
    DependencyFailed = 10,
    LogLimitExceeded = 11,
}

/// The answer to a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildResult {
    /// How it ended.
    pub status: BuildStatus,
    /// For people; empty when it succeeded.
    pub message: String,
    /// Seconds of Unix time.
    pub started: u64,
    /// Seconds of Unix time.
    pub stopped: u64,
    /// Outputs whose paths their derivation does not say: Nix's name of each (`sha256:HASH!OUTPUT`), and the base name of its path.
    pub realisations: Vec<(String, String)>,
}

/// One conversation with Nix.
pub struct Server<R, W> {
    incoming: Incoming<R>,
    writer: W,
    version: u64,
}

/// What a client may send before it has its answer.
const REQUESTS_AHEAD_BYTES_MAX: usize = 1 << 20;
/// The only activity that is told of.
const BUILD_ACTIVITY: u64 = 1;
const BUILD_TYPE: u64 = 105;
const SET_PHASE: u64 = 104;
const BUILD_LOG_LINE: u64 = 101;
/// Level of messages that are always shown, and of those that repeat what Nix itself shows.
const LEVEL_ERROR: u64 = 0;
const LEVEL_TALKATIVE: u64 = 4;
const STRING_FIELD: u64 = 1;
const NUMBER_FIELD: u64 = 0;
/// We take builds from this client: it may hand over a flattened derivation.
const TRUSTED: u64 = 1;

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Server<R, W> {
    /// Shakes hands; `name` is told as the version of this store's software.
    ///
    /// # Errors
    /// The stream breaks, or the other side is not Nix 2.8 or later.
    pub async fn greet(reader: R, mut writer: W, name: &str) -> Result<Self, ServerError> {
        let mut incoming = Incoming::new(reader);
        incoming
            .take(|cursor| match cursor.number()? {
                CLIENT_MAGIC => Ok(()),
                other => malformed(format!("the greeting begins with {other:#x}: this is not Nix")),
            })
            .await?;
        // Old Nix (2.8) says its version only when it has heard ours.
        let mut hello = BytesMut::new();
        hello.put_number(SERVER_MAGIC);
        hello.put_number(VERSION_MAX);
        send(&mut writer, &hello).await?;
        let client = incoming.take(|cursor| cursor.number()).await?;
        if client >> 8 != 1 || client < VERSION_MIN {
            let (major, minor) = (client >> 8, client & 0xff);
            let problem = format!("protocol {major}.{minor}, where 1.34 or later is needed (Nix 2.8)");
            return Err(ServerError::Malformed(problem));
        }
        let version = client.min(VERSION_MAX);
        if version >= 0x126 {
            incoming.take(|cursor| cursor.list("features", |cursor| cursor.word("feature"))).await?;
            let mut features = BytesMut::new();
            features.put_words::<&str>(&[]);
            // Nix waits for ours before it goes on.
            send(&mut writer, &features).await?;
        }
        // Processor affinity, which may bring a mask, and reserved space.
        incoming
            .take(|cursor| {
                if cursor.boolean()? {
                    cursor.number()?;
                }
                cursor.number()
            })
            .await?;
        let mut rest = BytesMut::new();
        rest.put_word(name);
        if version >= 0x123 {
            rest.put_number(TRUSTED);
        }
        rest.put_number(LAST);
        send(&mut writer, &rest).await?;
        Ok(Self { incoming, writer, version })
    }

    /// The next request; nothing when the client has ended the conversation.
    ///
    /// # Errors
    /// The stream breaks in the middle of a request, or a request is not understood.
    pub async fn request(&mut self) -> Result<Option<Request>, ServerError> {
        if self.incoming.waiting_bytes() == 0 {
            match self.incoming.fill().await {
                Ok(()) => {}
                Err(ReadError::Stream(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(self.incoming.take(request::request).await?))
    }

    /// Waits until the client has gone; requests that come meanwhile are kept. May be dropped at any moment.
    pub async fn gone(&mut self) -> ServerError {
        while self.incoming.waiting_bytes() < REQUESTS_AHEAD_BYTES_MAX {
            if let Err(error) = self.incoming.fill().await {
                return error.into();
            }
        }
        ServerError::Malformed("more requests while one is under way".into())
    }

    /// Ends an operation whose result has been written to `reply`.
    ///
    /// # Errors
    /// The stream breaks; so for all that follow.
    pub async fn reply(&mut self, reply: Reply) -> Result<(), ServerError> {
        let mut bytes = BytesMut::new();
        bytes.put_number(LAST);
        match reply {
            Reply::Done => bytes.put_number(1),
            Reply::Nothing => {}
            Reply::Boolean(value) => bytes.put_boolean(value),
            Reply::Paths(paths) => bytes.put_words(&paths),
            Reply::PathInfo(None) => bytes.put_boolean(false),
            Reply::PathInfo(Some(info)) => {
                bytes.put_boolean(true);
                info.encode(&mut bytes);
            }
            Reply::NoRealisations => bytes.put_number(0),
            // The raw bytes follow.
            Reply::NarBegins => {}
            Reply::BuildResult(result) => self.encode(&result, &mut bytes),
        }
        Ok(send(&mut self.writer, &bytes).await?)
    }

    fn encode(&self, result: &BuildResult, bytes: &mut BytesMut) {
        bytes.put_number(result.status as u64);
        bytes.put_word(&result.message);
        // Built once, and nothing is known about its determinism.
        bytes.put_number(1);
        bytes.put_boolean(false);
        bytes.put_number(result.started);
        bytes.put_number(result.stopped);
        if self.version >= 0x125 {
            // No processor times.
            bytes.put_number(0);
            bytes.put_number(0);
        }
        bytes.put_number(result.realisations.len() as u64);
        for (id, base_name) in &result.realisations {
            bytes.put_word(id);
            bytes.put_word(&realisation(id, base_name));
        }
    }

    /// The next bytes of the NAR that [`Reply::NarBegins`] announced.
    ///
    /// # Errors
    /// The stream breaks.
    pub async fn nar(&mut self, bytes: &Bytes) -> Result<(), ServerError> {
        Ok(self.writer.write_all(bytes).await.map_err(ReadError::Stream)?)
    }

    /// After the last bytes of a NAR.
    ///
    /// # Errors
    /// The stream breaks.
    pub async fn nar_ends(&mut self) -> Result<(), ServerError> {
        Ok(self.writer.flush().await.map_err(ReadError::Stream)?)
    }

    /// Refuses an operation. The conversation goes on.
    ///
    /// # Errors
    /// The stream breaks.
    pub async fn refuse(&mut self, message: &str) -> Result<(), ServerError> {
        let mut bytes = BytesMut::new();
        bytes.put_number(ERROR);
        bytes.put_word("Error");
        bytes.put_number(LEVEL_ERROR);
        bytes.put_word("Error");
        bytes.put_word(message);
        // Neither a position nor traces.
        bytes.put_number(0);
        bytes.put_number(0);
        Ok(send(&mut self.writer, &bytes).await?)
    }

    /// Tells people something in the middle of an operation.
    ///
    /// # Errors
    /// The stream breaks.
    pub async fn note(&mut self, text: &str) -> Result<(), ServerError> {
        let mut bytes = BytesMut::new();
        bytes.put_number(NEXT);
        bytes.put_word(&format!("{text}\n"));
        Ok(send(&mut self.writer, &bytes).await?)
    }

    /// The build of a derivation begins: lines of its log may follow.
    ///
    /// # Errors
    /// The stream breaks.
    pub async fn build_begins(&mut self, derivation: &str) -> Result<(), ServerError> {
        let mut bytes = BytesMut::new();
        for number in [START, BUILD_ACTIVITY, LEVEL_TALKATIVE, BUILD_TYPE] {
            bytes.put_number(number);
        }
        bytes.put_word(&format!("building '{derivation}'"));
        bytes.put_number(4);
        for word in [derivation, ""] {
            bytes.put_number(STRING_FIELD);
            bytes.put_word(word);
        }
        for _round_of_rounds in 0..2 {
            bytes.put_number(NUMBER_FIELD);
            bytes.put_number(1);
        }
        // No activity above it.
        bytes.put_number(0);
        Ok(send(&mut self.writer, &bytes).await?)
    }

    /// The build enters a phase.
    ///
    /// # Errors
    /// The stream breaks.
    pub async fn build_phase(&mut self, phase: &str) -> Result<(), ServerError> {
        let mut bytes = BytesMut::new();
        put_result(&mut bytes, SET_PHASE, phase.as_bytes());
        Ok(send(&mut self.writer, &bytes).await?)
    }

    /// Lines of the build's log, with or without the end of the last one.
    ///
    /// # Errors
    /// The stream breaks.
    pub async fn build_lines(&mut self, text: &[u8]) -> Result<(), ServerError> {
        let mut bytes = BytesMut::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            put_result(&mut bytes, BUILD_LOG_LINE, line.strip_suffix(b"\n").unwrap_or(line));
        }
        Ok(send(&mut self.writer, &bytes).await?)
    }

    /// The build is over, however it ended.
    ///
    /// # Errors
    /// The stream breaks.
    pub async fn build_ends(&mut self) -> Result<(), ServerError> {
        let mut bytes = BytesMut::new();
        bytes.put_number(STOP);
        bytes.put_number(BUILD_ACTIVITY);
        Ok(send(&mut self.writer, &bytes).await?)
    }
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Of operations that just succeed.
    Done,
    /// Of SetOptions and AddMultipleToStore, which have no result.
    Nothing,
    /// Of IsValidPath.
    Boolean(bool),
    /// Of QueryValidPaths.
    Paths(Vec<String>),
    /// Of QueryPathInfo.
    PathInfo(Option<PathInfo>),
    /// Of QueryRealisation.
    NoRealisations,
    /// Of NarFromPath: [`Server::nar`] sends the rest.
    NarBegins,
    /// Of BuildDerivation.
    BuildResult(BuildResult),
}

fn put_result(bytes: &mut BytesMut, kind: u64, text: &[u8]) {
    for number in [RESULT, BUILD_ACTIVITY, kind, 1, STRING_FIELD] {
        bytes.put_number(number);
    }
    Put::put_bytes(bytes, text);
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> Result<(), ReadError> {
    writer.write_all(bytes).await.map_err(ReadError::Stream)?;
    writer.flush().await.map_err(ReadError::Stream)
}
