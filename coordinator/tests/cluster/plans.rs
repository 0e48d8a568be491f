//! Plans: watching from a number on, logs and phases, failures with the end of their logs, cancellation, abandonment.
use crate::board::Board;
use crate::executor::Executor;
use crate::graph::drv;
use crate::running::{Coordinator, soon};
use proto::v1;
use proto::v1::coordinator_message::Message as Order;
use proto::v1::plan_event::Event;
use std::time::Duration;
use tonic::Code;

#[tokio::test]
async fn a_watch_goes_on_where_another_ended() {
    let coordinator = Coordinator::start("").await;
    let mut board = Board::new(&coordinator, "b").await;
    let lib = drv("lib", &[], &[]);
    let plan = board.submit(&lib, &[&lib]).await.plan_id;
    let mut first = board.watch(&plan, 0, false).await.unwrap();
    first.state(&lib, v1::TaskState::Ready).await;
    let seen = first.last;
    drop(first);
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.connect(&coordinator).await;
    let lease = session.lease(&lib).await;
    session.built(&lease, vec![executor.make(&lib, "shared", b"lib")]).await;
    let mut second = board.watch(&plan, seen + 1, false).await.unwrap();
    let mut numbers = Vec::new();
    loop {
        let event = second.next().await.unwrap().unwrap();
        assert!(!matches!(event, Event::Snapshot(_)), "everything is still kept");
        numbers.push(second.last);
        if matches!(event, Event::Finished(_)) {
            break;
        }
    }
    let expected: Vec<u64> = (seen + 1..=second.last).collect();
    assert_eq!(numbers, expected);
    // A number that was never used is answered by the plan's state, then its end.
    let mut third = board.watch(&plan, u64::MAX, false).await.unwrap();
    let Some(Event::Snapshot(snapshot)) = third.next().await.unwrap() else { panic!("not a snapshot") };
    assert_eq!(snapshot.roots.len(), 1);
    assert!(third.finished().await.succeeded);
}

#[tokio::test]
async fn logs_are_for_those_who_asked_and_their_end_comes_with_the_failure() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.connect(&coordinator).await;
    let (mut board, mut other) =
        (Board::new(&coordinator, "b").await, Board::new(&coordinator, "other").await);
    let lib = drv("lib", &[], &[]);
    let top = drv("top", &[&lib], &[]);
    let plan = board.submit(&top, &[&lib, &top]).await.plan_id;
    // Another board's plan wants the same task, and learns the same.
    let shared = other.submit(&lib, &[&lib]).await.plan_id;
    let mut log = other.watch(&shared, 0, true).await.unwrap();
    let lease = session.lease(&lib).await;
    session.log(&lease, "unpackPhase", "").await;
    session.log(&lease, "", "one\n").await;
    session.log(&lease, "buildPhase", "two \u{fffd}\n").await;
    session.failed(&lease, v1::FailureClass::BuildFailed, "builder failed with exit code 1").await;
    session.acknowledge(&lease).await;
    let mut text = Vec::new();
    let mut phases = Vec::new();
    let failed = log.until("the failure", |event| match event {
        Event::LogChunk(chunk) => {
            assert_eq!(chunk.derivation, lib.path);
            text.extend_from_slice(&chunk.text);
            None
        }
        Event::TaskChanged(change) if change.state() == v1::TaskState::Running => {
            phases.push(change.phase);
            None
        }
        Event::TaskChanged(change) if change.state() == v1::TaskState::Failed => Some(change),
        _ => None,
    });
    let failed = failed.await;
    assert_eq!(String::from_utf8(text).unwrap(), "one\ntwo \u{fffd}\n");
    assert_eq!(phases, ["", "unpackPhase", "buildPhase"]);
    assert_eq!(failed.log_tail, "one\ntwo \u{fffd}\n");
    assert_eq!(failed.failure.unwrap().exit_status, Some(1));
    let mut quiet = board.watch(&plan, 0, false).await.unwrap();
    let dependent = quiet.until("the dependent", |event| match event {
        Event::LogChunk(_) => panic!("nobody asked for logs"),
        Event::TaskChanged(change) if !change.phase.is_empty() => panic!("nobody asked for phases"),
        Event::TaskChanged(change) if change.state() == v1::TaskState::DependencyFailed => Some(change),
        _ => None,
    });
    assert_eq!(dependent.await.derivation, top.path);
    let finished = quiet.finished().await;
    assert_eq!((finished.succeeded, finished.tasks_failed, finished.tasks_dependency_failed), (false, 1, 1));
}

#[tokio::test]
async fn a_plan_that_comes_late_hears_what_was_said_before() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.connect(&coordinator).await;
    let (mut board, mut late) = (Board::new(&coordinator, "b").await, Board::new(&coordinator, "late").await);
    let lib = drv("lib", &[], &[]);
    let top = drv("top", &[&lib], &[]);
    let plan = board.submit(&top, &[&lib, &top]).await.plan_id;
    let mut first = board.watch(&plan, 0, true).await.unwrap();
    let lease = session.lease(&lib).await;
    session.log(&lease, "", "one\n").await;
    let said = |event| match event {
        Event::LogChunk(chunk) => Some(String::from_utf8(chunk.text.to_vec()).unwrap()),
        _ => None,
    };
    assert_eq!(first.until("the log", said).await, "one\n");
    let plan = late.submit(&lib, &[&lib]).await.plan_id;
    let mut second = late.watch(&plan, 0, true).await.unwrap();
    assert_eq!(second.until("the log so far", said).await, "one\n");
    session.log(&lease, "", "two\n").await;
    assert_eq!(second.until("the rest", said).await, "two\n");
    session.failed(&lease, v1::FailureClass::BuildFailed, "builder failed with exit code 1").await;
    session.acknowledge(&lease).await;
    assert_eq!(second.finished().await.tasks_failed, 1);
}

#[tokio::test]
async fn a_cancelled_plan_ends_its_leases_and_cancelling_again_is_harmless() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.connect(&coordinator).await;
    let mut board = Board::new(&coordinator, "b").await;
    let lib = drv("lib", &[], &[]);
    let plan = board.submit(&lib, &[&lib]).await.plan_id;
    let lease = session.lease(&lib).await;
    assert!(board.cancel(&plan).await.unwrap());
    let Order::Cancel(cancel) = session.order().await.unwrap() else { panic!("not a cancellation") };
    assert_eq!((cancel.lease_id, cancel.epoch), (lease.lease_id, lease.epoch));
    session.failed(&lease, v1::FailureClass::Cancelled, "cancelled").await;
    session.acknowledge(&lease).await;
    assert!(!board.cancel(&plan).await.unwrap());
    let finished = board.watch(&plan, 0, false).await.unwrap().finished().await;
    assert_eq!((finished.cancelled, finished.succeeded), (true, false));
}

#[tokio::test]
async fn a_plan_without_a_client_is_cancelled_and_later_forgotten() {
    let coordinator = Coordinator::start("abandoned_after_s = 1").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.connect(&coordinator).await;
    let mut board = Board::new(&coordinator, "b").await;
    let lib = drv("lib", &[], &[]);
    let plan = board.submit(&lib, &[&lib]).await.plan_id;
    let lease = session.lease(&lib).await;
    let watch = board.watch(&plan, 0, false).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    session.heartbeat(&[&lease]).await;
    let is_leased = tokio::time::timeout(Duration::from_millis(300), session.order()).await;
    assert!(is_leased.is_err(), "cancelled while somebody watches: {is_leased:?}");
    drop(watch);
    assert!(matches!(session.order().await.unwrap(), Order::Cancel(_)));
    soon("the plan is forgotten", async {
        loop {
            // Asking counts as a client: seldom.
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            if let Err(status) = board.watch(&plan, 0, false).await {
                return assert_eq!(status.code(), Code::NotFound);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_plan_for_one_watcher_alone_ends_soon_after_it() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.connect(&coordinator).await;
    let mut board = Board::new(&coordinator, "b").await;
    let lib = drv("lib", &[], &[]);
    let plan = board.submit(&lib, &[&lib]).await.plan_id;
    let lease = session.lease(&lib).await;
    let first = board.watch_impatiently(&plan, 0, false, 2).await.unwrap();
    drop(first);
    // It is back in time, and leaves again.
    let again = board.watch_impatiently(&plan, 0, false, 2).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    session.heartbeat(&[&lease]).await;
    let early = tokio::time::timeout(Duration::from_millis(300), session.order()).await;
    assert!(early.is_err(), "cancelled while it watches: {early:?}");
    drop(again);
    assert!(matches!(session.order().await.unwrap(), Order::Cancel(_)));
}

#[tokio::test]
async fn a_plan_whose_watcher_never_came_ends_soon_too() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.connect(&coordinator).await;
    let mut board = Board::new(&coordinator, "b").await;
    let lib = drv("lib", &[], &[]);
    board.submit_impatiently(&lib, &[&lib], 1).await;
    session.lease(&lib).await;
    assert!(matches!(session.order().await.unwrap(), Order::Cancel(_)));
}
