//! Executors that fail one attempt after another are set aside for a while; the way back is one task at a time, until one ends well.
use crate::arena::ExecutorIx;
use crate::{Effect, State, Timestamp};
use model::{Failure, FailureClass};

/// Attempts in a row that end by an executor's own trouble before it is set aside; on the way back one is enough.
const TROUBLES_MAX: u32 = 5;
/// Each time in a row is twice as long as the one before, up to so many times the first.
const LONGEST: u64 = 64;

/// How an executor did lately.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    /// Attempts in a row that ended by its own trouble.
    troubles: u32,
    /// It gets nothing until then.
    aside_until: Option<Timestamp>,
    /// How long it was set aside last, in milliseconds; 0 since something ended well.
    aside_ms: u64,
}

impl Conduct {
    /// Whether it may be given anything.
    pub(crate) fn is_set_aside(&self) -> bool {
        self.aside_until.is_some()
    }

    /// Whether it was set aside and has not done anything well since.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.aside_ms > 0
    }
}

impl State {
    /// An attempt ended well.
    pub(crate) fn did_well(&mut self, executor: ExecutorIx) {
        let conduct = &mut self.executors[executor].conduct;
        let was_on_trial = conduct.is_on_trial();
        *conduct = Conduct::default();
        if was_on_trial {
            self.executors_changed();
        }
    }

    /// An attempt ended by the executor's own trouble, perhaps.
    pub(crate) fn did_badly(&mut self, executor: ExecutorIx, failure: &Failure) {
        if failure.class != FailureClass::Infrastructure {
            return;
        }
        let first_ms = self.settings.set_aside_ms;
        let conduct = &mut self.executors[executor].conduct;
        conduct.troubles = conduct.troubles.saturating_add(1);
        let is_enough = conduct.troubles >= TROUBLES_MAX || conduct.is_on_trial();
        if !is_enough || conduct.is_set_aside() || first_ms == 0 {
            return;
        }
        conduct.aside_ms =
            conduct.aside_ms.saturating_mul(2).clamp(first_ms, first_ms.saturating_mul(LONGEST));
        conduct.aside_until = Some(Timestamp(self.now.0.saturating_add(conduct.aside_ms)));
        let for_ms = conduct.aside_ms;
        let executor = self.executors[executor].name.clone();
        self.out.push(Effect::SetAside { executor, for_ms, reason: failure.message.clone() });
        self.executors_changed();
    }

    /// Those whose time is over are tried again.
    pub(crate) fn end_quarantines(&mut self) {
        for place in self.executors.places() {
            let conduct = &mut self.executors[place].conduct;
            if conduct.aside_until.is_some_and(|until| until <= self.now) {
                conduct.aside_until = None;
                self.executors_changed();
            }
        }
    }
}
