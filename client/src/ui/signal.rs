//! The question at Ctrl-C.
use super::Ui;
use std::io::{self, BufRead, Write};
use tokio::sync::oneshot;

/// What the user answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// End the plan at the cluster.
    Cancel,
    /// Leave, and let the plan go on.
    Detach,
    /// Stay.
    Continue,
}

impl Ui {
    /// Asks what Ctrl-C was meant for. The answer comes when a line was typed; a second Ctrl-C is for the caller.
    pub fn ask(&self) -> oneshot::Receiver<Question> {
        #[cfg(feature = "progress")]
        let _gone_while_asking = self.state().bars.take().map(super::bars::Bars::end);
        let _ = write!(
            io::stderr(),
            "\nThe cluster goes on with the plan. [c]ancel it, [d]etach and leave it running, or go on watching? "
        );
        let (sender, receiver) = oneshot::channel();
        // A thread of its own: a read of the terminal cannot be interrupted, and must not delay the end.
        std::thread::spawn(move || {
            let mut line = String::new();
            let _end_of_input = io::stdin().lock().read_line(&mut line);
            let _nobody_waits = sender.send(match line.trim() {
                "c" | "cancel" => Question::Cancel,
                "d" | "detach" => Question::Detach,
                _ => Question::Continue,
            });
        });
        receiver
    }
}
