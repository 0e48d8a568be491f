//! Where builds send their logs and results to, while connections come and go.
use crate::lease::LeaseKey;
use bytes::Bytes;
use model::limits::{LOG_CHUNK_BYTES_MAX, LOG_TAIL_BYTES_MAX};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{RwLock, mpsc, watch};

/// Messages between the builds and one connection.
pub const QUEUE_MESSAGES_MAX: usize = 64;

/// What builds have to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outgoing {
    /// Next bytes of a log, or a new phase.
    Progress {
        /// Of which lease.
        key: LeaseKey,
        /// Set when the phase changed.
        phase: Option<String>,
        /// The log's length, these bytes included.
        end: u64,
        /// Next bytes.
        log: Bytes,
    },
    /// A lease has a result.
    Report(LeaseKey),
}

/// The end of a log, whether it was sent or not: a coordinator that starts again has forgotten what it was told.
#[derive(Debug, Default)]
struct Log {
    phase: Option<String>,
    tail: VecDeque<u8>,
    /// Its whole length.
    end: u64,
}

/// The way to the coordinator. The last 64 KiB of each log are kept until its result is acknowledged.
#[derive(Debug)]
pub struct Uplink {
    connection: watch::Sender<Option<mpsc::Sender<Outgoing>>>,
    logs: Mutex<HashMap<LeaseKey, Log>>,
    /// Held by builds while they send, and alone by a new connection until it was told what has been said: that comes first.
    order: RwLock<()>,
}

impl Default for Uplink {
    fn default() -> Self {
        Self { connection: watch::Sender::new(None), logs: Mutex::default(), order: RwLock::default() }
    }
}

impl Uplink {
    /// Uses a new connection for what comes now, and first sends it the end of each log: the coordinator knows what of that it
    /// has been told before.
    pub async fn connect(&self, connection: mpsc::Sender<Outgoing>) {
        let _order = self.order.write().await;
        let said: Vec<Outgoing> = self.logs().iter().flat_map(|(key, log)| log.messages(*key)).collect();
        for message in said {
            // The connection's own side says that it is over.
            let _ = connection.send(message).await;
        }
        self.connection.send_replace(Some(connection));
    }

    /// The connection is gone.
    pub fn disconnect(&self) {
        self.connection.send_replace(None);
    }

    /// Sends a piece of a log, waiting while a connection is slow.
    pub async fn progress(&self, key: LeaseKey, phase: Option<String>, log: &[u8]) {
        let mut phase = phase;
        let mut chunks = log.chunks(LOG_CHUNK_BYTES_MAX);
        loop {
            let chunk = chunks.next().unwrap_or_default();
            if chunk.is_empty() && phase.is_none() {
                return;
            }
            let phase = phase.take();
            let _order = self.order.read().await;
            let end = self.logs().entry(key).or_default().add(phase.as_ref(), chunk);
            let connection = self.connection.borrow().clone();
            if let Some(connection) = connection {
                let log = Bytes::copy_from_slice(chunk);
                let _ = connection.send(Outgoing::Progress { key, phase, end, log }).await;
            }
        }
    }

    /// Says that a lease has a result; a connection that comes later asks for it itself.
    pub async fn report(&self, key: LeaseKey) {
        let _order = self.order.read().await;
        let connection = self.connection.borrow().clone();
        if let Some(connection) = connection {
            let _ = connection.send(Outgoing::Report(key)).await;
        }
    }

    /// Forgets what is kept for a lease.
    pub fn forget(&self, key: LeaseKey) {
        self.logs().remove(&key);
    }

    fn logs(&self) -> MutexGuard<'_, HashMap<LeaseKey, Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Adds bytes; gives the length with them.
    fn add(&mut self, phase: Option<&String>, text: &[u8]) -> u64 {
        self.phase = phase.cloned().or(self.phase.take());
        self.tail.extend(text);
        let excess = self.tail.len().saturating_sub(LOG_TAIL_BYTES_MAX);
        self.tail.drain(..excess);
        self.end = self.end.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.end
    }

    /// All that is kept.
    fn messages(&self, key: LeaseKey) -> Vec<Outgoing> {
        let log: Bytes = self.tail.iter().copied().collect();
        let mut phase = self.phase.clone();
        let mut end = self.end - u64::try_from(log.len()).unwrap_or(u64::MAX);
        let mut messages = Vec::new();
        let mut start = 0;
        while start < log.len() || phase.is_some() {
            let piece = log.slice(start..(start + LOG_CHUNK_BYTES_MAX).min(log.len()));
            start += piece.len();
            end += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            messages.push(Outgoing::Progress { key, phase: phase.take(), end, log: piece });
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Epoch, LeaseId};

    const KEY: LeaseKey = LeaseKey { id: LeaseId(1), epoch: Epoch(1) };

    /// What messages say, beginning where the log is so long: they follow each other.
    fn text(messages: &[Outgoing], mut begin: u64) -> (Vec<u8>, Option<String>) {
        let mut all = (Vec::new(), None);
        for message in messages {
            if let Outgoing::Progress { phase, end, log, .. } = message {
                assert!(log.len() <= LOG_CHUNK_BYTES_MAX);
                begin += log.len() as u64;
                assert_eq!(*end, begin);
                all.0.extend_from_slice(log);
                all.1 = phase.clone().or(all.1);
            }
        }
        all
    }

    async fn all(uplink: &Uplink, mut receiver: mpsc::Receiver<Outgoing>) -> Vec<Outgoing> {
        uplink.disconnect();
        let mut messages = Vec::new();
        while let Some(message) = receiver.recv().await {
            messages.push(message);
        }
        messages
    }

    #[tokio::test]
    async fn a_connection_that_comes_later_is_told_the_end_of_the_log_first() {
        let uplink = Uplink::default();
        uplink.progress(KEY, Some("build".into()), b"first").await;
        uplink.progress(KEY, None, &vec![b'x'; LOG_TAIL_BYTES_MAX]).await;
        uplink.progress(KEY, None, b"last").await;
        for _ in 0..2 {
            // Whether it was told to another one or not.
            let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
            uplink.connect(sender).await;
            uplink.report(KEY).await;
            let mut messages = all(&uplink, receiver).await;
            assert_eq!(messages.pop(), Some(Outgoing::Report(KEY)));
            let (log, phase) = text(&messages, "firstlast".len() as u64);
            assert_eq!((log.len(), phase.as_deref()), (LOG_TAIL_BYTES_MAX, Some("build")));
            assert!(log.ends_with(b"xlast"));
        }
        uplink.forget(KEY);
        let (sender, receiver) = mpsc::channel(1);
        uplink.connect(sender).await;
        assert_eq!(all(&uplink, receiver).await, []);
    }

    #[tokio::test]
    async fn a_connected_log_goes_out_in_order_and_in_bounded_pieces() {
        let uplink = Uplink::default();
        let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
        uplink.connect(sender).await;
        let log: Vec<u8> =
            (0..3 * LOG_CHUNK_BYTES_MAX + 5).map(|index| u8::try_from(index % 251).unwrap()).collect();
        uplink.progress(KEY, Some("unpack".into()), &log).await;
        uplink.progress(KEY, None, b"").await;
        uplink.report(KEY).await;
        let mut messages = all(&uplink, receiver).await;
        assert_eq!(messages.pop(), Some(Outgoing::Report(KEY)));
        assert_eq!(text(&messages, 0), (log, Some("unpack".into())));
    }

    #[tokio::test]
    async fn builds_wait_while_a_slow_connection_is_told_what_was_said() {
        let uplink = std::sync::Arc::new(Uplink::default());
        uplink.progress(KEY, None, &vec![b'x'; 2 * LOG_CHUNK_BYTES_MAX]).await;
        let (sender, mut receiver) = mpsc::channel(1);
        let connecting = node::task::spawn("test", {
            let uplink = uplink.clone();
            async move { uplink.connect(sender).await }
        });
        let mut messages = vec![receiver.recv().await.unwrap()];
        let speaking = node::task::spawn("test", {
            let uplink = uplink.clone();
            async move {
                uplink.progress(KEY, None, b"new").await;
                uplink.report(KEY).await;
            }
        });
        while messages.last() != Some(&Outgoing::Report(KEY)) {
            messages.push(receiver.recv().await.unwrap());
        }
        connecting.await.unwrap();
        speaking.await.unwrap();
        let (log, _) = text(&messages, 0);
        assert_eq!((log.len(), log.ends_with(b"xnew")), (2 * LOG_CHUNK_BYTES_MAX + 3, true));
    }

    #[tokio::test]
    async fn what_a_broken_connection_did_not_take_is_kept() {
        let uplink = Uplink::default();
        let (sender, receiver) = mpsc::channel(1);
        uplink.connect(sender).await;
        drop(receiver);
        uplink.progress(KEY, None, b"kept").await;
        let (sender, receiver) = mpsc::channel(1);
        uplink.connect(sender).await;
        assert_eq!(text(&all(&uplink, receiver).await, 0).0, b"kept");
    }
}
