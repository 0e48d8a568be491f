//! Launchers that wait in a worker's slots: what happens when they die, when the executor dies, and what builds see of them.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing test")]
#[allow(dead_code, reason = "other tests use the rest")]
mod kit;

use kit::{Bench, Built};
use model::{Outcome, Platform, System};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Long enough for anything here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// These tests look at all children of this process.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn build(bench: &Bench, name: &str, script: &str) -> Built {
    let busybox = bench.busybox("amd64");
    let platform = Platform::Native(System("x86_64-linux".into()));
    let built = bench.build(bench.lease(platform, &busybox, name, script)).await;
    assert!(matches!(built.outcome, Outcome::Built(_)), "{name}: {:?}\n{}", built.outcome, built.log);
    built
}

fn children(process: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(thread.ok()?.path().join("children")).ok()
    };
    let all: Vec<String> = threads.filter_map(of_thread).collect();
    all.iter().flat_map(|text| text.split_whitespace()).map(|id| id.parse().unwrap()).collect()
}

/// Whether a process is still there, dead or not.
fn exists(process: u32) -> bool {
    std::path::Path::new(&format!("/proc/{process}")).exists()
}

/// The launcher that waits, and its supervisor, once the supervisor has all there is without a build.
fn waiting() -> [u32; 2] {
    let has_network = |process: u32| {
        let opened = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?;
        let targets = opened.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        Some(targets.into_iter().any(|target| target.to_string_lossy().starts_with("net:[")))
    };
    let start = Instant::now();
    loop {
        if let [launcher] = children(std::process::id())[..]
            && let [supervisor] = children(launcher)[..]
            && has_network(supervisor) == Some(true)
            && children(supervisor).is_empty()
        {
            return [launcher, supervisor];
        }
        assert!(start.elapsed() < PATIENCE, "no launcher waits: {:?}", children(std::process::id()));
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn until_gone(family: &[u32]) {
    let start = Instant::now();
    while family.iter().any(|id| exists(*id)) {
        assert!(start.elapsed() < PATIENCE, "still there: {family:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process.try_into().unwrap()).unwrap(), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_dies_while_it_waits_is_replaced() {
    let _alone = ALONE.lock().await;
    let bench = Bench::new().await;
    build(&bench, "first", "echo >$out").await;
    for process in 0..2 {
        let family = waiting();
        signal(family[process], Signal::KILL);
        tokio::time::sleep(Duration::from_millis(50)).await;
        build(&bench, &format!("after-{process}"), "echo >$out").await;
        until_gone(&family).await;
    }
    // It dies when it was given the build, and has not begun.
    let family = waiting();
    signal(family[1], Signal::STOP);
    let killed = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        signal(family[0], Signal::KILL);
    };
    let (built, ()) = tokio::join!(build(&bench, "last", "echo once; echo >$out"), killed);
    assert_eq!(built.log, "once\n");
    until_gone(&family).await;
}

/// Each build has what its derivation says, and the next has nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_sees_nothing_of_the_one_before() {
    let _alone = ALONE.lock().await;
    let bench = Bench::new().await;
    let script = "tr '\\0' '\\n' </proc/1/environ | grep -v -e ^out= | sort; ls -1 /proc/1/fd; ls -1 /proc | grep -c '^[0-9]'
                  cat /proc/net/dev | tr -s ' '; ls -A /tmp /build /dev/shm; echo >/tmp/left; echo >/dev/shm/left; echo >$out";
    let mut logs = Vec::new();
    for name in ["first-name", "second-name", "third-name"] {
        if !logs.is_empty() {
            waiting();
        }
        logs.push((name, build(&bench, name, script).await.log));
    }
    for (name, log) in &logs {
        assert!(log.contains(&format!("name={name}\n")) && log.contains("\n0\n1\n2\n"), "{log}");
        assert_eq!(log.replace(name, "first-name"), logs[0].1);
    }
}

/// Run by the test below in a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_killed_while_one_waits() {
    if std::env::var_os("EXECUTOR_TEST_IS_KILLED").is_none() {
        return;
    }
    let bench = Bench::new().await;
    build(&bench, "first", "echo >$out").await;
    let [launcher, supervisor] = waiting();
    eprintln!("waiting: {launcher} {supervisor} {}", bench.directory.path().display());
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executor_that_is_killed_leaves_none() {
    let _alone = ALONE.lock().await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "is_killed_while_one_waits"])
        .env("EXECUTOR_TEST_IS_KILLED", "1")
        .env("ELSEWHERE_BIN", kit::launcher().parent().unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let words = lines.filter_map(|line| line.strip_prefix("waiting: ").map(str::to_owned)).next().unwrap();
    let mut words = words.split(' ');
    let family: Vec<u32> = words.by_ref().take(2).map(|id| id.parse().unwrap()).collect();
    assert!(family.iter().all(|id| exists(*id)));
    child.kill().unwrap();
    child.wait().unwrap();
    until_gone(&family).await;
    std::fs::remove_dir_all(words.next().unwrap()).unwrap();
}
