//! Where builds send their logs and results to, while connections come and go.
use crate::lease::LeaseKey;
use bytes::Bytes;
use model::limits::{LOG_CHUNK_BYTES_MAX, LOG_TAIL_BYTES_MAX};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

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
        /// Next bytes.
        log: Bytes,
    },
    /// A lease has a result.
    Report(LeaseKey),
}

/// What could not be sent for want of a connection.
#[derive(Debug, Default)]
struct Pending {
    phase: Option<String>,
    log: VecDeque<u8>,
}

/// The way to the coordinator. While there is none, the last 64 KiB of each log are kept.
#[derive(Debug)]
pub struct Uplink {
    connection: watch::Sender<Option<mpsc::Sender<Outgoing>>>,
    pending: Mutex<HashMap<LeaseKey, Pending>>,
}

impl Default for Uplink {
    fn default() -> Self {
        Self { connection: watch::Sender::new(None), pending: Mutex::default() }
    }
}

impl Uplink {
    /// Uses a new connection for what comes now; returns what has piled up, in order.
    pub fn connect(&self, connection: mpsc::Sender<Outgoing>) -> Vec<Outgoing> {
        self.connection.send_replace(Some(connection));
        let pending = std::mem::take(&mut *self.pending());
        pending.into_iter().flat_map(|(key, pending)| pending.messages(key)).collect()
    }

    /// The connection is gone.
    pub fn disconnect(&self) {
        self.connection.send_replace(None);
    }

    /// Sends a piece of a log, waiting while a connection is slow; keeps its end while there is none.
    pub async fn progress(&self, key: LeaseKey, phase: Option<String>, log: &[u8]) {
        let connection = self.connection.borrow().clone();
        let Some(connection) = connection else {
            return self.keep(key, phase, log);
        };
        let mut phase = phase;
        let mut chunks = log.chunks(LOG_CHUNK_BYTES_MAX);
        loop {
            let chunk = chunks.next().unwrap_or_default();
            if chunk.is_empty() && phase.is_none() {
                return;
            }
            let message = Outgoing::Progress { key, phase: phase.take(), log: Bytes::copy_from_slice(chunk) };
            if let Err(mpsc::error::SendError(Outgoing::Progress { phase, log, .. })) =
                connection.send(message).await
            {
                self.keep(key, phase, &log);
            }
        }
    }

    /// Says that a lease has a result; a connection that comes later asks for it itself.
    pub async fn report(&self, key: LeaseKey) {
        let connection = self.connection.borrow().clone();
        if let Some(connection) = connection {
            let _ = connection.send(Outgoing::Report(key)).await;
        }
    }

    /// Forgets what is kept for a lease.
    pub fn forget(&self, key: LeaseKey) {
        self.pending().remove(&key);
    }

    fn keep(&self, key: LeaseKey, phase: Option<String>, log: &[u8]) {
        let mut all = self.pending();
        let pending = all.entry(key).or_default();
        pending.phase = phase.or(pending.phase.take());
        pending.log.extend(log);
        let excess = pending.log.len().saturating_sub(LOG_TAIL_BYTES_MAX);
        pending.log.drain(..excess);
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<LeaseKey, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn messages(mut self, key: LeaseKey) -> Vec<Outgoing> {
        let log = Bytes::copy_from_slice(self.log.make_contiguous());
        let mut messages = Vec::new();
        let mut start = 0;
        while start < log.len() || self.phase.is_some() {
            let end = (start + LOG_CHUNK_BYTES_MAX).min(log.len());
            messages.push(Outgoing::Progress { key, phase: self.phase.take(), log: log.slice(start..end) });
            start = end;
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Epoch, LeaseId};

    const KEY: LeaseKey = LeaseKey { id: LeaseId(1), epoch: Epoch(1) };

    fn text(messages: &[Outgoing]) -> (Vec<u8>, Option<String>) {
        let mut all = (Vec::new(), None);
        for message in messages {
            if let Outgoing::Progress { phase, log, .. } = message {
                assert!(log.len() <= LOG_CHUNK_BYTES_MAX);
                all.0.extend_from_slice(log);
                all.1 = phase.clone().or(all.1);
            }
        }
        all
    }

    #[tokio::test]
    async fn the_end_of_a_log_is_kept_while_disconnected() {
        let uplink = Uplink::default();
        uplink.progress(KEY, Some("build".into()), b"first").await;
        uplink.progress(KEY, None, &vec![b'x'; LOG_TAIL_BYTES_MAX]).await;
        uplink.progress(KEY, None, b"last").await;
        let (sender, _receiver) = mpsc::channel(1);
        let (log, phase) = text(&uplink.connect(sender));
        assert_eq!((log.len(), phase.as_deref()), (LOG_TAIL_BYTES_MAX, Some("build")));
        assert!(log.ends_with(b"xlast"));
    }

    #[tokio::test]
    async fn a_connected_log_goes_out_in_order_and_in_bounded_pieces() {
        let uplink = Uplink::default();
        let (sender, mut receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
        assert!(uplink.connect(sender).is_empty());
        let log: Vec<u8> =
            (0..3 * LOG_CHUNK_BYTES_MAX + 5).map(|index| u8::try_from(index % 251).unwrap()).collect();
        uplink.progress(KEY, Some("unpack".into()), &log).await;
        uplink.progress(KEY, None, b"").await;
        uplink.report(KEY).await;
        uplink.disconnect();
        let mut messages = Vec::new();
        while let Some(message) = receiver.recv().await {
            messages.push(message);
        }
        assert_eq!(messages.pop(), Some(Outgoing::Report(KEY)));
        assert_eq!(text(&messages), (log, Some("unpack".into())));
    }

    #[tokio::test]
    async fn what_a_broken_connection_did_not_take_is_kept() {
        let uplink = Uplink::default();
        let (sender, receiver) = mpsc::channel(1);
        uplink.connect(sender);
        drop(receiver);
        uplink.progress(KEY, None, b"kept").await;
        let (sender, _receiver) = mpsc::channel(1);
        assert_eq!(text(&uplink.connect(sender)).0, b"kept");
    }
}
