//! Launchers that wait for their build: what they see, how they end without one, and what they refuse.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing test")]
mod kit;

use std::io::{BufRead, BufReader, Write};
use std::process::Child;
use std::time::{Duration, Instant};

use kit::{Bench, USERS, User, follow};
use sandbox::protocol::{Event, write_request};
use sandbox::spec::{Entry, Reclaim, Request};

/// Long enough for anything here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a launcher that waits may cost, in bytes.
const MEMORY_BYTES_MAX: u64 = 1 << 20;

/// The process and its children, and theirs.
fn family(id: u32) -> Vec<u32> {
    let path = format!("/proc/{id}/task/{id}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let children = children.split_whitespace().map(|child| child.parse().unwrap());
    std::iter::once(id).chain(children.flat_map(family)).collect()
}

/// Starts a launcher and waits until it has done all that there is to do without a build.
fn waiting(bench: &Bench) -> (Child, Vec<u32>) {
    let child = bench.start_with(&[&bench.prepare()]);
    let family = until_ready(child.id());
    (child, family)
}

/// A launcher and its supervisor, once that has the namespaces, which come last.
fn until_ready(launcher: u32) -> Vec<u32> {
    let start = Instant::now();
    loop {
        let family = family(launcher);
        let has_all = |id: &u32| opened(*id).iter().any(|path| path.starts_with("ipc:["));
        if family.len() == 2 && has_all(&family[1]) {
            return family;
        }
        assert!(start.elapsed() < PATIENCE, "it does not wait: {family:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn opened(id: u32) -> Vec<String> {
    let Ok(all) = std::fs::read_dir(format!("/proc/{id}/fd")) else { return Vec::new() };
    let target = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.ok()?.path()).ok();
    all.filter_map(target).map(|target| target.display().to_string()).collect()
}

fn is_alive(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

fn until_dead(family: &[u32]) {
    let start = Instant::now();
    while family.iter().any(|id| is_alive(*id)) {
        assert!(start.elapsed() < PATIENCE, "still there: {family:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_build_of_one_that_waited_is_like_any_other() {
    let script = "id; cat /proc/self/uid_map; tr '\\0' '\\n' </proc/1/environ; ls -1 /proc/1/fd; cat /proc/net/dev | cut -d: -f1
                  readlink /proc/self/ns/user | cut -d[ -f1; stat -L -c '%a %u %g' /proc/self/fd/1; echo x >/nix/store/out";
    for user in USERS {
        let bench = Bench::new(user, "amd64");
        let run = Request::Run(Box::new(bench.spec(script)));
        let at_once = follow(bench.start_with(&[&run]));
        bench.fresh();
        let (mut child, _) = waiting(&bench);
        write_request(child.stdin.as_mut().unwrap(), &run).unwrap();
        let waited = follow(child);
        assert!(at_once.log.contains("uid=1000"), "{at_once:?}");
        assert_eq!(waited.log, at_once.log, "{user:?}");
        assert_eq!(waited.finished().end, at_once.finished().end);
        assert!(waited.status.success());
    }
}

/// Only the machine's root can mount there: a disk that is plugged in while a launcher waits.
#[test]
fn what_the_host_mounts_meanwhile_is_seen() {
    let bench = Bench::new(User::Root, "amd64");
    let disk = bench.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let shell = |script: &str| {
        let status =
            std::process::Command::new("sh").args(["-ec", script, "sh"]).arg(&disk).status().unwrap();
        assert!(status.success(), "{script}: {status}");
    };
    shell("mount -t tmpfs disk \"$1\"; mount --make-shared \"$1\"; mkdir \"$1/inner\"");
    let (mut child, _) = waiting(&bench);
    shell("mount -t tmpfs inner \"$1/inner\"; echo there >\"$1/inner/file\"");
    let mut spec = bench.spec("cat /nix/store/inner/file");
    spec.entries.push(Entry::bind("/nix/store/inner", disk.join("inner")));
    write_request(child.stdin.as_mut().unwrap(), &Request::Run(Box::new(spec))).unwrap();
    let outcome = follow(child);
    shell("umount \"$1/inner\" \"$1\"");
    assert_eq!(outcome.log, "there\n", "{outcome:?}");
}

#[test]
fn the_end_of_the_pipe_or_of_the_launcher_leaves_nothing() {
    for user in USERS {
        let bench = Bench::new(user, "amd64");
        let (mut child, family) = waiting(&bench);
        // As when its executor is killed: then the kernel closes all pipes.
        drop(child.stdin.take());
        let outcome = follow(child);
        assert!(outcome.status.success() && outcome.events.is_empty(), "{outcome:?}");
        until_dead(&family);

        let (mut child, family) = waiting(&bench);
        child.kill().unwrap();
        child.wait().unwrap();
        until_dead(&family);

        // The supervisor alone: the launcher says so.
        let (mut child, family) = waiting(&bench);
        let supervisor = rustix::process::Pid::from_raw(family[1].try_into().unwrap()).unwrap();
        let input = child.stdin.take();
        rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
        let outcome = follow(child);
        drop(input);
        assert!(matches!(&outcome.events[..], [Event::Failed { .. }]), "{outcome:?}");
        until_dead(&family);
    }
}

#[test]
fn what_is_not_its_build_is_refused_before_anything_is_done() {
    for user in USERS {
        let bench = Bench::new(user, "amd64");
        let mut other = bench.spec("echo never");
        other.host_ids.user += 1;
        let mut other_inside = bench.spec("echo never");
        other_inside.inside_ids.group += 1;
        let reclaim = Reclaim { host_ids: bench.build_ids(), paths: vec![bench.path("scratch").into()] };
        for request in [
            Request::Run(Box::new(other)),
            Request::Run(Box::new(other_inside)),
            Request::Reclaim(reclaim),
            bench.prepare(),
        ] {
            let outcome = follow(bench.start_with(&[&bench.prepare(), &request]));
            assert!(matches!(&outcome.events[..], [Event::Failed { .. }]), "{request:?}: {outcome:?}");
            assert_eq!(outcome.log, "");
        }
        for bytes in [&[0xff_u8; 8][..], b"\x02\0\0\0\0\0\0\0{]", b"\x02\0\0"] {
            let (mut child, family) = waiting(&bench);
            child.stdin.take().unwrap().write_all(bytes).unwrap();
            let outcome = follow(child);
            assert!(matches!(&outcome.events[..], [Event::Failed { .. }]), "{bytes:?}: {outcome:?}");
            until_dead(&family);
        }
        let mut own = bench.spec("echo never");
        own.host_ids.user = if user == User::Root { 0 } else { kit::EXECUTOR };
        let prepare = sandbox::spec::Prepare { host_ids: own.host_ids, inside_ids: own.inside_ids };
        let outcome = follow(bench.start_with(&[&Request::Prepare(prepare)]));
        let [Event::Failed { message, .. }] = &outcome.events[..] else { panic!("{outcome:?}") };
        assert!(message.contains("subordinate"), "{message}");
    }
}

#[test]
fn it_costs_little_memory() {
    let bench = Bench::new(User::Root, "amd64");
    let (mut child, family) = waiting(&bench);
    let of = |id: &u32| {
        let rollup = std::fs::File::open(format!("/proc/{id}/smaps_rollup")).unwrap();
        let lines = BufReader::new(rollup).lines().map_while(Result::ok);
        let kilobytes = |line: String| {
            // Pages of the program's file are not counted: all launchers share them, and the kernel may drop them.
            let rest = line.strip_prefix("Pss_Anon:")?;
            rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        };
        lines.filter_map(kilobytes).sum::<u64>() << 10
    };
    let bytes = family.iter().map(of).sum::<u64>();
    eprintln!("a launcher that waits has {bytes} bytes");
    assert!(bytes > 0 && bytes < MEMORY_BYTES_MAX, "{bytes}");
    drop(child.stdin.take());
    follow(child);
}
