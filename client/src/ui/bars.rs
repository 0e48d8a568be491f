//! The display on a terminal: one line for the builds, one for the bytes.
use super::text;
use crate::event::{PlanEvent, TaskState};
use crate::progress::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use model::StorePath;
use std::time::Duration;

/// Names of running builds that fit on a line.
const NAMES_SHOWN_MAX: usize = 4;

pub(super) struct Bars {
    all: MultiProgress,
    builds: ProgressBar,
    bytes: ProgressBar,
    running: Vec<StorePath>,
    pub(super) tasks_total: u64,
}

impl Bars {
    /// Nothing on a terminal that cannot move its cursor: what is printed above a hidden display is lost.
    pub(super) fn new() -> Option<Self> {
        let all = MultiProgress::new();
        if all.is_hidden() {
            return None;
        }
        let style = |template| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let builds = all.add(ProgressBar::new_spinner()).with_style(style("{spinner} {wide_msg}"));
        builds.enable_steady_tick(Duration::from_millis(250));
        let bytes = all.add(ProgressBar::new(0));
        bytes.set_style(style("  {bytes}/{total_bytes} {bytes_per_sec} {wide_bar}"));
        Some(Self { all, builds, bytes, running: Vec::new(), tasks_total: 0 })
    }

    pub(super) fn above(&self, line: &str) {
        if self.all.println(line).is_err() {
            self.builds.suspend(|| drop(std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes())));
        }
    }

    pub(super) fn show(&mut self, event: &PlanEvent, progress: &Progress) {
        if let PlanEvent::Task(task) = event {
            self.running.retain(|known| *known != task.derivation);
            if task.state == TaskState::Running {
                self.running.push(task.derivation.clone());
            }
        }
        let done = progress.count(TaskState::Done);
        let failed = progress.count(TaskState::Failed);
        let total = self.tasks_total.max(progress.tasks_known() as u64);
        let names: Vec<&str> = self.running.iter().take(NAMES_SHOWN_MAX).map(text::name).collect();
        let mut line = format!("{done}/{total} built, {} running", self.running.len());
        if failed > 0 {
            line.push_str(&format!(", {failed} failed"));
        }
        if !names.is_empty() {
            line.push_str(&format!(": {}", names.join(", ")));
        }
        self.builds.set_message(line);
    }

    pub(super) fn import_begins(&self, bytes: u64) {
        self.bytes.inc_length(bytes);
    }

    pub(super) fn bytes_moved(&self, bytes: u64) {
        self.bytes.inc(bytes);
    }

    pub(super) fn end(self) {
        self.bytes.finish_and_clear();
        self.builds.finish_and_clear();
    }
}
