//! One client that follows one plan, at its own pace.
use super::event_log::Next;
use super::{Plan, PlanEvent, View, locked};
use model::PlanId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a watcher that has seen everything waits for more than one event: a board's link carries few packets then.
const GATHER: Duration = Duration::from_millis(20);

/// Who knows where living plans are.
pub trait Snapshots {
    /// The state of a plan with the number of the newest event that is part of it; `None` when it has ended.
    fn snapshot(&self, plan: PlanId) -> impl Future<Output = Option<(u64, View)>> + Send;
}

/// Follows a plan. As long as it exists, the plan has a client.
#[derive(Debug)]
pub struct Watch {
    plan: Arc<Plan>,
    changed: watch::Receiver<u64>,
    /// The next number to tell; `None` when the plan's state must be told first.
    position: Option<u64>,
    /// The same for pieces of logs, if they are wanted.
    logs: Option<u64>,
}

impl Watch {
    pub(super) fn new(plan: Arc<Plan>, from_sequence: u64, logs: bool) -> Self {
        locked(&plan.presence).watchers += 1;
        let changed = plan.changed.subscribe();
        let (position, logs) = {
            let log = locked(&plan.log);
            (log.position(from_sequence), logs.then(|| log.log_position(from_sequence)))
        };
        Self { plan, changed, position, logs }
    }

    /// The next event with its number; `None` after the last one.
    pub async fn next(&mut self, snapshots: &impl Snapshots) -> Option<(u64, PlanEvent)> {
        loop {
            let Some(position) = self.position else { return self.state(snapshots).await };
            self.changed.borrow_and_update();
            let next = locked(&self.plan.log).next(position, self.logs);
            match next {
                Next::Event(number, event) => {
                    // A piece of a log may be older than what a state has told.
                    self.position = Some(position.max(number + 1));
                    self.logs = self.logs.map(|_| number + 1);
                    return Some((number, PlanEvent::clone(&event)));
                }
                Next::Behind => self.position = None,
                Next::End => return None,
                Next::Wait => {
                    // The sender lives in the plan, which this watch holds.
                    self.changed.changed().await.ok()?;
                    tokio::time::sleep(GATHER).await;
                }
            }
        }
    }

    async fn state(&mut self, snapshots: &impl Snapshots) -> Option<(u64, PlanEvent)> {
        let living = snapshots.snapshot(self.plan.id).await;
        let living = living.map(|(number, view)| (number, Arc::new(view)));
        let (number, view) = living.or_else(|| locked(&self.plan.log).view())?;
        self.position = Some(number + 1);
        Some((number, PlanEvent::Snapshot(view)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut presence = locked(&self.plan.presence);
        presence.watchers -= 1;
        presence.left = Instant::now();
    }
}
