//! Signals: Ctrl-C is a question to the user, SIGTERM and SIGHUP mean to leave the plan to the cluster.
use crate::ui::{Question, Ui};
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// What the user or the system wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// End the plan at the cluster.
    Cancel,
    /// Leave, and let the plan go on.
    Detach,
}

/// Signals being listened to.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    asked: Option<oneshot::Receiver<Question>>,
}

impl Interrupts {
    /// Begins to listen.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            asked: None,
        })
    }

    /// Waits for a wish. May be dropped at any moment; a question that was asked stays asked.
    pub async fn wish(&mut self, ui: &Ui) -> Wish {
        loop {
            let answer = async {
                match &mut self.asked {
                    Some(asked) => asked.await.unwrap_or(Question::Continue),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.terminate.recv() => return Wish::Detach,
                _ = self.hang_up.recv() => return Wish::Detach,
                _ = self.interrupt.recv() => {
                    // A second Ctrl-C, or nobody to ask: the plan is not wanted.
                    if self.asked.is_some() || !ui.is_interactive() {
                        return Wish::Cancel;
                    }
                    self.asked = Some(ui.ask());
                }
                answer = answer => {
                    self.asked = None;
                    match answer {
                        Question::Cancel => return Wish::Cancel,
                        Question::Detach => return Wish::Detach,
                        Question::Continue => {}
                    }
                }
            }
        }
    }
}
