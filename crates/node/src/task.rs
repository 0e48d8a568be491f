//! Tasks: every one named, in its starter's span, its panic reported, ended by its owner.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tracing::Instrument;

/// Starts a task in the current span. A panic is logged with the task's name, and ends that task only.
///
/// Whoever keeps the handle ends it; whoever drops the handle must give the future another way to end.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn spawn<T: Send + 'static>(
    name: &'static str,
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(watched(name, future))
}

/// Runs blocking work on its own thread, in the current span.
pub fn spawn_blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || {
        tracing::trace!(task = name, "begins");
        span.in_scope(work)
    })
}

/// As [`spawn_blocking`], for work that waits for a peer as well, and so may take as long as the peer likes.
pub fn spawn_waiting<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let span = tracing::Span::current();
    threads().spawn_blocking(move || {
        tracing::trace!(task = name, "begins");
        span.in_scope(work)
    })
}

#[cfg(not(feature = "testing"))]
fn threads() -> tokio::runtime::Handle {
    tokio::runtime::Handle::current()
}

#[cfg(feature = "testing")]
static THREADS: std::sync::OnceLock<tokio::runtime::Handle> = std::sync::OnceLock::new();

/// From now on, work that waits for peers has the threads of this runtime: a clock that is paused stands still as long as a
/// thread of its own runtime works. A second call does nothing.
#[cfg(feature = "testing")]
pub fn use_threads(runtime: tokio::runtime::Handle) {
    let _second = THREADS.set(runtime);
}

#[cfg(feature = "testing")]
fn threads() -> tokio::runtime::Handle {
    THREADS.get().cloned().unwrap_or_else(tokio::runtime::Handle::current)
}

fn watched<T: Send + 'static>(
    name: &'static str,
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send + 'static {
    async move {
        match AssertUnwindSafe(future).catch_unwind().await {
            Ok(value) => value,
            Err(panic) => {
                tracing::error!(task = name, panic = message(&*panic), "a task panicked");
                std::panic::resume_unwind(panic)
            }
        }
    }
    .in_current_span()
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Tasks with one owner: all are aborted when it is dropped.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
}

impl Tasks {
    /// No task yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts one more. What has ended is forgotten first.
    pub fn spawn(
        &mut self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> AbortHandle {
        while self.set.try_join_next().is_some() {}
        self.set.spawn(watched(name, future))
    }

    /// How many have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Waits until one ends; `None` when there is none.
    pub async fn join_next(&mut self) -> Option<()> {
        self.set.join_next().await.map(|_| ())
    }

    /// Waits until all have ended by themselves, aborts the rest after `deadline`. Whether none had to be aborted.
    pub async fn finish(&mut self, deadline: Duration) -> bool {
        let ended = async { while self.set.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(deadline, ended).await.is_ok();
        self.set.shutdown().await;
        in_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_panic_ends_its_own_task_only() {
        let failing = spawn("failing", async { panic!("on purpose") });
        assert!(failing.await.unwrap_err().is_panic());
        assert_eq!(spawn("fine", async { 7 }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn the_owner_ends_its_tasks() {
        let (sender, receiver) = oneshot::channel::<()>();
        let mut tasks = Tasks::new();
        tasks.spawn("holder", async move {
            let _sender = sender;
            std::future::pending::<()>().await;
        });
        drop(tasks);
        assert!(receiver.await.is_err(), "the task lives on");
    }

    #[tokio::test]
    async fn finishing_says_whether_all_ended() {
        let mut tasks = Tasks::new();
        tasks.spawn("short", async {});
        assert!(tasks.finish(Duration::from_secs(60)).await);
        tasks.spawn("endless", std::future::pending());
        assert!(!tasks.finish(Duration::from_millis(1)).await);
        assert!(tasks.is_empty());
    }
}
