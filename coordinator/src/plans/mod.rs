//! Every plan that somebody may watch: its events, its watchers, the logs of its tasks. The engine writes, calls read.
mod event;
mod event_log;
mod task_logs;
mod watch;

pub use event::{PlanEvent, TaskView, View};
pub use watch::{Snapshots, Watch};

use bytes::Bytes;
use event_log::EventLog;
use model::{ExecutorName, PlanId, TaskId};
use scheduler::{AvailableRoot, LeaseKey, News, Snapshot, TASKS_TOLD_MAX, TaskChange, TaskState};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
pub use task_logs::Piece;
use task_logs::TaskLogs;
use tokio::sync::watch as changes;
use tokio::time::Instant;

/// Who asks about a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Viewer<'a> {
    /// A board: its own plans.
    Board(&'a str),
    /// Whoever looks after the cluster: all plans.
    Admin,
}

/// One plan.
#[derive(Debug)]
struct Plan {
    id: PlanId,
    board: Arc<str>,
    log: Mutex<EventLog>,
    /// Number of the newest event.
    changed: changes::Sender<u64>,
    presence: Mutex<Presence>,
}

/// Whether a client is there.
#[derive(Debug)]
struct Presence {
    watchers: usize,
    /// When the last one left.
    left: Instant,
    /// Waited for clients for so long; `None` as long as for any other plan.
    patience: Option<Duration>,
}

#[derive(Debug, Default)]
struct Book {
    plans: HashMap<PlanId, Arc<Plan>>,
    /// Tasks of living plans.
    tasks: HashMap<PlanId, Vec<Arc<[TaskId]>>>,
    /// Living plans by task.
    wanting: HashMap<TaskId, Vec<PlanId>>,
    logs: TaskLogs,
}

/// All plans; clones share them.
#[derive(Clone, Debug)]
pub struct Plans {
    book: Arc<Mutex<Book>>,
    /// Events of this run have numbers above it, those of earlier runs have not.
    base: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plans {
    /// No plan yet. `run` counts the starts of the coordinator.
    pub fn new(run: u64) -> Self {
        Self { book: Arc::default(), base: run.saturating_sub(1) << 32 }
    }

    /// A plan with so many tasks begins to be watchable; `is_new` unless it comes from the journal.
    pub fn begin(&self, id: PlanId, board: &Arc<str>, tasks_len: usize, is_new: bool) {
        let plan = Plan {
            id,
            board: board.clone(),
            log: Mutex::new(EventLog::new(self.base, is_new && tasks_len <= TASKS_TOLD_MAX)),
            changed: changes::Sender::new(self.base),
            presence: Mutex::new(Presence { watchers: 0, left: Instant::now(), patience: None }),
        };
        locked(&self.book).plans.insert(id, Arc::new(plan));
    }

    /// Some of a plan's tasks.
    pub fn want(&self, id: PlanId, tasks: Arc<[TaskId]>, is_new: bool) {
        let mut book = locked(&self.book);
        let Some(plan) = book.plans.get(&id).cloned() else { return };
        for task in &*tasks {
            book.wanting.entry(task.clone()).or_default().push(id);
            // Another plan has it built already.
            let so_far = book.logs.so_far(task);
            if is_new && !so_far.text.is_empty() {
                let event = PlanEvent::Log { derivation: task.path.clone(), piece: so_far };
                plan.change(|log| log.push_log(event));
            }
        }
        book.tasks.entry(id).or_default().push(tasks);
    }

    /// Tells the watchers of a plan.
    pub fn tell(&self, id: PlanId, news: News) {
        let mut book = locked(&self.book);
        let Some(plan) = book.plans.get(&id).cloned() else { return };
        let event = match news {
            News::Task(change) => {
                if change.state == TaskState::Running {
                    book.logs.running(&change);
                }
                let rest = book.logs.told(&change);
                book.say(&change.task, &rest);
                PlanEvent::Task(book.task_view(change))
            }
            News::RootAvailable { task, output, path } => {
                PlanEvent::Root(AvailableRoot { task, output, path })
            }
            News::Waiting(waiting) => PlanEvent::Waiting(waiting),
            News::Finished(summary) => {
                book.end(id);
                PlanEvent::Finished(summary)
            }
        };
        plan.change(|log| log.push(event));
    }

    /// Keeps the last state of a plan that is about to end.
    pub fn keep(&self, id: PlanId, last: Snapshot) {
        let book = locked(&self.book);
        let view = book.view(last);
        if let Some(plan) = book.plans.get(&id) {
            locked(&plan.log).keep(view);
        }
    }

    /// A living plan's state as watchers see it, with the number of its newest event.
    pub fn view(&self, id: PlanId, snapshot: Snapshot) -> Option<(u64, View)> {
        let book = locked(&self.book);
        let plan = book.plans.get(&id)?;
        let last = locked(&plan.log).last();
        Some((last, book.view(snapshot)))
    }

    /// A lease speaks for a task from now on, if a living plan wants that.
    pub fn leased(&self, lease: LeaseKey, executor: &ExecutorName, task: &TaskId) {
        let mut book = locked(&self.book);
        if book.wanting.contains_key(task) {
            book.logs.leased(lease, executor, task);
        }
    }

    /// A second lease of a task, which speaks only if it is the first to end, or the other is lost.
    pub fn leased_second(&self, lease: LeaseKey, executor: &ExecutorName, task: &TaskId) {
        let mut book = locked(&self.book);
        if book.wanting.contains_key(task) {
            book.logs.leased_second(lease, executor, task);
        }
    }

    /// An executor's lease is over.
    pub fn released(&self, lease: LeaseKey, executor: &ExecutorName) {
        locked(&self.book).logs.released(lease, executor);
    }

    /// A task failed for good; gives the end of its log.
    pub fn failed(&self, task: &TaskId) -> Arc<[u8]> {
        locked(&self.book).logs.failed(task)
    }

    /// The end of a log that an earlier run has recorded.
    pub fn restore_tail(&self, task: &TaskId, tail: Arc<[u8]>) {
        locked(&self.book).logs.restore(task, tail);
    }

    /// What an executor says about its lease, its log up to `end` (0: nobody counts): for those who follow the logs of plans that want its task. Of a lease that does
    /// not count, nothing.
    pub fn progress(
        &self,
        executor: &ExecutorName,
        lease: LeaseKey,
        phase: Option<&str>,
        (end, text): (u64, Bytes),
    ) {
        let mut book = locked(&self.book);
        let Some(task) = book.logs.task(lease, executor).cloned() else { return };
        let Some(piece) = book.logs.append(lease, &task, end, text) else { return };
        if let Some(change) = phase.and_then(|phase| book.logs.enter(&task, phase)) {
            let event = PlanEvent::Task(book.task_view(change));
            for plan in book.wanting(&task) {
                plan.change(|log| log.push_log(event.clone()));
            }
        }
        book.say(&task, &piece);
    }

    /// Plans without a client for so long, or for as long as their last client wanted to be waited for.
    pub fn abandoned(&self, after: Duration) -> Vec<PlanId> {
        let book = locked(&self.book);
        let is_abandoned = |plan: &Plan| {
            let presence = locked(&plan.presence);
            let after = presence.patience.map_or(after, |patience| patience.min(after));
            presence.watchers == 0 && presence.left.elapsed() >= after
        };
        book.plans.values().filter(|plan| is_abandoned(plan)).map(|plan| plan.id).collect()
    }

    /// Nobody can watch a plan any more.
    pub fn forget(&self, id: PlanId) {
        let mut book = locked(&self.book);
        book.end(id);
        book.plans.remove(&id);
    }

    /// Whether a plan is there for someone.
    pub fn is_visible(&self, id: PlanId, viewer: Viewer<'_>) -> bool {
        self.find(id, viewer).is_some()
    }

    /// Begins to watch a plan, if it is there for the viewer. From now on a client is there; when it has left, it is
    /// waited for with this patience.
    pub fn watch(
        &self,
        id: PlanId,
        viewer: Viewer<'_>,
        from_sequence: u64,
        logs: bool,
        patience: Option<Duration>,
    ) -> Option<Watch> {
        let plan = self.find(id, viewer)?;
        self.be_patient(id, patience);
        Some(Watch::new(plan, from_sequence, logs))
    }

    /// How long a plan goes on without anybody who watches, beside the coordinator's own patience.
    pub fn be_patient(&self, id: PlanId, patience: Option<Duration>) {
        if let Some(plan) = locked(&self.book).plans.get(&id) {
            locked(&plan.presence).patience = patience;
        }
    }

    fn find(&self, id: PlanId, viewer: Viewer<'_>) -> Option<Arc<Plan>> {
        let plan = locked(&self.book).plans.get(&id).cloned()?;
        let may_see = match viewer {
            Viewer::Admin => true,
            Viewer::Board(board) => *plan.board == *board,
        };
        may_see.then_some(plan)
    }
}

impl Book {
    fn wanting(&self, task: &TaskId) -> impl Iterator<Item = &Arc<Plan>> {
        self.wanting.get(task).into_iter().flatten().filter_map(|id| self.plans.get(id))
    }

    /// Next bytes of a task's log, for those who follow the logs of plans that want it.
    fn say(&self, task: &TaskId, piece: &Piece) {
        for plan in self.wanting(task).filter(|_| !piece.text.is_empty()) {
            let event = PlanEvent::Log { derivation: task.path.clone(), piece: piece.clone() };
            plan.change(|log| log.push_log(event));
        }
    }

    fn task_view(&self, change: TaskChange) -> TaskView {
        let (mut phase, mut log_tail) = (Arc::default(), Arc::default());
        match change.state {
            TaskState::Running => phase = self.logs.phase(&change.task),
            TaskState::Failed => log_tail = self.logs.tail(&change.task),
            _ => {}
        }
        TaskView { change, phase, log_tail }
    }

    fn view(&self, snapshot: Snapshot) -> View {
        let tasks = snapshot.tasks.into_iter().map(|change| self.task_view(change)).collect();
        View { tasks, roots: snapshot.roots, waiting: snapshot.waiting }
    }

    /// The plan wants no task any more.
    fn end(&mut self, id: PlanId) {
        for task in self.tasks.remove(&id).iter().flatten().flat_map(|tasks| &**tasks) {
            let Some(wanting) = self.wanting.get_mut(task) else { continue };
            wanting.retain(|other| *other != id);
            if wanting.is_empty() {
                self.wanting.remove(task);
                self.logs.forget(task);
            }
        }
    }
}

impl Plan {
    fn change(&self, change: impl FnOnce(&mut EventLog)) {
        let last = {
            let mut log = locked(&self.log);
            change(&mut log);
            log.last()
        };
        self.changed.send_replace(last);
    }
}
