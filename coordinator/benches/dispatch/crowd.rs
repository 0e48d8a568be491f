//! Executors that build nothing: they take leases, wait, and report outputs; and the book of when each task came and went.
use crate::executor::{Executor, Session};
use crate::graph::Drv;
use crate::running::Coordinator;
use crate::shape::Plan;
use proto::v1;
use proto::v1::coordinator_message::Message as Order;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Tasks that one executor runs at once.
pub const SLOTS: u32 = 4;
/// As by default.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// A plan, and when what happened to each of its tasks, in nanoseconds since it began to be built.
pub struct Book {
    plan: Plan,
    positions: HashMap<String, usize>,
    began: Instant,
    leased: Vec<AtomicU64>,
    reported: Vec<AtomicU64>,
    acknowledged: AtomicUsize,
    all: Notify,
}

impl Book {
    pub fn new(plan: Plan) -> Self {
        let positions = plan.drvs.iter().enumerate().map(|(position, drv)| (drv.path.clone(), position));
        let times = || plan.drvs.iter().map(|_| AtomicU64::new(0)).collect();
        Self {
            positions: positions.collect(),
            began: Instant::now(),
            leased: times(),
            reported: times(),
            acknowledged: AtomicUsize::new(0),
            all: Notify::new(),
            plan,
        }
    }

    pub fn tasks_len(&self) -> usize {
        self.plan.drvs.len()
    }

    pub fn root(&self) -> &Drv {
        self.plan.drvs.last().unwrap()
    }

    pub fn derivations(&self) -> Vec<&Drv> {
        self.plan.drvs.iter().collect()
    }

    pub async fn all_acknowledged(&self) {
        self.all.notified().await;
    }

    fn note(&self, times: &[AtomicU64], position: usize) {
        times[position].store(u64::try_from(self.began.elapsed().as_nanos()).unwrap(), Ordering::Relaxed);
    }

    fn acknowledge(&self) {
        if self.acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == self.tasks_len() {
            self.all.notify_one();
        }
    }

    /// From the last report of a task's inputs to its lease, shortest first. Tasks without inputs are left out.
    pub fn waits(&self) -> Vec<Duration> {
        let wait = |position: usize| {
            let reported =
                self.plan.inputs[position].iter().map(|input| self.reported[*input].load(Ordering::Relaxed));
            let leased = self.leased[position].load(Ordering::Relaxed);
            Some(Duration::from_nanos(leased.saturating_sub(reported.max()?)))
        };
        let mut waits: Vec<Duration> = (0..self.tasks_len()).filter_map(wait).collect();
        waits.sort_unstable();
        waits
    }
}

/// What all executors work on now, and how long each task takes on average.
type Work = Arc<Mutex<Option<(Arc<Book>, Duration)>>>;

/// Executors that are connected.
pub struct Crowd {
    work: Work,
}

impl Crowd {
    /// So many, each with an empty store.
    pub async fn connect(coordinator: &Coordinator, executors: usize) -> Self {
        let work = Work::default();
        for number in 0..executors {
            let executor = Executor::new(coordinator, &format!("executor-{number:02}")).await;
            let session = executor.connect(coordinator).await;
            node::task::spawn("executor", run(executor, session, work.clone()));
        }
        Self { work }
    }

    /// From now on they build this.
    pub fn take(&self, book: &Arc<Book>, each: Duration) {
        *self.work.lock().unwrap() = Some((book.clone(), each));
    }
}

/// A lease with when it is to be reported.
struct Running {
    until: Instant,
    lease: v1::Lease,
    position: usize,
}

/// Until the coordinator is gone.
async fn run(executor: Executor, mut session: Session, work: Work) {
    let mut running: VecDeque<Running> = VecDeque::new();
    let mut heartbeats = tokio::time::interval(HEARTBEAT_INTERVAL);
    loop {
        let next = running.front().map(|running| running.until);
        let ended = async {
            match next {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = session.order() => {
                let Ok(order) = order else { return };
                let (book, each) = work.lock().unwrap().clone().unwrap();
                match order {
                    Order::Lease(lease) => take(&book, each, lease, &mut running),
                    Order::Acknowledge(_) => book.acknowledge(),
                    other => panic!("unexpected: {other:?}"),
                }
            }
            () = ended => {
                let (book, _) = work.lock().unwrap().clone().unwrap();
                let Some(Running { lease, position, .. }) = running.pop_front() else { continue };
                let output = output(&executor, &book.plan, position);
                book.note(&book.reported, position);
                session.built(&lease, vec![output]).await;
            }
            _ = heartbeats.tick() => {
                session.heartbeat(&running.iter().map(|running| &running.lease).collect::<Vec<_>>()).await;
            }
        }
    }
}

/// Takes between half and one and a half times the average.
fn take(book: &Book, each: Duration, lease: v1::Lease, running: &mut VecDeque<Running>) {
    let position = book.positions[&lease.derivation.as_ref().unwrap().path];
    book.note(&book.leased, position);
    let part = u32::try_from(position.wrapping_mul(0x9e37_79b9) % 1000).unwrap();
    let until = Instant::now() + each * (500 + part) / 1000;
    let at = running.partition_point(|other| other.until <= until);
    running.insert(at, Running { until, lease, position });
}

fn output(executor: &Executor, plan: &Plan, position: usize) -> v1::BuiltOutput {
    let drv = &plan.drvs[position];
    let mut output = executor.make(drv, "shared", drv.path.as_bytes());
    let references = plan.references[position].iter().map(|reference| plan.drvs[*reference].out.clone());
    output.info.as_mut().unwrap().references = references.collect();
    output.info.as_mut().unwrap().references.sort();
    output
}
