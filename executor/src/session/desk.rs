//! The executor's side of all leases: admits, starts, cancels and finishes them, whatever the connection does.
use super::ledger::{Admission, Ledger};
use super::uplink::Uplink;
use crate::blocking::blocking;
use crate::build::failure::failure;
use crate::lease::{Finished, Lease, LeaseKey, Prefetch, Subject, Times};
use crate::rpc::results::Results;
use futures_util::future::BoxFuture;
use model::{ContentId, FailureClass, Outcome, StorePath};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Runs one lease to its end: the build, or a test's stand-in.
pub trait Builder: Send + Sync + 'static {
    /// Builds; progress goes to the uplink. Never fails: the outcome says how it went.
    fn build(
        self: Arc<Self>,
        lease: Lease,
        uplink: Arc<Uplink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, (Outcome, Times)>;

    /// What comes next needs these: they may be fetched while there is time.
    fn prefetch(&self, _hint: Prefetch) {}

    /// An earlier process made these, and nobody has acknowledged the result of the lease.
    fn made(&self, _key: LeaseKey, _outputs: &[ContentId]) {}

    /// The coordinator has the result of a lease.
    fn acknowledged(&self, _key: LeaseKey) {}
}

/// All leases of this process, and results that nobody has acknowledged yet.
pub struct Desk {
    builder: Arc<dyn Builder>,
    ledger: Mutex<Ledger>,
    results: Arc<Results>,
    /// Results that the disk did not take.
    unsaved: Mutex<HashMap<LeaseKey, Finished>>,
    cancels: Mutex<HashMap<LeaseKey, CancellationToken>>,
    uplink: Arc<Uplink>,
    /// Counts changes, for those who wait for the last build or the last acknowledgement.
    changes: watch::Sender<u64>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// A desk with the results that an earlier process left in `results_directory`.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn open(results_directory: &Path, slots: usize, builder: Arc<dyn Builder>) -> io::Result<Self> {
        let (results, finished) = Results::open(results_directory)?;
        for (key, subject) in &finished {
            let outcome = results.report(*key).and_then(|report| Outcome::try_from(report.outcome?).ok());
            if let Some(Outcome::Built(outputs)) = outcome {
                let domain = &subject.derivation.domain;
                let id = |path: StorePath| ContentId { domain: domain.clone(), path };
                let ids: Vec<_> = outputs.into_iter().map(|output| id(output.path)).collect();
                builder.made(*key, &ids);
            }
        }
        Ok(Self {
            builder,
            ledger: Mutex::new(Ledger::new(slots, finished)),
            results: Arc::new(results),
            unsaved: Mutex::default(),
            cancels: Mutex::default(),
            uplink: Arc::default(),
            changes: watch::Sender::new(0),
        })
    }

    /// The way to the coordinator.
    pub fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    /// A lease arrived: starts it, unless it is known or cannot run here.
    pub async fn lease(self: &Arc<Self>, lease: Lease) {
        let key = lease.key;
        let admission = locked(&self.ledger).admit(key, &lease.subject());
        match admission {
            Admission::Running => {}
            Admission::ReportAgain => self.uplink.report(key).await,
            Admission::Start => self.start(lease),
            Admission::Refuse(reason) => {
                tracing::warn!(lease = %key, derivation = %lease.derivation.path, reason, "lease refused");
                self.refuse(key, lease.subject(), FailureClass::Infrastructure, reason).await;
            }
        }
    }

    /// A lease that cannot be understood: its failure is reported like any other.
    pub async fn reject(&self, key: LeaseKey, derivation: ContentId, problem: &str) {
        let subject = Subject { derivation, platform: None };
        self.refuse(key, subject, FailureClass::InputRejected, problem).await;
    }

    /// What comes next needs something.
    pub fn prefetch(&self, hint: Prefetch) {
        self.builder.prefetch(hint);
    }

    async fn refuse(&self, key: LeaseKey, subject: Subject, class: FailureClass, reason: &str) {
        let outcome = Outcome::Failed(failure(class, reason));
        locked(&self.ledger).refuse(key, &subject);
        self.finish(Finished { key, subject, outcome, times: Times::default() }).await;
    }

    fn start(self: &Arc<Self>, lease: Lease) {
        let cancel = CancellationToken::new();
        locked(&self.cancels).insert(lease.key, cancel.clone());
        let (desk, key, subject) = (self.clone(), lease.key, lease.subject());
        let build = self.builder.clone().build(lease, self.uplink.clone(), cancel);
        node::task::spawn("build", async move {
            let (outcome, times) = build.await;
            locked(&desk.cancels).remove(&key);
            desk.finish(Finished { key, subject, outcome, times }).await;
        });
    }

    /// Keeps a result on disk, then reports it.
    async fn finish(&self, finished: Finished) {
        let key = finished.key;
        let (results, kept) = (self.results.clone(), finished.clone());
        if let Err(error) = blocking(move || results.keep(&kept)).await {
            tracing::error!(lease = %key, %error, "cannot keep a result on disk: it lives as long as this process");
            locked(&self.unsaved).insert(key, finished);
        }
        locked(&self.ledger).finish(key);
        self.changes.send_modify(|count| *count += 1);
        self.uplink.report(key).await;
    }

    /// The coordinator wants a lease ended. Its result is reported all the same.
    pub fn cancel(&self, key: LeaseKey) {
        if let Some(cancel) = locked(&self.cancels).get(&key) {
            cancel.cancel();
        }
    }

    /// Ends all builds at once, before the process ends.
    pub fn cancel_all(&self) {
        locked(&self.cancels).values().for_each(CancellationToken::cancel);
    }

    /// The coordinator has a result.
    pub fn acknowledge(&self, key: LeaseKey) {
        if locked(&self.ledger).acknowledge(key) {
            self.builder.acknowledged(key);
            self.results.remove(key);
            locked(&self.unsaved).remove(&key);
            self.uplink.forget(key);
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// The message of a result.
    pub fn report(&self, key: LeaseKey) -> Option<proto::v1::Report> {
        let unsaved = locked(&self.unsaved).get(&key).map(crate::rpc::messages::report);
        unsaved.or_else(|| self.results.report(key))
    }

    /// What this executor believes to be leased to it.
    pub fn believed(&self) -> Vec<(LeaseKey, Subject)> {
        locked(&self.ledger).believed()
    }

    /// Results to send after a reconnect.
    pub fn unacknowledged(&self) -> Vec<LeaseKey> {
        locked(&self.ledger).unacknowledged()
    }

    /// Takes no more leases; says whether that is new.
    pub fn drain(&self) -> bool {
        let is_new = locked(&self.ledger).drain();
        self.changes.send_modify(|count| *count += 1);
        is_new
    }

    /// Whether no more leases are taken.
    pub fn is_draining(&self) -> bool {
        locked(&self.ledger).is_draining()
    }

    /// The coordinator needs nothing any more that only this executor holds.
    pub fn allow_leave(&self) {
        locked(&self.ledger).allow_leave();
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits until a drained executor may leave.
    pub async fn left(&self) {
        let mut changes = self.changes.subscribe();
        while !locked(&self.ledger).can_leave() {
            // The sender lives as long as this desk.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until this executor is asked to drain.
    pub async fn draining(&self) {
        let mut changes = self.changes.subscribe();
        while !self.is_draining() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until nothing runs, after [`Desk::cancel_all`].
    pub async fn idle(&self) {
        let mut changes = self.changes.subscribe();
        while !locked(&self.ledger).is_idle() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}
