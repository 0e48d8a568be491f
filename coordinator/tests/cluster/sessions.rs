//! Sessions of executors: hello, lease, report, acknowledgement; another session; a lost executor; a name is a certificate's.
use crate::board::Board;
use crate::executor::Executor;
use crate::graph::{drv, fixed};
use crate::running::{Coordinator, soon};
use model::limits::PROTOCOL_VERSION;
use proto::v1;
use proto::v1::coordinator_message::Message as Order;
use proto::v1::executor_message::Message;
use proto::v1::plan_event::Event;
use std::time::Duration;
use tonic::Code;

#[tokio::test]
async fn a_lease_is_built_reported_acknowledged_and_its_output_fetched() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.try_connect(&coordinator, executor.hello()).await.unwrap();
    let hello = session.hello().await;
    assert_eq!(
        (hello.protocol_version, hello.heartbeat_interval_ms, hello.eviction_after_ms),
        (PROTOCOL_VERSION, 100, 12_000)
    );
    session.say(Message::Inventory(v1::Inventory { held: Vec::new(), last: true })).await;
    let mut board = Board::new(&coordinator, "b").await;
    let lib = drv("lib", &[], &[]);
    let top = drv("top", &[&lib], &[]);
    let admitted = board.submit(&top, &[&lib, &top]).await;
    assert_eq!((admitted.tasks_total, admitted.tasks_to_build, admitted.tasks_held), (2, 2, 0));
    let watch = board.watch(&admitted.plan_id, 0, false).await.unwrap();
    let first = session.lease(&lib).await;
    assert_eq!(&first.derivation_text[..], &lib.text[..]);
    assert!(first.inputs.is_empty());
    session.built(&first, vec![executor.make(&lib, "shared", b"lib")]).await;
    session.acknowledge(&first).await;
    let second = session.lease(&top).await;
    let [input] = &second.inputs[..] else { panic!("{:?}", second.inputs) };
    let info = input.info.as_ref().unwrap();
    assert_eq!(info.id.as_ref().unwrap().path, lib.out);
    assert_eq!(info.deriver, lib.path);
    session.built(&second, vec![executor.make(&top, "shared", b"top")]).await;
    session.acknowledge(&second).await;
    let finished = watch.finished().await;
    assert!(finished.succeeded, "{finished:?}");
    assert_eq!((finished.tasks_built, finished.tasks_held), (2, 0));
    let id = v1::ContentId { trust_domain: String::new(), path: top.out.clone() };
    let mut closure =
        board.blobs.closure(v1::ClosureRequest { ids: vec![id], alone: false }).await.unwrap().into_inner();
    let infos = closure.message().await.unwrap().unwrap().infos;
    assert_eq!(infos.len(), 1);
    assert!(infos[0].signatures[0].starts_with("cluster-1:"), "{:?}", infos[0].signatures);
    // The same plan again: nothing is built.
    let again = board.submit(&top, &[&lib, &top]).await;
    assert_eq!(again.tasks_to_build, 0);
    assert!(board.watch(&again.plan_id, 0, false).await.unwrap().finished().await.succeeded);
}

#[tokio::test]
async fn an_unknown_version_is_refused_with_the_side_to_update() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    for (version, older) in [(PROTOCOL_VERSION + 1, "coordinator"), (0, "executor")] {
        let hello = v1::ExecutorHello { protocol_version: version, ..executor.hello() };
        let status = executor.try_connect(&coordinator, hello).await.err().unwrap();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().ends_with(&format!("update the {older}")), "{status}");
    }
}

#[tokio::test]
async fn a_second_session_replaces_the_first_and_the_lease_goes_on() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut first = executor.connect(&coordinator).await;
    let mut board = Board::new(&coordinator, "b").await;
    let lib = drv("lib", &[], &[]);
    let plan = board.submit(&lib, &[&lib]).await.plan_id;
    let lease = first.lease(&lib).await;
    let hello = v1::ExecutorHello { running: vec![crate::executor::running(&lease)], ..executor.hello() };
    let mut second = executor.try_connect(&coordinator, hello).await.unwrap();
    second.hello().await;
    let ended = first.order().await.unwrap_err();
    assert_eq!(ended.code(), Code::Aborted, "{ended}");
    second.say(Message::Inventory(v1::Inventory { held: Vec::new(), last: true })).await;
    second.built(&lease, vec![executor.make(&lib, "shared", b"lib")]).await;
    second.acknowledge(&lease).await;
    let finished = board.watch(&plan, 0, false).await.unwrap().finished().await;
    assert_eq!((finished.succeeded, finished.tasks_built), (true, 1));
}

#[tokio::test]
async fn a_silent_executor_is_lost_and_its_task_runs_elsewhere() {
    let coordinator = Coordinator::start("eviction_after_ms = 600").await;
    let silent = Executor::new(&coordinator, "silent").await;
    let mut first = silent.connect(&coordinator).await;
    let mut board = Board::new(&coordinator, "b").await;
    let lib = drv("lib", &[], &[]);
    let plan = board.submit(&lib, &[&lib]).await.plan_id;
    let lost = first.lease(&lib).await;
    let other = Executor::new(&coordinator, "other").await;
    let mut second = other.connect(&coordinator).await;
    let again = soon("the task is leased again", async {
        loop {
            second.heartbeat(&[]).await;
            match tokio::time::timeout(Duration::from_millis(100), second.lease(&lib)).await {
                Ok(lease) => return lease,
                Err(_) => continue,
            }
        }
    })
    .await;
    assert!(again.epoch > lost.epoch);
    let ended = first.order().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    second.built(&again, vec![other.make(&lib, "shared", b"lib")]).await;
    let mut watch = board.watch(&plan, 0, false).await.unwrap();
    assert_eq!(watch.state(&lib, v1::TaskState::Done).await.executor, "other");
}

#[tokio::test]
async fn nobody_speaks_for_another_ones_lease() {
    let coordinator = Coordinator::start("").await;
    let builder = Executor::new(&coordinator, "builder").await;
    let mut session = builder.connect(&coordinator).await;
    let mut board = Board::new(&coordinator, "b").await;
    let lib = drv("lib", &[], &[]);
    let plan = board.submit(&lib, &[&lib]).await.plan_id;
    let lease = session.lease(&lib).await;
    let liar = Executor::new(&coordinator, "liar").await;
    let mut other = liar.connect(&coordinator).await;
    other.log(&lease, "", "a lie\n").await;
    other.built(&lease, vec![liar.make(&lib, "shared", b"a lie")]).await;
    // Its report is acknowledged, whatever comes of it: nothing.
    other.acknowledge(&lease).await;
    session.log(&lease, "buildPhase", "the truth\n").await;
    let truth = builder.make(&lib, "shared", b"the truth");
    session.built(&lease, vec![truth.clone()]).await;
    session.acknowledge(&lease).await;
    let mut watch = board.watch(&plan, 0, true).await.unwrap();
    let log = watch.until("the log", |event| match event {
        Event::LogChunk(chunk) => Some(chunk.text),
        _ => None,
    });
    assert_eq!(&log.await[..], b"the truth\n");
    assert!(watch.finished().await.succeeded);
    let id = v1::ContentId { trust_domain: "shared".into(), path: lib.out.clone() };
    let mut closure =
        board.blobs.closure(v1::ClosureRequest { ids: vec![id], alone: false }).await.unwrap().into_inner();
    let info = &closure.message().await.unwrap().unwrap().infos[0];
    assert_eq!(info.nar_sha256, truth.info.unwrap().nar_sha256);
}

#[tokio::test]
async fn a_draining_executor_gets_nothing_and_leaves_when_its_results_are_safe() {
    let coordinator = Coordinator::start("").await;
    let executor = Executor::new(&coordinator, "x1").await;
    let mut session = executor.connect(&coordinator).await;
    session.say(Message::Draining(v1::Draining {})).await;
    assert!(matches!(session.order().await.unwrap(), Order::MayLeave(_)));
    let mut board = Board::new(&coordinator, "b").await;
    let lib = drv("lib", &[], &[]);
    let plan = board.submit(&lib, &[&lib]).await.plan_id;
    let mut watch = board.watch(&plan, 0, false).await.unwrap();
    let waiting = watch.until("who waits", |event| match event {
        Event::Waiting(waiting) => Some(waiting),
        _ => None,
    });
    let waiting = waiting.await;
    assert_eq!((&*waiting.requirement, waiting.tasks_total), ("x86_64-linux", 1));
    assert_eq!(waiting.derivations, [lib.path]);
}

#[tokio::test]
async fn a_fixed_output_waits_for_an_executor_with_a_network_and_the_plan_says_so() {
    let coordinator = Coordinator::start("").await;
    let without = Executor::new(&coordinator, "without").await;
    let mut hello = without.hello();
    hello.capability.as_mut().unwrap().features = vec!["ca-derivations".into()];
    let mut alone = without.try_connect(&coordinator, hello).await.unwrap();
    alone.hello().await;
    alone.say(Message::Inventory(v1::Inventory { held: Vec::new(), last: true })).await;
    let (fetched, lib) = (fixed("fetched", b"fetched"), drv("lib", &[], &[]));
    let top = drv("top", &[&fetched, &lib], &[]);
    let mut board = Board::new(&coordinator, "b").await;
    let plan = board.submit(&top, &[&fetched, &lib, &top]).await.plan_id;
    let mut watch = board.watch(&plan, 0, false).await.unwrap();
    let waiting = watch
        .until("what nobody offers", |event| match event {
            Event::Waiting(waiting) => Some(waiting),
            _ => None,
        })
        .await;
    assert!(waiting.requirement.contains("fixed-output-network"), "{waiting:?}");
    assert_eq!(waiting.derivations, std::slice::from_ref(&fetched.path));
    // The rest goes on meanwhile.
    let lease = alone.lease(&lib).await;
    alone.built(&lease, vec![without.make(&lib, "shared", b"lib")]).await;
    alone.acknowledge(&lease).await;
    let with = Executor::new(&coordinator, "with").await;
    let mut connected = with.connect(&coordinator).await;
    let lease = connected.lease(&fetched).await;
    connected.built(&lease, vec![with.make(&fetched, "shared", b"fetched")]).await;
    connected.acknowledge(&lease).await;
    watch.state(&fetched, v1::TaskState::Done).await;
}
