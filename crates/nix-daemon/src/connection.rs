//! A connection and its small operations: one request, the daemon's messages, one result.
use crate::error::Error;
use crate::handshake::{Greeting, Trust, greet};
use crate::incoming::{Incoming, ReadError};
use crate::message::{Message, message};
use crate::nar_export::NarExport;
use crate::nar_import::NarImport;
use crate::path_info::{PathInfo, realisation};
use crate::wire::{Cursor, Fault, Put, malformed};
use bytes::BytesMut;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;

/// Lines of the daemon's log that are kept for whoever wants to see them.
const LOG_LINES_MAX: usize = 100;

/// Settings that a client sends; an untrusted one has few that count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Go on with other goals after a failure.
    pub keep_going: bool,
    /// 0 errors only, 3 as Nix by default.
    pub verbosity: u64,
    /// Ask substituters.
    pub use_substitutes: bool,
    /// Settings by name.
    pub overrides: BTreeMap<String, String>,
}

/// A connection to nix-daemon. One operation at a time; an operation dropped halfway makes it unusable.
pub struct Connection<S> {
    pub(crate) incoming: Incoming<ReadHalf<S>>,
    pub(crate) writer: WriteHalf<S>,
    greeting: Greeting,
    /// Set while an operation runs: who finds it set comes after one that was dropped or lost.
    pub(crate) unfinished: bool,
    pub(crate) log: Log,
}

/// The last lines that the daemon logged.
#[derive(Default)]
pub(crate) struct Log(VecDeque<String>);

impl Log {
    /// Keeps what a message says; true when it was the last one of an operation.
    pub(crate) fn digest(&mut self, doing: &str, message: Message) -> Result<bool, Error> {
        match message {
            Message::Last => return Ok(true),
            Message::Error(message) => return Err(Error::Refused { doing: doing.to_owned(), message }),
            Message::Activity => {}
            Message::Log(text) => {
                if self.0.len() == LOG_LINES_MAX {
                    self.0.pop_front();
                }
                self.0.push_back(text);
            }
        }
        Ok(false)
    }
}

impl<S> std::fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("greeting", &self.greeting).finish_non_exhaustive()
    }
}

impl Connection<UnixStream> {
    /// Connects to the daemon's socket.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| Error::Connect { path: path.to_owned(), source })?;
        Self::greet(stream).await
    }
}

impl<S: AsyncRead + AsyncWrite> Connection<S> {
    /// Shakes hands over a fresh stream.
    pub async fn greet(stream: S) -> Result<Self, Error> {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut incoming = Incoming::new(reader);
        let doing = "greet nix-daemon";
        let greeting = greet(&mut incoming, &mut writer).await.map_err(|error| lost(doing, error))?;
        let log = Log::default();
        let mut connection = Self { incoming, writer, greeting, unfinished: true, log };
        connection.messages(doing).await?;
        connection.unfinished = false;
        Ok(connection)
    }

    /// Protocol version that both sides speak: major in the high byte, minor in the low one.
    pub fn version(&self) -> u64 {
        self.greeting.version
    }

    /// The daemon's version of Nix.
    pub fn nix_version(&self) -> &str {
        &self.greeting.nix_version
    }

    /// Whether the daemon trusts this user.
    pub fn trust(&self) -> Trust {
        self.greeting.trust
    }

    /// Whether another operation can follow: none was dropped halfway, and the stream is in order.
    pub fn is_usable(&self) -> bool {
        !self.unfinished
    }

    /// Takes the last lines that the daemon logged.
    pub fn take_log(&mut self) -> Vec<String> {
        self.log.0.drain(..).collect()
    }

    /// Sends settings.
    pub async fn set_options(&mut self, options: &Options) -> Result<(), Error> {
        let mut request = BytesMut::new();
        request.put_number(19);
        request.put_boolean(false); // keep failed builds
        request.put_boolean(options.keep_going);
        request.put_boolean(false); // fall back to building
        request.put_number(options.verbosity);
        request.put_number(1); // jobs
        request.put_number(0); // seconds of silence
        request.put_number(1);
        request.put_number(7); // build output is not wanted
        request.put_number(0);
        request.put_number(0);
        request.put_number(0); // cores
        request.put_boolean(options.use_substitutes);
        request.put_number(options.overrides.len() as u64);
        for (name, value) in &options.overrides {
            request.put_word(name);
            request.put_word(value);
        }
        self.call("send settings to nix-daemon", request, |_| Ok(())).await
    }

    /// Whether the path is in the store.
    pub async fn is_valid_path(&mut self, path: &str) -> Result<bool, Error> {
        let doing = format!("ask nix-daemon whether {path} is valid");
        self.call(&doing, request(1, path), |cursor| cursor.boolean()).await
    }

    /// Which of these paths are in the store, sorted.
    pub async fn query_valid_paths(&mut self, paths: &[&str]) -> Result<Vec<String>, Error> {
        let mut request = BytesMut::new();
        request.put_number(31);
        let mut sorted = paths.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        request.put_words(&sorted);
        request.put_boolean(false); // do not substitute
        let doing = format!("ask nix-daemon which of {} paths are valid", sorted.len());
        self.call(&doing, request, |cursor| cursor.store_paths("valid paths")).await
    }

    /// What the store knows about a path; nothing when it is not valid.
    pub async fn query_path_info(&mut self, path: &str) -> Result<Option<PathInfo>, Error> {
        let doing = format!("ask nix-daemon about {path}");
        self.call(&doing, request(26, path), |cursor| {
            if cursor.boolean()? { PathInfo::decode(path, cursor).map(Some) } else { Ok(None) }
        })
        .await
    }

    /// Outputs of a derivation in the store, by name; without a path where it is not known before the build.
    pub async fn query_derivation_output_map(
        &mut self,
        derivation: &str,
    ) -> Result<BTreeMap<String, Option<String>>, Error> {
        let doing = format!("ask nix-daemon for the outputs of {derivation}");
        let entries = self
            .call(&doing, request(41, derivation), |cursor| {
                cursor.list("outputs", |cursor| Ok((cursor.word("output")?, cursor.optional_word("path")?)))
            })
            .await?;
        Ok(entries.into_iter().collect())
    }

    /// Says which path an output has that its derivation leaves open. `id` is Nix's name of it, `base_name` that of a valid path.
    /// The daemon asks for no signature and no trusted user, but must have the experimental feature `ca-derivations`.
    pub async fn register_realisation(&mut self, id: &str, base_name: &str) -> Result<(), Error> {
        let mut request = BytesMut::new();
        request.put_number(42);
        request.put_word(&realisation(id, base_name));
        self.call(&format!("register {base_name} as output {id}"), request, |_| Ok(())).await
    }

    /// Protects a path, valid or not yet, from garbage collection as long as this connection lives.
    pub async fn add_temp_root(&mut self, path: &str) -> Result<(), Error> {
        let doing = format!("protect {path} from garbage collection");
        self.call(&doing, request(11, path), one).await
    }

    /// Makes the link at an absolute path, outside the store and already there, a root of the garbage collector.
    pub async fn add_indirect_root(&mut self, link: &str) -> Result<(), Error> {
        let doing = format!("register {link} as a root of the garbage collector");
        self.call(&doing, request(12, link), one).await
    }

    /// Streams the NAR of a valid path.
    pub async fn nar_from_path(&mut self, path: &str) -> Result<NarExport<'_, S>, Error> {
        let doing = format!("read {path} from nix-daemon");
        self.begin(&doing, request(38, path)).await?;
        if let Err(error) = self.messages(&doing).await {
            self.unfinished = !matches!(error, Error::Refused { .. });
            return Err(error);
        }
        Ok(NarExport::new(self, doing))
    }

    /// Registers a path whose NAR is then streamed. Everything it references must be valid already.
    pub async fn add_to_store_nar(&mut self, info: &PathInfo) -> Result<NarImport<'_, S>, Error> {
        let doing = format!("import {}", info.path);
        let mut request = request(39, &info.path);
        info.encode(&mut request);
        request.put_boolean(false); // repair
        request.put_boolean(false); // signatures are checked
        self.begin(&doing, request).await?;
        Ok(NarImport::new(self, doing))
    }

    /// Sends a request, and marks the connection until its result is read.
    async fn begin(&mut self, doing: &str, request: BytesMut) -> Result<(), Error> {
        if self.unfinished {
            return Err(Error::Unfinished { doing: doing.to_owned() });
        }
        self.unfinished = true;
        let sent = async {
            self.writer.write_all(&request).await?;
            self.writer.flush().await
        };
        sent.await.map_err(|source| lost(doing, ReadError::Stream(source)))
    }

    async fn call<T>(
        &mut self,
        doing: &str,
        request: BytesMut,
        decode: impl Fn(&mut Cursor<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        self.begin(doing, request).await?;
        let result = match self.messages(doing).await {
            Ok(()) => self.incoming.take(decode).await.map_err(|error| lost(doing, error)),
            Err(error) => Err(error),
        };
        self.unfinished = !matches!(result, Ok(_) | Err(Error::Refused { .. }));
        result
    }

    /// Reads messages up to the one that ends them.
    pub(crate) async fn messages(&mut self, doing: &str) -> Result<(), Error> {
        loop {
            let message = self.incoming.take(message).await.map_err(|error| lost(doing, error))?;
            if self.log.digest(doing, message)? {
                return Ok(());
            }
        }
    }
}

/// An operation whose first argument is a path.
fn request(operation: u64, path: &str) -> BytesMut {
    let mut request = BytesMut::new();
    request.put_number(operation);
    request.put_word(path);
    request
}

/// The 1 with which operations without a result end: left unread it would begin the next reply.
fn one(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    match cursor.number()? {
        1 => Ok(()),
        other => malformed(format!("the operation ends with {other}, not 1")),
    }
}

pub(crate) fn lost(doing: &str, error: ReadError) -> Error {
    let doing = doing.to_owned();
    match error {
        ReadError::Stream(source) => Error::Stream { doing, source },
        ReadError::Malformed(problem) => Error::Protocol { doing, problem },
    }
}
