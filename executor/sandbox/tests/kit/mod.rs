//! Runs the real launcher as root and as an unprivileged executor, on a root file system like that of a build.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failing helper is a failing test")]
#![allow(dead_code, reason = "each test program uses a part")]
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sandbox::protocol::{Event, Finished, parse_event, write_request};
use sandbox::spec::{
    ByteString, Claim, Command, Entry, HandBack, Ids, Limit, Network, Owner, Prepare, Request, Resource, Spec,
};

/// The unprivileged executor's id, and the first of its subordinate ids.
pub const EXECUTOR: u32 = 990;
const SUBORDINATE: u32 = 700_000;
/// What a build sees as its own.
const INSIDE: Ids = Ids { user: 1000, group: 100 };
/// The builder of all tests.
pub const BUSYBOX: &str = "/nix/store/00000000000000000000000000000000-busybox";

/// Who runs the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    Root,
    Executor,
}

pub const USERS: [User; 2] = [User::Root, User::Executor];

/// A directory with a launcher, an input, and places for a root and a scratch directory.
pub struct Bench {
    pub directory: tempfile::TempDir,
    pub user: User,
    first_id: u32,
}

/// What a launcher did; that it has a request after it waited is left out.
#[derive(Debug)]
pub struct Outcome {
    pub log: String,
    pub events: Vec<Event>,
    pub status: ExitStatus,
}

impl Outcome {
    pub fn finished(&self) -> &Finished {
        let found = self.events.iter().find_map(|event| match event {
            Event::Finished(finished) => Some(finished),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("the launcher did not finish: {self:?}"))
    }
}

/// A product of `cargo xtask setup`.
pub fn cached(relative: &str) -> PathBuf {
    let cache = std::env::var_os("ELSEWHERE_CACHE").unwrap_or_else(|| "/var/cache/elsewhere".into());
    let path = Path::new(&cache).join(relative);
    assert!(path.exists(), "{} is missing: run `cargo xtask setup` (as root)", path.display());
    path
}

impl Bench {
    /// With the busybox of an architecture, as Debian calls it.
    pub fn new(user: User, architecture: &str) -> Self {
        Self::with_ids(user, architecture, SUBORDINATE)
    }

    /// With ids that no other test has, for those that look at all processes.
    pub fn with_ids(user: User, architecture: &str, first_id: u32) -> Self {
        assert_eq!(
            rustix::process::geteuid().as_raw(),
            0,
            "this test becomes other users and must be run as root"
        );
        // Not below a temporary directory of root's own: the unprivileged executor must get there.
        let directory = tempfile::Builder::new().prefix("sandbox-").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bench = Self { directory, user, first_id };
        fs::copy(env!("CARGO_BIN_EXE_elsewhere-launcher"), bench.path("launcher")).unwrap();
        fs::create_dir_all(bench.path("input/bin")).unwrap();
        let busybox = bench.path("input/bin/busybox");
        fs::copy(cached(&format!("busybox-{architecture}")), &busybox).unwrap();
        fs::set_permissions(&busybox, fs::Permissions::from_mode(0o555)).unwrap();
        std::os::unix::fs::symlink("busybox", bench.path("input/bin/sh")).unwrap();
        fs::set_permissions(bench.path("input/bin"), fs::Permissions::from_mode(0o555)).unwrap();
        bench.fresh();
        bench.account();
        bench
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    fn own(&self) -> u32 {
        if self.user == User::Root { 0 } else { EXECUTOR }
    }

    pub fn build_ids(&self) -> Ids {
        Ids { user: self.first_id, group: self.first_id + 7 }
    }

    /// An empty root and scratch directory; all of the bench belongs to the executor.
    pub fn fresh(&self) {
        for name in ["root", "scratch"] {
            let _none_yet = fs::remove_dir_all(self.path(name));
            fs::create_dir(self.path(name)).unwrap();
        }
        let status = Process::new("chown")
            .args(["-hR", &format!("{0}:{0}", self.own())])
            .arg(self.directory.path())
            .status();
        assert!(status.unwrap().success());
    }

    /// The files in which newuidmap looks, for a machine that does not know the user.
    fn account(&self) {
        let mut passwd = fs::read_to_string("/etc/passwd").unwrap();
        passwd.push_str(&format!("sandbox-test:x:{EXECUTOR}:{EXECUTOR}::/:/bin/sh\n"));
        fs::write(self.path("passwd"), passwd).unwrap();
        for name in ["subuid", "subgid"] {
            fs::write(self.path(name), format!("{EXECUTOR}:{}:16\n", self.first_id)).unwrap();
            chown(self.path(name), Some(0), Some(0)).unwrap();
        }
    }

    /// A device for networks in place of the machine's, for the unprivileged executor alone to see.
    pub fn replace_tun(&self, owner: u32, mode: u32) {
        let tun = self.path("tun");
        let made = Process::new("mknod").arg(&tun).args(["c", "10", "200"]).status().unwrap();
        assert!(made.success(), "mknod: {made}");
        chown(&tun, Some(owner), Some(0)).unwrap();
        fs::set_permissions(&tun, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn launcher(&self) -> Process {
        let launcher = self.path("launcher");
        if self.user == User::Root {
            return Process::new(launcher);
        }
        let script = "for file in passwd subuid subgid; do mount --bind \"$0/$file\" /etc/$file; done; \
                      [ ! -e \"$0/tun\" ] || mount --bind \"$0/tun\" /dev/net/tun; \
                      exec setpriv --reuid=\"$1\" --regid=\"$1\" --clear-groups \"$2\"";
        let mut command = Process::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script]);
        command.arg(self.directory.path()).arg(EXECUTOR.to_string()).arg(launcher);
        command
    }

    /// Starts a launcher and writes the request; its stdin stays open. The unprivileged executor's builds have a launcher
    /// that waits for them, as almost all have; root's are like the first of a slot.
    pub fn start(&self, request: &Request) -> Child {
        match request {
            Request::Run(spec) if self.user == User::Executor => {
                let prepare = Prepare { host_ids: spec.host_ids, inside_ids: spec.inside_ids };
                self.start_with(&[&Request::Prepare(prepare), request])
            }
            request => self.start_with(&[request]),
        }
    }

    /// Starts a launcher and writes these requests.
    pub fn start_with(&self, requests: &[&Request]) -> Child {
        let pipes = (Stdio::piped(), Stdio::piped(), Stdio::piped());
        let mut command = self.launcher();
        let mut child = command.stdin(pipes.0).stdout(pipes.1).stderr(pipes.2).spawn().unwrap();
        for request in requests {
            // One that refused the first has ended.
            let _ended = write_request(child.stdin.as_mut().unwrap(), request);
        }
        child
    }

    /// What a launcher is told that waits for this bench's builds.
    pub fn prepare(&self) -> Request {
        Request::Prepare(Prepare { host_ids: self.build_ids(), inside_ids: INSIDE })
    }

    pub fn run(&self, spec: Spec) -> Outcome {
        follow(self.start(&Request::Run(Box::new(spec))))
    }

    /// Runs a shell script as the build.
    pub fn script(&self, script: &str) -> Outcome {
        self.fresh();
        self.run(self.spec(script))
    }

    /// A sandbox with what a build has, running a shell script.
    pub fn spec(&self, script: &str) -> Spec {
        Spec {
            root: self.path("root").into(),
            root_mode: 0o750,
            entries: self.entries(),
            shared: vec!["/nix/store".into()],
            command: Command {
                program: format!("{BUSYBOX}/bin/sh").into(),
                arguments: vec!["sh".into(), "-c".into(), script.into()],
                environment: vec![
                    "Z=last letter first".into(),
                    format!("PATH={BUSYBOX}/bin").into(),
                    "A=x".into(),
                ],
                directory: "/build".into(),
            },
            host_ids: self.build_ids(),
            inside_ids: INSIDE,
            host_name: "localhost".into(),
            domain_name: "(none)".into(),
            fixed_addresses: true,
            linux32: false,
            umask: 0o022,
            limits: vec![Limit { resource: Resource::Core, soft: Some(0), hard: None }],
            cgroup: None,
            network: Network::Isolated,
            filter_system_calls: true,
            interpreters: Vec::new(),
            emulated: false,
            hand_back: vec![
                HandBack { path: self.path("root/nix/store/out").into(), check_owner: true },
                HandBack { path: self.path("root").into(), check_owner: false },
                HandBack { path: self.path("scratch").into(), check_owner: false },
            ],
        }
    }

    fn entries(&self) -> Vec<Entry> {
        let directory = |path: &str, mode, owner| Entry::Directory { path: path.into(), mode, owner };
        let mut entries = vec![
            Entry::Bind {
                path: "/build".into(),
                source: self.path("scratch").into(),
                optional: false,
                claim: Some(Claim { mode: 0o700, owner: Owner::Build }),
            },
            Entry::File {
                path: "/build/given".into(),
                contents: ByteString::from("given\n"),
                mode: 0o644,
                owner: Owner::Build,
            },
            directory("/tmp", 0o1777, Owner::Executor),
            Entry::Processes { path: "/proc".into() },
            directory("/dev", 0o755, Owner::Executor),
            Entry::bind("/dev/null", "/dev/null"),
            Entry::bind("/dev/tty", "/dev/tty"),
            Entry::bind("/dev/zero", "/dev/zero"),
            Entry::Terminals { path: "/dev/pts".into() },
            Entry::Memory { path: "/dev/shm".into(), size: "50%".into() },
            directory("/etc", 0o555, Owner::Executor),
            directory("/nix", 0o755, Owner::Executor),
            directory("/nix/store", 0o1775, Owner::ExecutorForBuildGroup),
            Entry::bind(BUSYBOX, self.path("input")),
        ];
        for (name, target) in
            [("fd", "/proc/self/fd"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")]
        {
            let path = format!("/dev/{name}").into();
            entries.push(Entry::Symlink { path, target: target.into(), owner: Owner::Executor });
        }
        entries
    }
}

/// Reads log and events of a launcher to its end.
pub fn follow(child: Child) -> Outcome {
    follow_timed(child).0
}

/// The same, and the time from the last piece of the log to the end.
pub fn follow_timed(mut child: Child) -> (Outcome, Duration) {
    let mut stdout = child.stdout.take().expect("piped").take(64 << 20);
    let reader = std::thread::spawn(move || {
        let (mut log, mut last, mut piece) = (Vec::new(), Instant::now(), [0; 4096]);
        loop {
            match stdout.read(&mut piece).unwrap() {
                0 => return (log, last),
                count => {
                    log.extend_from_slice(&piece[..count]);
                    last = Instant::now();
                }
            }
        }
    });
    let events = bounded(child.stderr.take().expect("piped"));
    let status = child.wait().unwrap();
    let (log, last) = reader.join().unwrap();
    let events = events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let outcome = Outcome {
        log: String::from_utf8_lossy(&log).into_owned(),
        events: events
            .map(|line| parse_event(line).unwrap())
            .filter(|event| *event != Event::Taken)
            .collect(),
        status,
    };
    (outcome, last.elapsed())
}

fn bounded(from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::copy(&mut from.take(64 << 20), &mut bytes).unwrap();
    bytes
}
