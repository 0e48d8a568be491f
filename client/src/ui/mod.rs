//! What people see: the only part of the client that prints. Results go to standard output, all else to standard error.

#[cfg(feature = "progress")]
mod bars;
mod log;
mod signal;
pub mod text;

pub use log::Lines;
pub use signal::Question;

use crate::event::{PlanEvent, TaskChange, TaskState};
use crate::progress::Progress;
use crate::submit::Admitted;
use model::StorePath;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How to talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UiOptions {
    /// Build logs as they come.
    pub logs: bool,
    /// Errors and results only.
    pub quiet: bool,
    /// Never a display that moves.
    pub plain: bool,
    /// Standard error goes to a Nix, which shows its user lines of this kind only.
    pub for_nix: bool,
}

/// Hears, line by line, what a user would see.
pub type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// Talks to the user. Clones share the display.
#[derive(Clone)]
pub struct Ui {
    options: UiOptions,
    listener: Option<Listener>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    link_is_lost: bool,
    logs: Lines,
    paths_total: usize,
    paths_done: usize,
    #[cfg(feature = "progress")]
    bars: Option<bars::Bars>,
}

impl Ui {
    /// A display where standard error is a terminal, plain lines otherwise.
    pub fn new(options: UiOptions) -> Self {
        #[cfg_attr(not(feature = "progress"), expect(unused_mut, reason = "for the display"))]
        let mut state = State::default();
        #[cfg(feature = "progress")]
        if io::stderr().is_terminal() && !options.plain && !options.quiet {
            state.bars = bars::Bars::new();
        }
        Self { options, listener: None, state: Arc::new(Mutex::new(state)) }
    }

    /// Talks to a listener instead of the user.
    pub fn to(listener: Listener, options: UiOptions) -> Self {
        Self { options, listener: Some(listener), state: Arc::default() }
    }

    /// Whether someone can be asked.
    pub fn is_interactive(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to standard error, above the display.
    fn line(&self, text: &str) {
        if let Some(listener) = &self.listener {
            return listener(text);
        }
        #[cfg(feature = "progress")]
        if let Some(bars) = &self.state().bars {
            bars.above(text);
            return;
        }
        // A closed standard error is no reason to stop.
        let _ = if self.options.for_nix {
            writeln!(io::stderr(), "{}", text::for_nix(text))
        } else {
            writeln!(io::stderr(), "{text}")
        };
    }

    /// Something worth knowing.
    pub fn note(&self, text: &str) {
        if !self.options.quiet {
            self.line(text);
        }
    }

    /// The error that ends the command, with its causes.
    pub fn error(&self, error: &(dyn Error + 'static)) {
        self.end_display();
        self.line(&text::error(&node::exit::chain(error)));
    }

    /// The plan belongs to the cluster.
    pub fn admitted(&self, admitted: &Admitted) {
        self.note(&text::admitted(admitted));
        #[cfg(feature = "progress")]
        if let Some(bars) = &mut self.state().bars {
            bars.tasks_total = admitted.tasks_total.into();
        }
    }

    /// An event, after `progress` has taken it in.
    pub fn event(&self, event: &PlanEvent, progress: &Progress) {
        match event {
            PlanEvent::Task(task) => self.task(task),
            PlanEvent::Log { derivation, piece } if self.options.logs => {
                let whole = self.state().logs.push(derivation, &piece.text);
                self.log(derivation, &whole);
            }
            PlanEvent::Waiting(waiting) => self.line(&text::waiting(waiting)),
            PlanEvent::Snapshot { tasks, waiting, .. } => {
                waiting.iter().for_each(|waiting| self.line(&text::waiting(waiting)));
                tasks.iter().for_each(|task| self.failed(task));
            }
            PlanEvent::Finished(finished) => self.note(&text::finished(finished)),
            PlanEvent::Log { .. } | PlanEvent::Root(_) => {}
        }
        #[cfg(feature = "progress")]
        if let Some(bars) = &mut self.state().bars {
            bars.show(event, progress);
        }
    }

    /// Logs came faster than the link could carry them.
    pub fn log_missed(&self) {
        self.note(text::LOG_MISSED);
    }

    fn log(&self, derivation: &StorePath, text: &[u8]) {
        text::log_lines(derivation, text).iter().for_each(|line| self.line(line));
    }

    fn task(&self, task: &TaskChange) {
        if task.state != TaskState::Running {
            let rest = self.state().logs.end(&task.derivation);
            self.log(&task.derivation, &rest);
        }
        if let Some(line) = text::task(task) {
            self.note(&line);
        }
        self.failed(task);
    }

    fn failed(&self, task: &TaskChange) {
        if let Some(text) = text::failure(task, !self.options.logs) {
            self.line(&text);
        }
    }

    /// A derivation that was not tried.
    pub fn failed_dependent(&self, text: &str) {
        self.line(text);
    }

    /// Most memory that this process ever had.
    pub fn memory(&self, kilobytes: Option<u64>) {
        if let Some(kilobytes) = kilobytes {
            self.line(&format!("VmHWM: {kilobytes} kB"));
        }
    }

    /// The link dropped. Said once until something comes again.
    pub fn link_lost(&self, error: &(dyn Error + 'static)) {
        if !std::mem::replace(&mut self.state().link_is_lost, true) {
            let chain = node::exit::chain(error);
            self.line(&format!(
                "the link to the cluster is lost ({chain}); the plan goes on, trying to reach it again"
            ));
        }
    }

    /// The link is back.
    pub fn link_back(&self) {
        if std::mem::take(&mut self.state().link_is_lost) {
            self.line("the link to the cluster is back");
        }
    }

    /// A source is about to go up.
    pub fn upload_begins(&self, path: &StorePath, bytes: u64) {
        self.note(&format!("uploading '{path}' ({})", text::size(bytes)));
    }

    /// So many paths of so many bytes are about to come down.
    pub fn import_begins(&self, paths: usize, bytes: u64) {
        if paths > 0 {
            self.note(&text::import(paths, bytes));
        }
        let state = &mut *self.state();
        state.paths_total += paths;
        #[cfg(feature = "progress")]
        if let Some(bars) = &mut state.bars {
            bars.import_begins(bytes);
        }
    }

    /// A path is about to come down.
    pub fn path_begins(&self, path: &StorePath, bytes: u64) {
        self.note(&format!("copying path '{path}' ({}) from the cluster...", text::size(bytes)));
    }

    /// A path is in the store.
    pub fn path_ends(&self, _path: &StorePath) {
        self.state().paths_done += 1;
    }

    /// Bytes of a NAR moved: the link works.
    pub fn bytes_moved(&self, bytes: u64) {
        self.link_back();
        #[cfg(feature = "progress")]
        if let Some(bars) = &mut self.state().bars {
            bars.bytes_moved(bytes);
        }
        #[cfg(not(feature = "progress"))]
        let _ = bytes;
    }

    /// Takes the display away.
    pub fn end_display(&self) {
        #[cfg(feature = "progress")]
        if let Some(bars) = self.state().bars.take() {
            bars.end();
        }
    }

    /// The results, one path a line, on standard output.
    pub fn paths<'a>(&self, paths: impl Iterator<Item = &'a StorePath>) -> io::Result<()> {
        paths.map(StorePath::as_str).try_for_each(|path| self.result(path))
    }

    /// A text that was asked for, on standard output.
    pub fn result(&self, text: &str) -> io::Result<()> {
        self.end_display();
        if let Some(listener) = &self.listener {
            listener(text);
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }
}
