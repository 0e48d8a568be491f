//! Times dispatches over the real stack: the coordinator's program with its journal on disk, fifty executors that are real clients
//! of the Work service over mTLS on loopback and build nothing, and a board that submits one plan and watches it.
//!
//! Prints a line each: name, our figure, the goal, the largest ratio that is promised. More, for people, on standard error.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing benchmark")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark talks to the person that started it"
)]

#[path = "../../tests/cluster/board.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod board;
mod crowd;
#[path = "../../tests/cluster/executor.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod executor;
#[path = "../../tests/content/graph.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod graph;
mod running;
mod shape;

use crowd::{Book, Crowd};
use running::Coordinator;
use shape::Plan;
use std::sync::Arc;
use std::time::{Duration, Instant};

const EXECUTORS: usize = 50;
/// Chains of the second plan: half of the slots.
const CHAINS: usize = EXECUTORS * crowd::SLOTS as usize / 2;
const STEPS: usize = 100;

fn main() {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(measure());
}

async fn measure() {
    let coordinator = Coordinator::start().await;
    let crowd = Crowd::connect(&coordinator, EXECUTORS).await;
    let board = board::Board::new(&coordinator, "board").await;
    // As fast as it goes: wide and deep, and tasks that take no time.
    let (book, elapsed) = build(&coordinator, &crowd, board, Plan::mixed(), Duration::ZERO).await;
    let tasks = f64::from(u32::try_from(book.tasks_len()).unwrap());
    let thousand_s = 1000.0 * elapsed.as_secs_f64() / tasks;
    println!("1,000 tasks leased, reported, acknowledged over gRPC (peer: the goal)\t{thousand_s}\t1\t1");
    // Half of that, on half of the slots: what an executor waits for the next task of a chain.
    let board = board::Board::new(&coordinator, "board-2").await;
    let chains = f64::from(u32::try_from(CHAINS).unwrap());
    let each = Duration::from_secs_f64(chains * 2.0 * thousand_s / 1000.0);
    let (book, _) = build(&coordinator, &crowd, board, Plan::chains(CHAINS, STEPS), each).await;
    let waits = book.waits();
    let percentile = |hundredth: usize| waits[(waits.len() - 1) * hundredth / 100].as_secs_f64();
    let (p50, p99) = (percentile(50), percentile(99));
    println!(
        "from the last input's report to the lease, half the load, p50 (peer: the goal)\t{p50}\t0.01\t1"
    );
    println!("from the last input's report to the lease, half the load, p99 (peer: the goal)\t{p99}\t0.1\t1");
}

/// Has a plan built by executors that take so long for each task, more or less.
async fn build(
    coordinator: &Coordinator,
    crowd: &Crowd,
    mut board: board::Board,
    plan: Plan,
    each: Duration,
) -> (Arc<Book>, Duration) {
    let book = Arc::new(Book::new(plan));
    crowd.take(&book, each);
    let (before, submitted) = (coordinator.processor_time(), Instant::now());
    let admitted = board.submit(book.root(), &book.derivations()).await;
    let started = Instant::now();
    let watch = board.watch(&admitted.plan_id, 0, true).await.unwrap();
    book.all_acknowledged().await;
    let elapsed = started.elapsed();
    let used = coordinator.processor_time() - before;
    let finished = watch.finished().await;
    assert!(finished.succeeded, "{finished:?}");
    let tasks = f64::from(u32::try_from(book.tasks_len()).unwrap());
    eprintln!(
        "{tasks} tasks: submitted in {:.2?}, built in {elapsed:.2?}, {:.0} a second; the coordinator's processor time {used:.2?}",
        started - submitted,
        tasks / elapsed.as_secs_f64(),
    );
    (book, elapsed)
}
