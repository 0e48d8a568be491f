//! What a builtin in progress listens to, and where it is heard: limits, cancellation, log.
use super::Stop;
use crate::build::clock::Clock;
use crate::build::log::Piece;
use crate::build::run::{Ended, LogSink};
use crate::lease::{LeaseKey, Limits};
use crate::session::uplink::Uplink;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Warnings on their way from a thread to the log.
const WARNINGS_IN_FLIGHT: usize = 64;
/// A time that does not come.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The outside of one builtin.
pub struct Control<'a> {
    clock: Clock,
    log_bytes_left: u64,
    limits: Limits,
    cancel: CancellationToken,
    uplink: &'a Uplink,
    key: LeaseKey,
}

impl<'a> Control<'a> {
    /// Of a lease that begins now.
    pub fn new(limits: Limits, cancel: CancellationToken, uplink: &'a Uplink, key: LeaseKey) -> Self {
        let log_bytes_left = limits.log_bytes_max.unwrap_or(u64::MAX);
        Self { clock: Clock::new(limits), log_bytes_left, limits, cancel, uplink, key }
    }

    /// Waits for something, but not longer than allowed. Bytes that arrive are a sign of life, so this counts as one.
    pub async fn wait<T>(&mut self, what: impl Future<Output = T>) -> Result<T, Stop> {
        let deadline = self.clock.next().unwrap_or_else(|| Instant::now() + NEVER);
        tokio::select! {
            done = what => {
                self.clock.heard();
                Ok(done)
            }
            () = self.cancel.cancelled() => Err(Stop::Ended(Ended::Cancelled)),
            () = tokio::time::sleep_until(deadline) => {
                Err(Stop::Ended(self.clock.passed().unwrap_or(Ended::Cancelled)))
            }
        }
    }

    /// Writes to the build's log.
    pub async fn say(&mut self, text: &str) -> Result<(), Stop> {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let Some(left) = self.log_bytes_left.checked_sub(length) else {
            let limit_bytes = self.limits.log_bytes_max.unwrap_or(u64::MAX);
            return Err(Stop::Ended(Ended::LogTooLong { limit_bytes }));
        };
        self.log_bytes_left = left;
        self.piece(Piece::Text(text.as_bytes().to_vec())).await;
        self.clock.heard();
        Ok(())
    }

    /// Ends for work on a thread of its own: it asks and warns there, [`Control::repeat`] listens here.
    pub fn aside(&self) -> (Bell, mpsc::Receiver<String>) {
        let (warnings, receiver) = mpsc::channel(WARNINGS_IN_FLIGHT);
        (Bell { cancel: self.cancel.clone(), warnings }, receiver)
    }

    /// Repeats warnings in the log until the work has ended or must: closing the channel ends it.
    pub async fn repeat(&mut self, mut warnings: mpsc::Receiver<String>) -> Result<(), Stop> {
        while let Some(warning) = self.wait(warnings.recv()).await? {
            self.say(&format!("\x1b[35;1mwarning:\x1b[0m {warning}\n")).await?;
        }
        Ok(())
    }
}

impl LogSink for Control<'_> {
    async fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => self.uplink.progress(self.key, None, &text).await,
            Piece::Phase(phase) => self.uplink.progress(self.key, Some(phase), &[]).await,
        }
    }
}

/// The outside of a builtin, as a thread without async sees it.
#[derive(Clone, Debug)]
pub struct Bell {
    cancel: CancellationToken,
    warnings: mpsc::Sender<String>,
}

impl Bell {
    /// Whether to go on: nobody listens any more when a limit has passed.
    pub fn check(&self) -> Result<(), Stop> {
        if self.cancel.is_cancelled() || self.warnings.is_closed() {
            return Err(Stop::Ended(Ended::Cancelled));
        }
        Ok(())
    }

    /// A warning for the build's log; waits while that is slow.
    pub fn warn(&self, text: String) -> Result<(), Stop> {
        self.warnings.blocking_send(text).map_err(|_| Stop::Ended(Ended::Cancelled))
    }
}
