//! Who is connected: the engine's ends of all sessions.
use crate::session::{DataAddress, End, Order, Session};
use model::ExecutorName;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;

/// The sessions, one for each executor.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: HashMap<ExecutorName, Open>,
}

/// A session, and when its executor was heard last.
#[derive(Debug)]
struct Open {
    session: Session,
    heard: Duration,
}

impl Sessions {
    /// A session begins; an older one of the same executor is over.
    pub(super) fn open(&mut self, session: Session, now: Duration) {
        if let Some(former) = self.open.insert(session.executor.clone(), Open { session, heard: now }) {
            // Its connection may be gone already.
            let _ = former.session.end.send(End::Replaced);
        }
    }

    /// An executor says something in its current session.
    pub(super) fn heard(&mut self, executor: &ExecutorName, now: Duration) {
        if let Some(open) = self.open.get_mut(executor) {
            open.heard = now;
        }
    }

    /// The address of another process on another host that has the name of a new session's executor, and lives: the two would
    /// take each other's leases away for ever. One that started again on the same host takes over at once.
    pub(super) fn rival(&self, new: &Session, now: Duration, silence_max: Duration) -> Option<DataAddress> {
        let Open { session, heard } = self.open.get(&new.executor)?;
        let is_same = session.boot == new.boot
            || (session.host, &session.data_address) == (new.host, &new.data_address);
        let lives = !session.orders.is_closed() && now.saturating_sub(*heard) <= silence_max;
        (lives && !is_same).then(|| session.data_address.clone())
    }

    /// Whether a session is the executor's current one.
    pub(super) fn is_current(&self, executor: &ExecutorName, number: u64) -> bool {
        self.open.get(executor).is_some_and(|open| open.session.number == number)
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
        if let Some(open) = self.open.remove(executor) {
            let _ = open.session.end.send(why);
        }
    }

    /// Sends an order. What cannot be sent is not kept: with its next session the executor says what it believes.
    ///
    /// Gives false when the session had to be ended for it: the caller must say so to the core.
    pub(super) fn send(&mut self, executor: &ExecutorName, order: Order) -> bool {
        let Some(open) = self.open.get(executor) else { return true };
        match open.session.orders.try_send(order) {
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
        self.open.get(executor).map(|open| &open.session.data_address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::BootId;
    use tokio::sync::{mpsc, oneshot};

    const SILENCE_MAX: Duration = Duration::from_secs(3);

    /// A session of the process `boot` on the host `host`, and the orders that keep it alive.
    fn session(boot: u8, host: u8) -> (Session, mpsc::Receiver<Order>) {
        let (orders, receiver) = mpsc::channel(1);
        let session = Session {
            number: 0,
            executor: ExecutorName("x".into()),
            boot: BootId([boot; 16]),
            host: Some([10, 0, 0, host].into()),
            data_address: format!("10.0.0.{host}:7421").into(),
            orders,
            end: oneshot::channel().0,
        };
        (session, receiver)
    }

    #[test]
    fn a_rival_is_another_living_process_on_another_host() {
        let second = Duration::from_secs(1);
        // Process, host and time of the newcomer; whether the first one's connection is there.
        let cases = [
            ((1, 1), second, true, false, "it connects again"),
            ((1, 2), second, true, false, "it has another address now"),
            ((2, 1), second, true, false, "it was started again"),
            ((2, 2), second, true, true, "two hosts have one certificate"),
            ((2, 2), second, false, false, "the first one's connection has ended"),
            ((2, 2), 4 * second, true, false, "the first one is silent"),
        ];
        for ((boot, host), now, is_there, is_rival, what) in cases {
            let mut sessions = Sessions::default();
            let (first, orders) = session(1, 1);
            sessions.open(first, Duration::ZERO);
            let orders = is_there.then_some(orders);
            let (newcomer, _orders) = session(boot, host);
            let rival = sessions.rival(&newcomer, now, SILENCE_MAX);
            assert_eq!(rival.is_some(), is_rival, "{what}");
            drop(orders);
        }
    }
}
