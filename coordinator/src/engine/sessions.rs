//! Who is connected: the engine's ends of all sessions.
use crate::session::{DataAddress, End, Order, Session};
use model::ExecutorName;
use std::collections::HashMap;
use tokio::sync::mpsc::error::TrySendError;

/// The sessions, one for each executor.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: HashMap<ExecutorName, Session>,
}

impl Sessions {
    /// A session begins; an older one of the same executor is over.
    pub(super) fn open(&mut self, session: Session) {
        if let Some(former) = self.open.insert(session.executor.clone(), session) {
            // Its connection may be gone already.
            let _ = former.end.send(End::Replaced);
        }
    }

    /// Whether a session is the executor's current one.
    pub(super) fn is_current(&self, executor: &ExecutorName, number: u64) -> bool {
        self.open.get(executor).is_some_and(|session| session.number == number)
    }

    /// Forgets a session whose connection ended; whether it was the current one.
    pub(super) fn close(&mut self, executor: &ExecutorName, number: u64) -> bool {
        let is_current = self.is_current(executor, number);
        if is_current {
            self.open.remove(executor);
        }
        is_current
    }

    /// Ends an executor's session, if there is one.
    pub(super) fn end(&mut self, executor: &ExecutorName, why: End) {
        if let Some(session) = self.open.remove(executor) {
            let _ = session.end.send(why);
        }
    }

    /// Sends an order. What cannot be sent is not kept: with its next session the executor says what it believes.
    ///
    /// Gives false when the session had to be ended for it: the caller must say so to the core.
    pub(super) fn send(&mut self, executor: &ExecutorName, order: Order) -> bool {
        let Some(session) = self.open.get(executor) else { return true };
        match session.orders.try_send(order) {
            Ok(()) => true,
            // The connection is gone, and says so itself.
            Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(_)) => {
                tracing::warn!(%executor, "the executor does not take its orders: session ended");
                self.end(executor, End::Slow);
                false
            }
        }
    }

    /// Where an executor serves what it holds, while it is connected.
    pub(super) fn address(&self, executor: &ExecutorName) -> Option<&DataAddress> {
        self.open.get(executor).map(|session| &session.data_address)
    }
}
