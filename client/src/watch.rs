//! Following a plan: reconnects for ever, and goes on at the event after the last one seen.
use crate::event::PlanEvent;
use crate::log_positions::LogPositions;
use crate::rpc::{CallError, Coordinator, Events};
use model::PlanId;
use node::backoff::Backoff;

/// What there is to say about a plan.
#[derive(Debug)]
pub enum News {
    /// An event, none twice.
    Event(PlanEvent),
    /// The link dropped; the plan goes on.
    LinkLost(CallError),
    /// The link is back.
    LinkBack,
    /// Logs were followed, and the coordinator no longer has all of them: the next event does not follow the last one.
    LogMissed,
}

/// A plan being followed.
pub struct Watch {
    coordinator: Coordinator,
    plan: PlanId,
    logs: bool,
    cancel_when_left_s: u32,
    /// The next event that is news.
    next_sequence: u64,
    events: Option<Events>,
    /// What comes after a gap.
    after_gap: Option<PlanEvent>,
    log_positions: LogPositions,
    backoff: Backoff,
    was_lost: bool,
    /// Set after a failure: wait before the next attempt.
    must_wait: bool,
}

impl Watch {
    /// A plan from its beginning.
    pub fn new(coordinator: Coordinator, plan: PlanId, logs: bool) -> Self {
        Self {
            coordinator,
            plan,
            logs,
            cancel_when_left_s: 0,
            next_sequence: 0,
            events: None,
            after_gap: None,
            log_positions: LogPositions::default(),
            backoff: Backoff::for_connections(),
            was_lost: false,
            must_wait: false,
        }
    }

    /// For a plan that is nobody else's: the cluster cancels it when this client has been gone for so many seconds.
    #[must_use]
    pub fn cancelled_when_left(mut self, seconds: u32) -> Self {
        self.cancel_when_left_s = seconds;
        self
    }

    /// The next news. Fails when the coordinator refuses: it does not know the plan, or it is not ours.
    ///
    /// May be dropped at any moment: no event is lost.
    pub async fn next(&mut self) -> Result<News, CallError> {
        if let Some(event) = self.after_gap.take() {
            return Ok(News::Event(event));
        }
        loop {
            let Some(events) = &mut self.events else {
                if self.must_wait {
                    tokio::time::sleep(self.backoff.next_wait()).await;
                    self.must_wait = false;
                }
                let (from, patience) = (self.next_sequence, self.cancel_when_left_s);
                match self.coordinator.watch(self.plan, from, self.logs, patience).await {
                    Ok(events) => self.events = Some(events),
                    Err(error) => return self.lost(error),
                }
                if std::mem::take(&mut self.was_lost) {
                    return Ok(News::LinkBack);
                }
                continue;
            };
            match events.next().await {
                Ok(Some((sequence, mut event))) => {
                    self.backoff = Backoff::for_connections();
                    let is_old = sequence < self.next_sequence;
                    // Numbers leave nothing out but logs that are gone, or all that a snapshot tells instead.
                    let mut has_gap = self.next_sequence > 0 && sequence > self.next_sequence;
                    match &mut event {
                        PlanEvent::Snapshot { .. } => {
                            self.next_sequence = 0;
                            has_gap = false;
                        }
                        // A coordinator that started again tells logs from their beginning.
                        PlanEvent::Log { derivation, piece } => {
                            has_gap |= self.log_positions.take(derivation, piece);
                            if piece.text.is_empty() && !has_gap {
                                self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
                                continue;
                            }
                        }
                        _ if is_old => continue,
                        _ => {}
                    }
                    self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
                    if self.logs && has_gap {
                        self.after_gap = Some(event);
                        return Ok(News::LogMissed);
                    }
                    return Ok(News::Event(event));
                }
                Ok(None) => return self.lost(CallError::ended("follow the plan")),
                Err(error) => return self.lost(error),
            }
        }
    }

    fn lost(&mut self, error: CallError) -> Result<News, CallError> {
        self.events = None;
        self.must_wait = true;
        if error.is_link_lost() {
            self.was_lost = true;
            Ok(News::LinkLost(error))
        } else {
            Err(error)
        }
    }
}
