//! A coordinator that stops and comes back: plans, results and failures are there, running builds are found again.
use crate::board::Board;
use crate::executor::{Executor, running};
use crate::graph::drv;
use crate::running::Coordinator;
use proto::v1;
use proto::v1::executor_message::Message;
use proto::v1::plan_event::Event;
use std::time::Duration;
use tonic::Code;

#[tokio::test]
async fn plans_go_on_and_nothing_is_built_twice() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.connect(&coordinator).await;
    let mut board = Board::new(&coordinator, "b").await;
    let (lib, other) = (drv("lib", &[], &[]), drv("other", &[], &[]));
    let top = drv("top", &[&lib, &other], &[]);
    let plan = board.submit(&top, &[&lib, &other, &top]).await.plan_id;
    let mut watch = board.watch(&plan, 0, false).await.unwrap();
    let mut leases =
        [session.order().await.unwrap(), session.order().await.unwrap()].map(|order| match order {
            v1::coordinator_message::Message::Lease(lease) => lease,
            other => panic!("not a lease: {other:?}"),
        });
    leases.sort_by_key(|lease| lease.derivation.as_ref().unwrap().path != lib.path);
    let [of_lib, of_other] = leases;
    session.built(&of_lib, vec![executor.make(&lib, "shared", b"lib")]).await;
    session.acknowledge(&of_lib).await;
    watch.state(&lib, v1::TaskState::Done).await;
    let seen = watch.last;

    let stopped = coordinator.stop().await;
    assert_eq!(session.order().await.unwrap_err().code(), Code::Unavailable);
    let ended = loop {
        match watch.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended as if the plan had"),
            Err(status) => break status.code(),
        }
    };
    assert_eq!(ended, Code::Unavailable);
    let coordinator = stopped.start().await;

    let mut board = Board::new(&coordinator, "b").await;
    let mut watch = board.watch(&plan, seen + 1, false).await.unwrap();
    let Some(Event::Snapshot(snapshot)) = watch.next().await.unwrap() else { panic!("not a snapshot") };
    assert!(watch.last > seen, "{} is not above {seen}", watch.last);
    assert!(!snapshot.tasks.is_empty());
    // The build has gone on meanwhile, and its result is new to the coordinator.
    let hello = v1::ExecutorHello { running: vec![running(&of_other)], ..executor.hello() };
    let mut session = executor.try_connect(&coordinator, hello).await.unwrap();
    session.hello().await;
    session.say(Message::Inventory(v1::Inventory { held: executor.infos(), last: true })).await;
    session.built(&of_other, vec![executor.make(&other, "shared", b"other")]).await;
    session.acknowledge(&of_other).await;
    let last = loop {
        session.heartbeat(&[]).await;
        let waited = tokio::time::timeout(Duration::from_millis(500), session.lease(&top)).await;
        if let Ok(lease) = waited {
            break lease;
        }
    };
    assert!(last.lease_id > of_other.lease_id);
    session.built(&last, vec![executor.make(&top, "shared", b"top")]).await;
    let finished = watch.finished().await;
    assert!(finished.succeeded, "{finished:?}");
}

/// More than the core takes at once, and more than are told one by one.
#[tokio::test]
async fn a_large_plan_is_shown_as_a_whole_and_goes_on_with_all_its_tasks() {
    const GROUPS: usize = 45;
    const EACH: usize = 100;
    const TASKS: usize = GROUPS * (EACH + 1) + 3;
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let first = drv("first", &[], &[]);
    let second = drv("second", &[&first], &[]);
    let wide = |group: usize| (0..EACH).map(move |number| format!("wide-{group}-{number}"));
    let wide = |group: usize| wide(group).map(|name| drv(&name, &[&second], &[])).collect::<Vec<_>>();
    let wide: Vec<_> = (0..GROUPS).map(wide).collect();
    let group = |(number, wide): (usize, &Vec<_>)| {
        drv(&format!("group-{number}"), &wide.iter().collect::<Vec<_>>(), &[])
    };
    let groups: Vec<_> = wide.iter().enumerate().map(group).collect();
    let all = drv("all", &groups.iter().collect::<Vec<_>>(), &[]);
    let derivations: Vec<_> = wide.iter().flatten().chain(&groups).chain([&first, &second, &all]).collect();
    let mut board = Board::new(&coordinator, "b").await;
    let admitted = board.submit(&all, &derivations).await;
    assert_eq!(admitted.tasks_total as usize, TASKS);
    let whole = async |board: &mut Board| {
        let mut watch = board.watch(&admitted.plan_id, 0, false).await.unwrap();
        let Some(Event::Snapshot(snapshot)) = watch.next().await.unwrap() else { panic!("not a snapshot") };
        assert_eq!(snapshot.tasks.len(), TASKS);
        watch
    };
    let mut watch = whole(&mut board).await;
    let mut session = executor.connect(&coordinator).await;
    let lease = session.lease(&first).await;
    session.built(&lease, vec![executor.make(&first, "shared", b"first")]).await;
    session.acknowledge(&lease).await;
    watch.state(&first, v1::TaskState::Done).await;

    let coordinator = coordinator.stop().await.start().await;
    let mut session = executor.connect(&coordinator).await;
    session.heartbeat(&[]).await;
    session.lease(&second).await;
    whole(&mut Board::new(&coordinator, "b").await).await;
}

#[tokio::test]
async fn an_ended_plan_and_its_failure_are_still_told() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.connect(&coordinator).await;
    let mut board = Board::new(&coordinator, "b").await;
    let (lib, bad) = (drv("lib", &[], &[]), drv("bad", &[], &[]));
    let good = board.submit(&lib, &[&lib]).await.plan_id;
    let lease = session.lease(&lib).await;
    session.built(&lease, vec![executor.make(&lib, "shared", b"lib")]).await;
    session.acknowledge(&lease).await;
    let failing = board.submit(&bad, &[&bad]).await.plan_id;
    let lease = session.lease(&bad).await;
    session.log(&lease, "", "no such file\n").await;
    session.failed(&lease, v1::FailureClass::BuildFailed, "builder failed").await;
    session.acknowledge(&lease).await;
    for plan in [&good, &failing] {
        board.watch(plan, 0, false).await.unwrap().finished().await;
    }

    let coordinator = coordinator.stop().await.start().await;
    let mut board = Board::new(&coordinator, "b").await;
    let mut watch = board.watch(&good, 0, false).await.unwrap();
    let Some(Event::Snapshot(snapshot)) = watch.next().await.unwrap() else { panic!("not a snapshot") };
    assert_eq!(snapshot.roots.iter().map(|root| &root.path).collect::<Vec<_>>(), [&lib.out]);
    assert!(watch.finished().await.succeeded);
    let mut watch = board.watch(&failing, 3, false).await.unwrap();
    let failed = watch.state(&bad, v1::TaskState::Failed).await;
    assert_eq!(failed.log_tail, "no such file\n");
    assert_eq!(failed.failure.unwrap().failure_class(), v1::FailureClass::BuildFailed);
    assert_eq!(watch.finished().await.tasks_failed, 1);
    assert_eq!(
        Board::new(&coordinator, "other").await.cancel(&good).await.unwrap_err().code(),
        Code::NotFound
    );
    // What failed may be tried again; what is there is not built again.
    let again = board.submit(&lib, &[&lib]).await;
    assert_eq!((again.tasks_to_build, again.tasks_held), (0, 1));
    assert_eq!(board.submit(&bad, &[&bad]).await.tasks_to_build, 1);
}

#[tokio::test]
async fn other_bytes_than_recorded_are_not_held() {
    let coordinator = Coordinator::start("eviction_after_ms = 1000").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.connect(&coordinator).await;
    let mut board = Board::new(&coordinator, "b").await;
    let lib = drv("lib", &[], &[]);
    let top = drv("top", &[&lib], &[]);
    board.submit(&top, &[&lib, &top]).await;
    let lease = session.lease(&lib).await;
    session.built(&lease, vec![executor.make(&lib, "shared", b"lib")]).await;
    session.acknowledge(&lease).await;
    session.lease(&top).await;

    let coordinator = coordinator.stop().await.start().await;
    // Its disk was damaged, or it lies.
    executor.make(&lib, "shared", b"something else");
    let mut session = executor.connect(&coordinator).await;
    let again = loop {
        session.heartbeat(&[]).await;
        match tokio::time::timeout(Duration::from_millis(100), session.lease(&lib)).await {
            Ok(lease) => break lease,
            Err(_) => continue,
        }
    };
    assert!(again.lease_id > lease.lease_id);
}
