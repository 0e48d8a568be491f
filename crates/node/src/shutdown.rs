//! Stopping in stages: SIGTERM or SIGINT means drain, a second one or the deadline means stop now.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two stages, for everyone who works. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Shutdown {
    /// Nobody stops yet; no signal is listened to.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens to SIGTERM and SIGINT. After the first, `deadline` (if any) is left to drain.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn listen(deadline: Option<Duration>) -> std::io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stages = shutdown.clone();
        crate::task::spawn("signals", async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                }
            };
            let first = next().await;
            tracing::info!(signal = first, "draining; once more stops at once");
            stages.drain();
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                again = next() => tracing::warn!(signal = again, "stopping at once"),
                () = late => tracing::warn!(?deadline, "still draining at the deadline: stopping"),
                () = stages.stopping() => {}
            }
            stages.stop();
        });
        Ok(shutdown)
    }

    /// Take no more work, finish what runs.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// End everything now.
    pub fn stop(&self) {
        self.drain.cancel();
        self.stop.cancel();
    }

    /// Whether draining has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Whether everything is to end now.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits for draining to begin.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        self.drain.clone().cancelled_owned()
    }

    /// Waits for the order to end now.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stopping_implies_draining_and_not_the_reverse() {
        let shutdown = Shutdown::new();
        let seen = shutdown.clone();
        shutdown.drain();
        seen.draining().await;
        assert!(seen.is_draining() && !seen.is_stopping());
        let other = Shutdown::new();
        other.stop();
        other.clone().draining().await;
        other.stopping().await;
    }
}
