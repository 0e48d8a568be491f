//! What is appended is there after a restart; order, replacement, and an owner for each database.
use super::compact::Limits;
use super::*;
use model::{ExecutorName, FailureClass, Kind, TrustDomain};
use scheduler::{Measurement, Settled, effect::SettledOutput};

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
async fn tasks_that_came_in_parts_come_back_in_order_and_those_of_a_plan_that_was_not_admitted_are_forgotten()
{
    let directory = tempfile::tempdir().unwrap();
    let (journal, thread, _) = open(directory.path()).unwrap();
    let tasks = |names: [&str; 2]| names.map(id).to_vec();
    for (number, names) in [(1, ["x.drv", "y.drv"]), (2, ["other.drv", "lost.drv"]), (1, ["z.drv", "w.drv"])]
    {
        journal.append_soon(vec![Entry::PlanTasks(plan(number).id, tasks(names))]).await.unwrap();
    }
    journal.append(vec![Entry::PlanAdmitted(plan(1))]).await.unwrap();
    drop(journal);
    thread.join();
    let (journal, thread, recorded) = open(directory.path()).unwrap();
    let expected = [tasks(["x.drv", "y.drv"]), tasks(["z.drv", "w.drv"]), plan(1).tasks].concat();
    assert_eq!(recorded.plans[0].plan.tasks, expected);
    journal.append(vec![Entry::PlanForgotten(plan(1).id)]).await.unwrap();
    // The same name again, of another time: nothing of the former is left.
    journal.append(vec![Entry::PlanAdmitted(plan(1)), Entry::PlanAdmitted(plan(2))]).await.unwrap();
    drop(journal);
    thread.join();
    let (_, _, recorded) = open(directory.path()).unwrap();
    let found: Vec<_> = recorded.plans.iter().map(|recorded| recorded.plan.tasks.clone()).collect();
    assert_eq!(found, [plan(1).tasks, plan(2).tasks]);
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

/// A journal as version 1 wrote it: its tables, and a row of each kind in its own words.
const VERSION_1: &str = "
    PRAGMA user_version = 1;
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE derivations (path TEXT PRIMARY KEY, text BLOB NOT NULL, modulo BLOB NOT NULL) STRICT;
    CREATE TABLE contents (
        domain TEXT NOT NULL, path TEXT NOT NULL, nar_sha256 BLOB NOT NULL, nar_size INTEGER NOT NULL,
        store_references TEXT NOT NULL, content_references TEXT NOT NULL, deriver TEXT, content_address TEXT,
        PRIMARY KEY (domain, path)) STRICT;
    CREATE TABLE holders (
        domain TEXT NOT NULL, path TEXT NOT NULL, holder TEXT NOT NULL,
        PRIMARY KEY (domain, path, holder)) STRICT, WITHOUT ROWID;
    CREATE TABLE plans (
        id BLOB PRIMARY KEY, position INTEGER NOT NULL, board TEXT NOT NULL, roots TEXT NOT NULL,
        tasks TEXT NOT NULL, trace TEXT NOT NULL, admitted_unix_ms INTEGER NOT NULL,
        ended_unix_ms INTEGER, summary TEXT) STRICT;
    CREATE TABLE failures (
        domain TEXT NOT NULL, path TEXT NOT NULL, position INTEGER NOT NULL, class TEXT NOT NULL,
        message TEXT NOT NULL, exit_status INTEGER, missing_inputs TEXT NOT NULL, log_tail BLOB NOT NULL,
        PRIMARY KEY (domain, path)) STRICT;
    INSERT INTO counters VALUES ('run', 7), ('position', 3);
    INSERT INTO derivations VALUES ('/nix/store/00000000000000000000000000000000-a.drv', CAST('Derive' AS BLOB),
        x'0303030303030303030303030303030303030303030303030303030303030303');
    INSERT INTO contents VALUES ('board:pi', '/nix/store/00000000000000000000000000000000-a',
        x'0707070707070707070707070707070707070707070707070707070707070707', 9,
        '/nix/store/00000000000000000000000000000000-a' || char(10) || '/nix/store/00000000000000000000000000000000-b',
        'board:pi /nix/store/00000000000000000000000000000000-b',
        '/nix/store/00000000000000000000000000000000-a.drv', NULL);
    INSERT INTO holders VALUES
        ('board:pi', '/nix/store/00000000000000000000000000000000-a', 'content-store'),
        ('board:pi', '/nix/store/00000000000000000000000000000000-a', 'executor x');
    INSERT INTO plans VALUES
        (x'01010101010101010101010101010101', 1, 'pi',
         'board:pi /nix/store/00000000000000000000000000000000-a.drv out dev',
         'board:pi /nix/store/00000000000000000000000000000000-a.drv' || char(10) ||
             'board:pi /nix/store/00000000000000000000000000000000-b.drv',
         'traceparent 00-1-2-01', 5, NULL, NULL),
        (x'02020202020202020202020202020202', 2, 'pi',
         'board:pi /nix/store/00000000000000000000000000000000-a.drv out dev',
         'board:pi /nix/store/00000000000000000000000000000000-a.drv' || char(10) ||
             'board:pi /nix/store/00000000000000000000000000000000-b.drv',
         'traceparent 00-1-2-01', 5, 1234, 'succeeded 4 0 0 0 77');
    INSERT INTO failures VALUES ('board:pi', '/nix/store/00000000000000000000000000000000-b.drv', 3, 'build-failed',
        'builder failed' || char(10) || 'with exit code 1', 1, '/nix/store/00000000000000000000000000000000-c',
        CAST('last words' AS BLOB));
";

fn write_raw(directory: &Path, rows: &str) {
    rusqlite::Connection::open(directory.join(FILE_NAME)).unwrap().execute_batch(rows).unwrap();
}

#[tokio::test]
async fn a_journal_of_version_1_is_read_whole_and_goes_on_as_the_latest() {
    let directory = tempfile::tempdir().unwrap();
    write_raw(directory.path(), VERSION_1);
    let (journal, thread, recorded) = open(directory.path()).unwrap();
    assert_eq!(recorded.run, 8);
    assert_eq!(recorded.derivations, [(path("a.drv"), b"Derive"[..].into(), ModuloHash([3; 32]))]);
    assert_eq!(recorded.contents, [(id("a"), facts(9), vec![id("b")])]);
    let holders = [Holder::ContentStore, Holder::Executor(ExecutorName("x".into()))];
    assert_eq!(recorded.holders, holders.map(|holder| (id("a"), holder)));
    let summary = PlanSummary { succeeded: true, tasks_built: 4, duration_ms: 77, ..PlanSummary::default() };
    let plans = [(1, None), (2, Some((summary, 1234)))];
    let plans = plans.map(|(number, ended)| {
        let position = u64::from(number);
        RecordedPlan { plan: plan(number), position, ended }
    });
    assert_eq!(recorded.plans, plans);
    let [failure] = &recorded.failures[..] else { panic!("{:?}", recorded.failures) };
    assert_eq!(
        (&failure.task, &failure.log_tail[..], failure.position),
        (&id("b.drv"), &b"last words"[..], 3)
    );
    let Fact::TaskSettled { settled: Settled::Failed(expected), .. } = failed("b.drv") else { panic!() };
    assert_eq!(failure.failure, expected);
    assert_eq!((recorded.bindings, recorded.measurements, recorded.executors), (vec![], vec![], vec![]));
    // What version 1 could not say is said from now on, in the same order of plans.
    let promise = ContentId { path: StorePath::promised(&path("a.drv"), "out"), ..id("a") };
    let binding = Binding { promise, to: id("a") };
    let measured = |work_ms| Measurement {
        derivation: path("a.drv"),
        name: "a-1".into(),
        kind: Kind::Heavy,
        is_emulated: true,
        work_ms,
        memory_bytes: 3 << 30,
    };
    let mut entries = vec![Entry::Fact(Fact::Bound(binding.clone())), Entry::PlanAdmitted(plan(3))];
    entries.extend([5, 3].map(|work_ms| Entry::Fact(Fact::Measured(measured(work_ms)))));
    let [x, y] = ["x", "y"].map(|name| ExecutorName(name.into()));
    entries.extend([Entry::ExecutorMet(x.clone()), Entry::ExecutorMet(y.clone()), Entry::ExecutorGone(x)]);
    journal.append(entries).await.unwrap();
    drop(journal);
    thread.join();
    let (_journal, _thread, recorded) = open(directory.path()).unwrap();
    assert_eq!(recorded.executors, [y]);
    assert_eq!((recorded.run, recorded.bindings), (9, vec![binding]));
    assert_eq!(recorded.measurements, [measured(5), measured(3)], "oldest first");
    assert_eq!(recorded.plans.iter().map(|plan| plan.position).collect::<Vec<_>>(), [1, 2, 4]);
}

#[tokio::test]
async fn what_version_4_measured_is_read_without_memory() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap().0);
    write_raw(
        directory.path(),
        "DROP TABLE plan_tasks;
         ALTER TABLE measurements DROP COLUMN memory_bytes;
         INSERT INTO measurements (derivation, name, kind, is_emulated, work_ms) VALUES ('/nix/store/a', 'a', 'heavy', 1, 7);
         PRAGMA user_version = 4;",
    );
    let (_journal, _thread, recorded) = open(directory.path()).unwrap();
    let measured: Vec<_> = recorded.measurements.iter().map(|one| (one.work_ms, one.memory_bytes)).collect();
    assert_eq!(measured, [(7, 0)]);
}

#[tokio::test]
async fn a_journal_that_is_not_understood_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    write_raw(directory.path(), VERSION_1);
    // Of a later program.
    write_raw(directory.path(), "PRAGMA user_version = 99");
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, JournalError::Version { found: 99, known: 6, .. }), "{error}");
    // An earlier one that holds what it never wrote.
    write_raw(
        directory.path(),
        "PRAGMA user_version = 1; UPDATE holders SET holder = 'somebody' WHERE holder = 'executor x'",
    );
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, JournalError::Damaged { table: "holders", .. }), "{error}");
    // One whose tables are not there, as after a torn copy.
    write_raw(directory.path(), "PRAGMA user_version = 1; DROP TABLE plans");
    assert!(open(directory.path()).is_err());
    // Half of a migration that never committed is none.
    let other = tempfile::tempdir().unwrap();
    write_raw(other.path(), VERSION_1);
    write_raw(other.path(), "CREATE TABLE bindings (domain TEXT) STRICT");
    assert!(matches!(open(other.path()).unwrap_err(), JournalError::Open { .. }));
}

/// A derivation that needs others.
fn derivation(name: &str, inputs: &[&str]) -> Entry {
    let input = |input: &&str| format!("(\"{}\",[\"out\"])", path(input).as_str());
    let inputs = inputs.iter().map(input).collect::<Vec<_>>().join(",");
    let output = path(name.trim_end_matches(".drv"));
    let text = format!(
        "Derive([(\"out\",\"{output}\",\"\",\"\")],[{inputs}],[],\"x86_64-linux\",\"/bin/sh\",[],[(\"out\",\"{output}\")])"
    );
    Entry::Derivation { path: path(name), text: text.into_bytes().into(), modulo: ModuloHash([3; 32]) }
}

fn content(name: &str, references: &[&str]) -> Entry {
    let references = references.iter().map(|name| id(name)).collect();
    Entry::Content { id: id(name), facts: facts(1), references }
}

#[tokio::test]
async fn what_nobody_needs_is_forgotten_when_the_journal_has_outgrown_its_limits() {
    let directory = tempfile::tempdir().unwrap();
    let bound = |derivation: &str, to: &str| {
        let promise = ContentId { path: StorePath::promised(&path(derivation), "out"), ..id("a") };
        Binding { promise, to: id(to) }
    };
    let wanted = AdmittedPlan { tasks: vec![id("c.drv")], ..plan(1) };
    let executor = Holder::Executor(ExecutorName("x".into()));
    let mut entries = vec![
        derivation("a.drv", &[]),
        derivation("unneeded.drv", &["a.drv"]),
        derivation("b.drv", &["a.drv"]),
        derivation("c.drv", &["b.drv"]),
        content("referred", &[]),
        content("nobodys", &["referred"]),
        content("held", &["referred"]),
        Entry::PlanAdmitted(wanted),
    ];
    let held = Fact::Held(id("held"), executor);
    let bindings = [bound("c.drv", "held"), bound("b.drv", "nobodys"), bound("unneeded.drv", "held")];
    entries.extend([held, failed("c.drv"), failed("unneeded.drv")].map(Entry::Fact));
    entries.extend(bindings.map(|binding| Entry::Fact(Fact::Bound(binding))));
    entries.extend([derivation("new.drv", &[]), content("new", &[])]);
    drop(record(directory.path(), entries).await);

    let mut database = super::schema::open(&directory.path().join(FILE_NAME)).unwrap();
    let mut recorded = super::read::recorded(&database).unwrap();
    // Five derivations and four contents are not twice as many as these.
    let large = Limits { derivations: 3, contents: 2 };
    super::compact::compact(&mut database, &mut recorded, large);
    assert_eq!((recorded.derivations.len(), recorded.contents.len()), (5, 4));
    super::compact::compact(&mut database, &mut recorded, Limits { derivations: 1, contents: 1 });
    let again = super::read::recorded(&database).unwrap();
    for recorded in [recorded, again] {
        let derivations: Vec<_> = recorded.derivations.into_iter().map(|(path, ..)| path).collect();
        assert_eq!(derivations, ["a.drv", "b.drv", "c.drv", "new.drv"].map(path));
        let contents: Vec<_> = recorded.contents.into_iter().map(|(id, ..)| id).collect();
        assert_eq!(contents, ["referred", "held", "new"].map(id));
        assert_eq!(recorded.bindings, [bound("c.drv", "held")]);
        let failures: Vec<_> = recorded.failures.into_iter().map(|failure| failure.task).collect();
        assert_eq!(failures, [id("c.drv")]);
        assert_eq!((recorded.holders.len(), recorded.plans.len()), (1, 1));
    }
}
