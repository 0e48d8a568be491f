//! What an executor claims of an output whose path nobody knew: believed where it is right, and otherwise of no consequence.
use crate::board::Board;
use crate::executor::Executor;
use crate::graph::{Drv, drv, floating};
use crate::running::Coordinator;
use proto::v1;
use proto::v1::plan_event::Event;

/// Claims something of a right output.
type Claim = fn(v1::BuiltOutput, &Drv) -> Vec<v1::BuiltOutput>;

/// The same output with another path information.
fn but(mut output: v1::BuiltOutput, change: impl FnOnce(&mut v1::PathInfo)) -> Vec<v1::BuiltOutput> {
    change(output.info.as_mut().unwrap());
    vec![output]
}

/// `other` is a derivation of the same plan.
const CLAIMS: &[(&str, Claim)] = &[
    ("no output", |_, _| vec![]),
    ("twice", |output, _| vec![output.clone(), output]),
    ("another name", |output, _| vec![v1::BuiltOutput { name: "dev".into(), ..output }]),
    ("one more", |output, _| vec![output.clone(), v1::BuiltOutput { name: "dev".into(), ..output }]),
    ("the path of another's output", |output, other| {
        but(output, |info| info.id.as_mut().unwrap().path.clone_from(&other.out))
    }),
    ("a path that its content does not give", |output, _| {
        but(output, |info| {
            let path = &mut info.id.as_mut().unwrap().path;
            let digit = "/nix/store/".len()..="/nix/store/".len();
            let other = if &path[digit.clone()] == "0" { "1" } else { "0" };
            path.replace_range(digit, other);
        })
    }),
    ("what stands for an output", |output, other| {
        but(output, |info| info.id.as_mut().unwrap().path = format!("{}!out", other.path))
    }),
    ("another derivation's realisation", |output, other| {
        but(output, |info| info.deriver.clone_from(&other.path))
    }),
    ("nobody's realisation", |output, _| but(output, |info| info.deriver.clear())),
    ("no content address", |output, _| but(output, |info| info.content_address.clear())),
    ("a reference that it cannot have", |output, other| {
        but(output, |info| info.references = vec![other.out.clone()])
    }),
];

#[tokio::test]
async fn a_claim_about_a_floating_output_is_believed_only_where_it_is_right() {
    for (name, claim) in CLAIMS {
        let coordinator = Coordinator::start("").await;
        let liar = Executor::new(&coordinator, "liar").await;
        let mut lying = liar.connect(&coordinator).await;
        let (made, other) = (floating("made", b"made"), floating("other", b"other"));
        let mut board = Board::new(&coordinator, "b").await;
        let plan = board.submit(&made, &[&made]).await.plan_id;
        let lease = lying.lease(&made).await;
        lying.built(&lease, claim(liar.make(&made, "shared", b"made"), &other)).await;
        lying.acknowledge(&lease).await;
        // Refused: the task is leased again, and what is right then counts.
        eprintln!("claimed: {name}");
        let lease = lying.lease(&made).await;
        assert_eq!(lease.epoch, 2, "{name}");
        lying.built(&lease, vec![liar.make(&made, "shared", b"made")]).await;
        lying.acknowledge(&lease).await;
        let mut watch = board.watch(&plan, 0, false).await.unwrap();
        let root = watch
            .until("the root", |event| match event {
                Event::RootAvailable(root) => Some(root),
                _ => None,
            })
            .await;
        assert_eq!((&*root.path, &*root.output), (&*made.out, "out"), "{name}");
        assert!(watch.finished().await.succeeded, "{name}");
    }
}

/// A liar alone ends the task, and nothing else.
#[tokio::test]
async fn lies_alone_fail_the_task_and_say_why() {
    let coordinator = Coordinator::start("").await;
    let liar = Executor::new(&coordinator, "liar").await;
    let mut session = liar.connect(&coordinator).await;
    let (made, lib) = (floating("made", b"made"), drv("lib", &[], &[]));
    let mut board = Board::new(&coordinator, "b").await;
    let plan = board.submit(&made, &[&made]).await.plan_id;
    let mut watch = board.watch(&plan, 0, false).await.unwrap();
    for _attempt in 0..3 {
        let lease = session.lease(&made).await;
        let mut output = liar.make(&made, "shared", b"made");
        output.info.as_mut().unwrap().deriver.clone_from(&lib.path);
        session.built(&lease, vec![output]).await;
        session.acknowledge(&lease).await;
    }
    let failure = watch.state(&made, v1::TaskState::Failed).await.failure.unwrap();
    assert!(failure.message.contains("output out was not built from"), "{failure:?}");
    let plan = board.submit(&lib, &[&lib]).await.plan_id;
    let lease = session.lease(&lib).await;
    session.built(&lease, vec![liar.make(&lib, "shared", b"lib")]).await;
    assert!(board.watch(&plan, 0, false).await.unwrap().finished().await.succeeded);
}
