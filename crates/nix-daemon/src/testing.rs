//! A daemon in the same process, for tests: a store in memory behind the same protocol, with faults on request.
use crate::handshake::{CLIENT_MAGIC, SERVER_MAGIC};
use crate::incoming::{Incoming, ReadError};
use crate::message::LAST;
use crate::path_info::PathInfo;
use crate::wire::{Put, WORD_BYTES_MAX, malformed};
use bytes::BytesMut;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

/// What a fake daemon holds and what it was asked.
#[derive(Debug, Default)]
pub struct FakeStore {
    /// Valid paths with their NARs.
    pub paths: BTreeMap<String, (PathInfo, Vec<u8>)>,
    /// Paths given to AddTempRoot.
    pub temporary_roots: Vec<String>,
    /// Links given to AddIndirectRoot.
    pub indirect_roots: Vec<String>,
    /// Paths in the order in which they were imported.
    pub imported: Vec<String>,
}

/// How a fake daemon behaves.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Protocol version that it greets with.
    pub version: u64,
    /// Bytes of log that it writes after each frame of an upload, before it reads on.
    pub log_bytes_per_frame: usize,
    /// Name of the key without whose signature nothing is imported (signatures are not verified).
    pub required_key: Option<String>,
    /// Refuse every upload when its first frame has come, and say so before the rest is read.
    pub refuse_early: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { version: 0x126, log_bytes_per_frame: 0, required_key: None, refuse_early: false }
    }
}

/// A daemon in memory; clones share the store.
#[derive(Debug, Clone, Default)]
pub struct FakeDaemon {
    store: Arc<Mutex<FakeStore>>,
    behaviour: Behaviour,
}

impl FakeDaemon {
    /// An empty store behind the given behaviour.
    pub fn new(behaviour: Behaviour) -> Self {
        Self { store: Arc::default(), behaviour }
    }

    /// The store, locked.
    pub fn store(&self) -> MutexGuard<'_, FakeStore> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a path valid: hash and size are taken from the NAR.
    pub fn insert(&self, path: &str, references: &[&str], nar: Vec<u8>) -> PathInfo {
        let info = PathInfo {
            path: path.to_owned(),
            deriver: None,
            nar_sha256: Sha256::digest(&nar).into(),
            nar_size: nar.len() as u64,
            references: references.iter().map(|path| (*path).to_owned()).collect(),
            signatures: Vec::new(),
            content_address: None,
        };
        self.store().paths.insert(path.to_owned(), (info.clone(), nar));
        info
    }

    /// Serves one connection to its end.
    pub async fn serve<S: AsyncRead + AsyncWrite>(&self, stream: S) {
        let (reader, writer) = tokio::io::split(stream);
        let mut session = Session {
            store: &self.store,
            behaviour: &self.behaviour,
            incoming: Incoming::new(reader),
            writer,
        };
        // The end of the stream is how every connection ends; a test sees the client's error.
        let _ended = session.run().await;
    }
}

struct Session<'a, S> {
    store: &'a Mutex<FakeStore>,
    behaviour: &'a Behaviour,
    incoming: Incoming<ReadHalf<S>>,
    writer: WriteHalf<S>,
}

impl<S: AsyncRead + AsyncWrite> Session<'_, S> {
    async fn run(&mut self) -> Result<(), ReadError> {
        self.greet().await?;
        loop {
            let operation = self.incoming.take(|cursor| cursor.number()).await?;
            match operation {
                39 => self.add_to_store_nar().await?,
                31 => self.query_valid_paths().await?,
                19 => self.set_options().await?,
                _ => {
                    let path = self.incoming.take(|cursor| cursor.word("path")).await?;
                    let reply = self.simple(operation, &path);
                    self.send(&reply).await?;
                }
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.writer.write_all(bytes).await.map_err(ReadError::Stream)?;
        self.writer.flush().await.map_err(ReadError::Stream)
    }

    fn store(&self) -> MutexGuard<'_, FakeStore> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn greet(&mut self) -> Result<(), ReadError> {
        let client = self
            .incoming
            .take(|cursor| match cursor.number()? {
                CLIENT_MAGIC => cursor.number(),
                _ => malformed("not a client"),
            })
            .await?;
        let version = client.min(self.behaviour.version);
        let mut hello = BytesMut::new();
        hello.put_number(SERVER_MAGIC);
        hello.put_number(self.behaviour.version);
        self.send(&hello).await?;
        if version >= 0x126 {
            self.incoming.take(|cursor| cursor.list("features", |cursor| cursor.word("feature"))).await?;
        }
        self.incoming.take(|cursor| Ok((cursor.number()?, cursor.number()?))).await?;
        let mut rest = BytesMut::new();
        if version >= 0x126 {
            rest.put_words::<&str>(&[]);
        }
        rest.put_word("2.fake");
        if version >= 0x123 {
            rest.put_number(2);
        }
        rest.put_number(LAST);
        self.send(&rest).await
    }

    /// Operations whose only argument is a path.
    fn simple(&self, operation: u64, path: &str) -> BytesMut {
        let mut store = self.store();
        let mut reply = BytesMut::new();
        reply.put_number(LAST);
        match operation {
            1 => reply.put_boolean(store.paths.contains_key(path)),
            11 => {
                store.temporary_roots.push(path.to_owned());
                reply.put_number(1);
            }
            12 => {
                store.indirect_roots.push(path.to_owned());
                reply.put_number(1);
            }
            26 => match store.paths.get(path) {
                Some((info, _)) => {
                    reply.put_boolean(true);
                    info.encode(&mut reply);
                }
                None => reply.put_boolean(false),
            },
            38 => match store.paths.get(path) {
                Some((_, nar)) => reply.extend_from_slice(nar),
                None => return refusal(&format!("path '\u{1b}[35;1m{path}\u{1b}[0m' is not valid")),
            },
            41 => {
                reply.put_number(1);
                reply.put_word("out");
                reply.put_word(path.trim_end_matches(".drv"));
            }
            _ => return refusal(&format!("invalid operation {operation}")),
        }
        reply
    }

    async fn set_options(&mut self) -> Result<(), ReadError> {
        self.incoming
            .take(|cursor| {
                for _setting in 0..12 {
                    cursor.number()?;
                }
                cursor.list("settings", |cursor| Ok((cursor.word("name")?, cursor.word("value")?)))
            })
            .await?;
        let mut reply = BytesMut::new();
        reply.put_number(LAST);
        self.send(&reply).await
    }

    async fn query_valid_paths(&mut self) -> Result<(), ReadError> {
        let mut asked = self
            .incoming
            .take(|cursor| {
                let paths = cursor.store_paths("paths")?;
                cursor.boolean().map(|_substitute| paths)
            })
            .await?;
        asked.retain(|path| self.store().paths.contains_key(path));
        let mut reply = BytesMut::new();
        reply.put_number(LAST);
        reply.put_words(&asked);
        self.send(&reply).await
    }

    async fn add_to_store_nar(&mut self) -> Result<(), ReadError> {
        let path = self.incoming.take(|cursor| cursor.word("path")).await?;
        let info = self.incoming.take(|cursor| PathInfo::decode(&path, cursor)).await?;
        self.incoming.take(|cursor| Ok((cursor.boolean()?, cursor.boolean()?))).await?;
        let mut nar = Vec::new();
        let mut chatter = BytesMut::new();
        chatter.put_number(0x6f6c_6d67);
        chatter.put_bytes(&vec![b'.'; self.behaviour.log_bytes_per_frame]);
        loop {
            let length = self.incoming.take(|cursor| cursor.length("frame", 16 * WORD_BYTES_MAX)).await?;
            if length == 0 {
                break;
            }
            if self.behaviour.refuse_early && nar.is_empty() {
                self.send(&refusal("no room")).await?;
            }
            let end = nar.len() + length;
            while nar.len() < end {
                let there = self.incoming.peek().await?.len();
                nar.extend_from_slice(&self.incoming.split(there.min(end - nar.len())));
            }
            if self.behaviour.log_bytes_per_frame > 0 {
                self.send(&chatter).await?;
            }
        }
        if self.behaviour.refuse_early && !nar.is_empty() {
            return Ok(());
        }
        let reply = self.import(info, nar);
        self.send(&reply).await
    }

    fn import(&self, info: PathInfo, nar: Vec<u8>) -> BytesMut {
        let path = info.path.clone();
        let mut store = self.store();
        let is_signed = self.behaviour.required_key.as_ref().is_none_or(|key| {
            info.signatures.iter().any(|signature| signature.split(':').next() == Some(key))
        });
        if !is_signed {
            return refusal(&format!(
                "cannot add path '{path}' because it lacks a signature by a trusted key"
            ));
        }
        if nar.len() as u64 != info.nar_size || info.nar_sha256 != <[u8; 32]>::from(Sha256::digest(&nar)) {
            return refusal(&format!("hash mismatch importing path '{path}'"));
        }
        let missing = info
            .references
            .iter()
            .find(|reference| **reference != path && !store.paths.contains_key(*reference));
        if let Some(missing) = missing {
            return refusal(&format!("path '{missing}' is not valid"));
        }
        store.imported.push(path.clone());
        store.paths.insert(path, (info, nar));
        let mut reply = BytesMut::new();
        reply.put_number(LAST);
        reply
    }
}

fn refusal(message: &str) -> BytesMut {
    let mut reply = BytesMut::new();
    reply.put_number(0x6378_7470);
    reply.put_word("Error");
    reply.put_number(0);
    reply.put_word("Error");
    reply.put_word(message);
    reply.put_number(0);
    reply.put_number(1);
    reply.put_number(0);
    reply.put_word("while doing what was asked");
    reply
}
