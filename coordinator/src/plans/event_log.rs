//! The numbered events of one plan, a bounded number of them, and where a watcher is among them. Pure.
use super::event::{PlanEvent, View};
use std::collections::VecDeque;
use std::sync::Arc;

/// Events that are kept of a living plan; who is further behind gets a snapshot.
const EVENTS_KEPT_MAX: usize = 4_096;
/// Events that are kept of an ended plan.
const EVENTS_KEPT_ENDED_MAX: usize = 64;
/// Bytes of build logs that are kept of a plan; who is further behind misses some.
const LOG_BYTES_KEPT_MAX: usize = 256 << 10;
/// What a piece of a log, or a phase, counts at least, in bytes.
const LOG_PIECE_BYTES: usize = 256;

type Numbered = (u64, Arc<PlanEvent>);

/// The events of one plan.
#[derive(Debug)]
pub(super) struct EventLog {
    /// Number below the first event of this run of the coordinator.
    base: u64,
    /// Number of the newest event; before the first one, the number below it.
    last: u64,
    /// Number of the newest event that is gone, logs aside.
    gone: u64,
    /// Whether everything from the plan's beginning is here.
    is_whole: bool,
    events: VecDeque<Numbered>,
    logs: VecDeque<Numbered>,
    log_bytes: usize,
    /// The plan's last state, once it has ended.
    view: Option<Arc<View>>,
}

/// What a watcher gets.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// An event with its number.
    Event(u64, Arc<PlanEvent>),
    /// What happened is no longer kept: it needs the plan's state.
    Behind,
    /// Nothing yet.
    Wait,
    /// Nothing any more.
    End,
}

impl EventLog {
    /// The log of a plan whose first event is the one after `base`; `is_new` when there were none in an earlier run.
    pub(super) fn new(base: u64, is_new: bool) -> Self {
        Self {
            base,
            last: base,
            gone: base,
            is_whole: is_new,
            events: VecDeque::new(),
            logs: VecDeque::new(),
            log_bytes: 0,
            view: None,
        }
    }

    /// Number of the newest event.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The plan's state for a watcher that is behind, and its number; only once the plan has ended.
    pub(super) fn view(&self) -> Option<(u64, Arc<View>)> {
        // The last event, which says that the plan ended, is not part of the state.
        let number = if self.is_finished() { self.last.saturating_sub(1) } else { self.last };
        self.view.clone().map(|view| (number, view))
    }

    /// Keeps the plan's last state.
    pub(super) fn keep(&mut self, view: View) {
        self.view = Some(Arc::new(view));
    }

    /// Adds an event.
    pub(super) fn push(&mut self, event: PlanEvent) {
        self.last += 1;
        let is_last = matches!(event, PlanEvent::Finished(_));
        self.events.push_back((self.last, Arc::new(event)));
        let kept_max = if is_last { EVENTS_KEPT_ENDED_MAX } else { EVENTS_KEPT_MAX };
        while self.events.len() > kept_max
            && let Some((number, _)) = self.events.pop_front()
        {
            self.gone = number;
            self.is_whole = false;
        }
    }

    /// Adds an event that is only for those who follow the logs: a piece of one, or another phase.
    pub(super) fn push_log(&mut self, event: PlanEvent) {
        self.last += 1;
        self.log_bytes += size(&event);
        self.logs.push_back((self.last, Arc::new(event)));
        while self.log_bytes > LOG_BYTES_KEPT_MAX
            && let Some((_, oldest)) = self.logs.pop_front()
        {
            self.log_bytes -= size(&oldest);
        }
    }

    /// Where a watcher begins that asks for a number; `None` when it needs the plan's state first.
    pub(super) fn position(&self, from: u64) -> Option<u64> {
        let is_from_beginning = from <= self.gone;
        if is_from_beginning && self.is_whole {
            return Some(self.gone + 1);
        }
        // A number that was never used is of another journal.
        (from > self.gone && from <= self.last + 1).then_some(from)
    }

    /// Where a watcher begins in the logs: who comes with a number of an earlier run may have missed any of them, and knows what it
    /// has seen by the pieces themselves.
    pub(super) fn log_position(&self, from: u64) -> u64 {
        if from > self.base && from <= self.last + 1 { from } else { 0 }
    }

    /// The first event at or after a position, or piece of a log at or after another, for those who follow logs.
    pub(super) fn next(&self, position: u64, logs: Option<u64>) -> Next {
        if position <= self.gone {
            return Next::Behind;
        }
        let event = first_from(&self.events, position);
        let log = logs.and_then(|position| first_from(&self.logs, position));
        let next = match (event, log) {
            (Some(event), Some(log)) => Some(if event.0 < log.0 { event } else { log }),
            (event, log) => event.or(log),
        };
        match next {
            Some((number, event)) => Next::Event(*number, event.clone()),
            None if self.is_finished() => Next::End,
            None => Next::Wait,
        }
    }

    fn is_finished(&self) -> bool {
        self.events.back().is_some_and(|(_, event)| matches!(**event, PlanEvent::Finished(_)))
    }
}

fn size(event: &PlanEvent) -> usize {
    LOG_PIECE_BYTES + if let PlanEvent::Log { piece, .. } = event { piece.text.len() } else { 0 }
}

fn first_from(events: &VecDeque<Numbered>, position: u64) -> Option<&Numbered> {
    events.get(events.partition_point(|(number, _)| *number < position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::StorePath;
    use scheduler::PlanSummary;

    fn log(text: &'static [u8]) -> PlanEvent {
        let piece = super::super::Piece { text: text.into(), ..Default::default() };
        PlanEvent::Log { derivation: StorePath::from_validated("/nix/store/x.drv"), piece }
    }

    fn root(number: usize) -> PlanEvent {
        PlanEvent::root_for_tests(number)
    }

    /// Numbers that a watcher sees from a position on, and how it ends.
    fn seen(events: &EventLog, from: u64, logs: bool) -> (Vec<u64>, Next) {
        let mut numbers = Vec::new();
        let mut position = from;
        loop {
            match events.next(position, logs.then_some(position)) {
                Next::Event(number, _) => {
                    numbers.push(number);
                    position = number + 1;
                }
                other => return (numbers, other),
            }
        }
    }

    #[test]
    fn numbers_go_on_and_logs_are_for_those_who_asked() {
        let mut events = EventLog::new(100, true);
        assert_eq!(events.position(0), Some(101));
        assert_eq!(events.next(101, Some(101)), Next::Wait);
        events.push(root(1));
        events.push_log(log(b"text"));
        events.push(root(2));
        assert_eq!(seen(&events, 101, true), (vec![101, 102, 103], Next::Wait));
        assert_eq!(seen(&events, 101, false), (vec![101, 103], Next::Wait));
        assert_eq!(events.position(102), Some(102));
        assert_eq!(events.position(104), Some(104));
        assert_eq!(events.position(105), None, "never used");
    }

    #[test]
    fn what_is_gone_is_answered_by_the_state() {
        let mut events = EventLog::new(0, true);
        for number in 0..=EVENTS_KEPT_MAX {
            events.push(root(number));
        }
        assert_eq!((events.position(0), events.position(1)), (None, None));
        assert_eq!(events.position(2), Some(2));
        assert_eq!(events.next(1, None), Next::Behind);
        assert_eq!(seen(&events, 2, false).0.len(), EVENTS_KEPT_MAX);
    }

    #[test]
    fn a_flood_of_logs_costs_no_event() {
        let mut events = EventLog::new(0, true);
        events.push(root(1));
        for _ in 0..40 {
            events.push_log(log(&[b'x'; 16 << 10]));
        }
        events.push(root(2));
        let (numbers, _) = seen(&events, 1, true);
        let kept = LOG_BYTES_KEPT_MAX / (LOG_PIECE_BYTES + (16 << 10));
        assert_eq!((numbers[0], numbers.len()), (1, 2 + kept));
        assert_eq!(seen(&events, 1, false).0, [1, 42]);
    }

    #[test]
    fn who_comes_from_an_earlier_run_is_told_the_logs_from_their_beginning() {
        let mut events = EventLog::new(1 << 32, false);
        events.push_log(log(b"text"));
        events.push(root(1));
        let last = (1 << 32) + 2;
        let positions = [0, 17, 1 << 32, (1 << 32) + 1, last + 1, last + 2];
        assert_eq!(positions.map(|from| events.log_position(from)), [0, 0, 0, (1 << 32) + 1, last + 1, 0]);
        let Next::Event(number, event) = events.next(last + 1, Some(0)) else { panic!("no log") };
        assert_eq!((number, &*event), ((1 << 32) + 1, &log(b"text")));
        assert_eq!(events.next(last + 1, Some(number + 1)), Next::Wait);
    }

    #[test]
    fn an_ended_plan_of_an_earlier_run_is_a_state_and_its_end() {
        let mut events = EventLog::new(1 << 32, false);
        events.keep(View::default());
        events.push(PlanEvent::Finished(PlanSummary::default()));
        for from in [0, 1, 17, 1 << 32] {
            assert_eq!(events.position(from), None, "{from}");
        }
        let (number, _) = events.view().unwrap();
        assert_eq!(number, 1 << 32);
        assert_eq!(seen(&events, number + 1, true), (vec![number + 1], Next::End));
    }
}
