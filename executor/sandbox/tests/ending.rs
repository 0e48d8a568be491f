//! How a sandbox is ended from outside, and that nothing of it stays, with the real launcher.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing test")]
mod kit;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::Child;
use std::time::{Duration, Instant};

use kit::{Bench, USERS, User, follow};
use sandbox::protocol::{Cause, End, Event, parse_event};
use sandbox::spec::{Reclaim, Request};

/// Long enough for anything here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a build that keeps several processes busy, and waits until they are.
fn busy(bench: &Bench) -> (Child, i32) {
    let script = "trap '' TERM INT HUP; sleep 4000 & setsid sleep 4001 & (trap '' TERM; sleep 4002) & mkdir made; \
                  echo x >/nix/store/out; echo busy; sleep 4003; echo over";
    let mut child = bench.start(&Request::Run(Box::new(bench.spec(script))));
    let mut line = Vec::new();
    // A byte at a time, so that the rest of the events stays in the pipe.
    let mut stderr = BufReader::with_capacity(1, child.stderr.as_mut().unwrap());
    stderr.read_until(b'\n', &mut line).unwrap();
    if parse_event(&line).unwrap() == Event::Taken {
        line.clear();
        stderr.read_until(b'\n', &mut line).unwrap();
    }
    let Event::Started { pid, setup_microseconds } = parse_event(&line).unwrap() else {
        panic!("not started: {}", String::from_utf8_lossy(&line));
    };
    assert!(setup_microseconds > 0);
    let mut first = String::new();
    BufReader::with_capacity(1, child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "busy\n");
    assert!(!processes(bench).is_empty());
    (child, pid)
}

/// Ids of the processes that run as the build.
fn processes(bench: &Bench) -> Vec<u32> {
    let build = bench.build_ids().user;
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let id = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        users.split_whitespace().any(|user| user == build.to_string()).then_some(id)
    });
    all.collect()
}

fn until_nothing_runs(bench: &Bench) {
    let start = Instant::now();
    while !processes(bench).is_empty() {
        assert!(start.elapsed() < PATIENCE, "still there: {:?}", processes(bench));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn closing_its_input_ends_the_sandbox_and_hands_back() {
    for (number, user) in USERS.into_iter().enumerate() {
        let bench = Bench::with_ids(user, "amd64", 710_000 + u32::try_from(number).unwrap() * 10);
        let (mut child, _) = busy(&bench);
        let start = Instant::now();
        drop(child.stdin.take());
        let outcome = follow(child);
        assert!(start.elapsed() < PATIENCE);
        assert_eq!(outcome.finished().cause, Cause::Cancelled, "{outcome:?}");
        assert_eq!(outcome.finished().end, End::Signal(9));
        assert_eq!(processes(&bench), Vec::<u32>::new(), "the launcher ended before its processes");
        for made in ["scratch/made", "root/nix/store/out"] {
            assert_ne!(std::fs::metadata(bench.path(made)).unwrap().uid(), bench.build_ids().user, "{made}");
        }
    }
}

#[test]
fn a_killed_launcher_takes_the_sandbox_with_it_and_its_files_can_be_reclaimed() {
    for (number, user) in USERS.into_iter().enumerate() {
        let bench = Bench::with_ids(user, "amd64", 720_000 + u32::try_from(number).unwrap() * 10);
        let (mut child, _) = busy(&bench);
        // With exec all the way, this is the launcher itself.
        child.kill().unwrap();
        child.wait().unwrap();
        until_nothing_runs(&bench);
        let made = bench.path("scratch/made");
        assert_eq!(std::fs::metadata(&made).unwrap().uid(), bench.build_ids().user);
        let paths = ["scratch", "root", "missing"].map(|name| bench.path(name).into()).into();
        let outcome = follow(bench.start(&Request::Reclaim(Reclaim { host_ids: bench.build_ids(), paths })));
        assert_eq!(outcome.events, [Event::Reclaimed]);
        let own = if user == User::Root { 0 } else { 990 };
        for path in [made, bench.path("root/nix/store/out"), bench.path("root"), bench.path("scratch")] {
            assert_eq!(std::fs::metadata(&path).unwrap().uid(), own, "{}", path.display());
        }
    }
}

#[test]
fn a_killed_process_1_is_the_builds_own_end() {
    let bench = Bench::with_ids(User::Executor, "amd64", 730_000);
    let (child, pid) = busy(&bench);
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let outcome = follow(child);
    assert_eq!(outcome.finished().end, End::Signal(9));
    // The kernel ends the others before process 1: the log may be seen closed first.
    let cause = outcome.finished().cause;
    assert!(matches!(cause, Cause::Itself | Cause::LogClosed), "{cause:?}");
    assert_eq!(processes(&bench), Vec::<u32>::new());
}

#[test]
fn an_executor_that_does_not_read_holds_the_build_up_without_losing_anything() {
    let bench = Bench::with_ids(User::Root, "amd64", 740_000);
    let spec = bench.spec("seq 1 100000; echo $? >/build/done");
    let child = bench.start(&Request::Run(Box::new(spec)));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!bench.path("scratch/done").exists(), "pipe and terminal cannot hold half a megabyte");
    let outcome = follow(child);
    assert!(outcome.log.ends_with("\n99999\n100000\n"));
    assert_eq!(outcome.log.lines().count(), 100_000);
}

#[test]
fn what_cannot_be_made_is_a_failure_with_its_step_and_path() {
    for user in USERS {
        let bench = Bench::new(user, "amd64");
        let mut spec = bench.spec("echo never");
        spec.entries.push(sandbox::spec::Entry::bind("/nix/store/none", "/nowhere/at/all"));
        let outcome = bench.run(spec);
        let [Event::Failed { step, path, message }] = &outcome.events[..] else { panic!("{outcome:?}") };
        assert_eq!((step.as_str(), path.as_str()), ("find bind source", "/nowhere/at/all"));
        assert!(message.contains("No such file"), "{message}");
        assert_eq!(outcome.log, "");
        // What was made for it is not the build's any more.
        let own = if user == User::Root { 0 } else { 990 };
        assert_eq!(std::fs::metadata(bench.path("scratch")).unwrap().uid(), own);

        let mut spec = bench.spec("echo never");
        spec.host_ids.user = own;
        let outcome = bench.run(spec);
        assert!(
            matches!(&outcome.events[..], [Event::Failed { message, .. }] if message.contains("subordinate")),
            "{outcome:?}"
        );
        assert!(!outcome.status.success());
    }
}

#[test]
fn ids_that_are_not_the_executors_to_give_are_refused_by_newuidmap() {
    let bench = Bench::new(User::Executor, "amd64");
    let mut spec = bench.spec("echo never");
    spec.host_ids.user = 12_345;
    let outcome = bench.run(spec);
    let [Event::Failed { step, path, message }] = &outcome.events[..] else { panic!("{outcome:?}") };
    assert_eq!((step.as_str(), path.as_str()), ("map ids with", "newuidmap"));
    assert!(message.contains("not allowed"), "{message}");
}
