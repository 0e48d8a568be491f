//! What is appended is there after a restart; order, replacement, and an owner for each database.
use super::*;
use model::{ExecutorName, FailureClass, TrustDomain};
use scheduler::{Settled, effect::SettledOutput};

fn path(name: &str) -> StorePath {
    StorePath::from_validated(&format!("/nix/store/00000000000000000000000000000000-{name}"))
}

fn id(name: &str) -> ContentId {
    ContentId { domain: TrustDomain::Board("pi".into()), path: path(name) }
}

fn facts(size: u64) -> PathFacts {
    PathFacts {
        nar_sha256: [7; 32],
        nar_size: size,
        references: vec![path("a"), path("b")],
        deriver: Some(path("a.drv")),
        content_address: None,
    }
}

fn plan(number: u8) -> AdmittedPlan {
    AdmittedPlan {
        id: PlanId([number; 16]),
        board: "pi".into(),
        roots: vec![Root { task: id("a.drv"), outputs: vec!["out".into(), "dev".into()] }],
        tasks: vec![id("a.drv"), id("b.drv")],
        trace: [("traceparent".to_owned(), "00-1-2-01".to_owned())].into(),
        admitted_unix_ms: 5,
    }
}

fn failed(name: &str) -> Fact {
    let failure = Failure {
        class: FailureClass::BuildFailed,
        message: "builder failed\nwith exit code 1".into(),
        exit_status: Some(1),
        missing_inputs: vec![path("c")],
    };
    Fact::TaskSettled { task: id(name), settled: Settled::Failed(failure) }
}

fn built(name: &str, size: u64) -> Fact {
    let output =
        SettledOutput { name: "out".into(), id: id(name), facts: facts(size), references: vec![id("b")] };
    let settled = Settled::Built { executor: ExecutorName("x".into()), outputs: vec![output] };
    Fact::TaskSettled { task: id(&format!("{name}.drv")), settled }
}

/// Appends to a journal in its own run, and reads it in the next.
async fn record(directory: &Path, entries: Vec<Entry>) -> Recorded {
    let (journal, thread, _) = open(directory).unwrap();
    journal.append(entries).await.unwrap();
    drop(journal);
    thread.join();
    let (journal, thread, recorded) = open(directory).unwrap();
    drop(journal);
    thread.join();
    recorded
}

#[tokio::test]
async fn everything_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let derivation =
        Entry::Derivation { path: path("a.drv"), text: b"Derive"[..].into(), modulo: ModuloHash([3; 32]) };
    let holder = Holder::Executor(ExecutorName("x".into()));
    let recorded = record(
        directory.path(),
        vec![
            derivation,
            Entry::Content { id: id("a"), facts: facts(9), references: vec![id("b")] },
            Entry::PlanAdmitted(plan(1)),
            Entry::Fact(failed("a.drv")),
            Entry::LogTail { task: id("a.drv"), tail: b"last words"[..].into() },
            Entry::Fact(Fact::Held(id("a"), holder.clone())),
            Entry::Fact(Fact::Held(id("a"), Holder::ContentStore)),
            Entry::Fact(Fact::NotHeld(id("a"), Holder::ContentStore)),
        ],
    )
    .await;
    assert_eq!(recorded.run, 2);
    assert_eq!(recorded.derivations, [(path("a.drv"), b"Derive"[..].into(), ModuloHash([3; 32]))]);
    assert_eq!(recorded.contents, [(id("a"), facts(9), vec![id("b")])]);
    assert_eq!(recorded.holders, [(id("a"), holder)]);
    assert_eq!(recorded.plans, [RecordedPlan { plan: plan(1), position: 1, ended: None }]);
    let [failure] = &recorded.failures[..] else { panic!("{:?}", recorded.failures) };
    assert_eq!(
        (&failure.task, &failure.log_tail[..], failure.position),
        (&id("a.drv"), &b"last words"[..], 2)
    );
    let Fact::TaskSettled { settled: Settled::Failed(expected), .. } = failed("a.drv") else { panic!() };
    assert_eq!(failure.failure, expected);
}

#[tokio::test]
async fn a_build_replaces_a_failure_and_older_facts() {
    let directory = tempfile::tempdir().unwrap();
    let recorded = record(
        directory.path(),
        vec![Entry::Fact(failed("a.drv")), Entry::Fact(built("a", 1)), Entry::Fact(built("a", 2))],
    )
    .await;
    assert_eq!(recorded.failures, []);
    assert_eq!(recorded.contents, [(id("a"), facts(2), vec![id("b")])]);
}

#[tokio::test]
async fn an_ended_plan_is_remembered_until_it_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let summary = PlanSummary { succeeded: true, tasks_built: 4, duration_ms: 77, ..PlanSummary::default() };
    let recorded = record(
        directory.path(),
        vec![
            Entry::PlanAdmitted(plan(1)),
            Entry::PlanAdmitted(plan(2)),
            Entry::Fact(Fact::PlanEnded(PlanId([1; 16]), summary.clone())),
        ],
    )
    .await;
    let ends: Vec<_> = recorded.plans.iter().map(|plan| plan.ended.as_ref().map(|end| &end.0)).collect();
    assert_eq!(ends, [Some(&summary), None]);
    let recorded = record(directory.path(), vec![Entry::PlanForgotten(PlanId([1; 16]))]).await;
    assert_eq!(recorded.plans.iter().map(|plan| plan.plan.id).collect::<Vec<_>>(), [PlanId([2; 16])]);
}

#[tokio::test]
async fn a_journal_has_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let (_journal, _thread, _) = open(directory.path()).unwrap();
    assert!(matches!(open(directory.path()), Err(JournalError::Open { .. })));
}

#[tokio::test]
async fn many_append_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, thread, _) = open(directory.path()).unwrap();
    let mut tasks = Vec::new();
    for number in 0..200 {
        let journal = journal.clone();
        let entry = Entry::Fact(Fact::Held(id(&format!("p{number}")), Holder::ContentStore));
        tasks.push(node::task::spawn("append", async move { journal.append(vec![entry]).await }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    drop(journal);
    thread.join();
    assert_eq!(open(directory.path()).unwrap().2.holders.len(), 200);
}
