//! Ways out of the sandbox, each tried and refused, with the real launcher as root and unprivileged.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing test")]
mod kit;

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command};

use kit::{BUSYBOX, Bench, USERS, User};
use sandbox::probe::find_in_path;
use sandbox::protocol::End;
use sandbox::spec::{Entry, Network, Request};

/// Where the program of attempts is, inside.
const PROGRAM: &str = "/nix/store/11111111111111111111111111111111-escape";

/// A process of the host that runs as somebody.
struct Victim(Child);

impl Victim {
    fn of(user: u32) -> Self {
        let ids = [format!("--reuid={user}"), format!("--regid={user}")];
        Self(Command::new("setpriv").args(ids).args(["--clear-groups", "sleep", "300"]).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _dead = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A bench of a user with ids of its own.
fn bench(user: User, first_id: u32) -> Bench {
    Bench::with_ids(user, "amd64", if user == User::Root { first_id } else { first_id + 20 })
}

/// The program of attempts, compiled.
fn escape(bench: &Bench) -> PathBuf {
    let program = bench.path("escape");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/escape.c");
    let compiled = Command::new("gcc").args(["-O1", "-static", "-o"]).arg(&program).arg(source).status();
    assert!(compiled.unwrap().success(), "gcc is missing or fails: run `cargo xtask setup`");
    program
}

#[test]
fn system_calls_lead_nowhere() {
    for user in USERS {
        let bench = bench(user, 750_000);
        let program = escape(&bench);
        // What an earlier build of the same slot left would be like this.
        let mut victim = Victim::of(bench.build_ids().user);
        let name = format!("elsewhere-escape-{}-{user:?}", std::process::id());
        let _listens = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let mut spec = bench.spec(&format!("{PROGRAM} {} {name}", victim.0.id()));
        spec.entries.push(Entry::bind(PROGRAM, program));
        let outcome = bench.run(spec);
        let expected = "trace a host's process: ESRCH\nread its memory: ESRCH\nopen a handle of it: ESRCH\n\
                        end it: ESRCH\nspeak to an abstract socket: ECONNREFUSED\nopen by handle: EPERM\n\
                        make a memory device: EPERM\nmake a disk device: EPERM\nbecome root: EINVAL\n\
                        become the executor: EINVAL\nmount: EPERM\nopen a file system: EPERM\ncopy a mount: EPERM\n\
                        unmount: EPERM\npush to the terminal: EPERM\nset the clock: EPERM\nswitch off: EPERM\n\
                        load a module: EPERM\nread the kernel's log: EPERM\nchange the host's name: EPERM\n";
        assert!(outcome.log.starts_with(expected), "{user:?}: {}", outcome.log);
        assert!(victim.lives(), "{user:?}: a process of the host was ended");
    }
}

/// Whatever network a build has: it is the host's where nothing else works.
#[test]
fn no_network_has_the_hosts_abstract_sockets() {
    let slirp = find_in_path("slirp4netns").expect("slirp4netns is missing: run `cargo xtask setup`");
    let joined = Network::Joined { program: slirp.as_path().into() };
    for user in USERS {
        // Another network has no such name; in the same one, Landlock is in the way.
        for (network, refusal) in
            [(Network::Isolated, "ECONNREFUSED"), (joined.clone(), "ECONNREFUSED"), (Network::Host, "EPERM")]
        {
            let bench = bench(user, 755_000);
            let program = escape(&bench);
            if user == User::Executor {
                bench.replace_tun(kit::EXECUTOR, 0o600);
            }
            let name = format!("elsewhere-network-{}-{user:?}", std::process::id());
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            let _listens = UnixListener::bind_addr(&address).unwrap();
            // It is there to be reached.
            UnixStream::connect_addr(&address).unwrap();
            let mut spec = bench.spec(&format!("{PROGRAM} 1000000 {name}"));
            spec.entries.push(Entry::bind(PROGRAM, program));
            spec.network = network.clone();
            let outcome = bench.run(spec);
            let expected = format!("\nspeak to an abstract socket: {refusal}\n");
            assert!(outcome.log.contains(&expected), "{user:?} {network:?} {outcome:?}");
        }
    }
}

#[test]
fn nothing_outside_is_there_to_be_read() {
    for user in USERS {
        let bench = bench(user, 760_000);
        let (key, store) = (bench.path("key"), bench.path("store"));
        fs::create_dir(&store).unwrap();
        for file in [key.clone(), store.join("path")] {
            fs::write(&file, "secret of the executor").unwrap();
            // Even if everybody may read it.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let directory = bench.directory.path().display().to_string();
        let outcome = bench.script(&format!(
            "cd /; echo *; cat {directory}/key {directory}/store/path /etc/shadow 2>/dev/null
             for from in /proc/1/root /proc/self/root /proc/1/cwd / /build/../.. /nix/store/../../.. \
               /dev/fd/../../..; do cat $from/{directory}/key $from/../../../../../{directory}/key 2>/dev/null; done
             echo /proc/[0-9]*; cat /proc/1/environ | grep -c ELSEWHERE; ls /sys /home /root /var 2>/dev/null
             find / -xdev -name '*key*' -not -path '/proc/*' 2>/dev/null; dmesg 2>/dev/null
             grep -c {directory}/key /proc/self/mountinfo"
        ));
        assert_eq!(outcome.log, "build dev etc nix proc tmp\n/proc/1\n0\n0\n", "{user:?}");
    }
}

/// A user namespace of the build's own makes it root there: over nothing of ours.
#[test]
fn being_root_in_a_namespace_of_its_own_does_not_help() {
    for user in USERS {
        let bench = bench(user, 770_000);
        let outcome = bench.script(&format!(
            "unshare -U -r -m sh -c 'id -u
               for try in \"chmod 777 {BUSYBOX}/bin\" \"touch {BUSYBOX}/bin/busybox\" \"chown 0 {BUSYBOX}/bin\" \
                 \"rm -f {BUSYBOX}/bin/sh\" \"umount {BUSYBOX}\" \"umount /build\" \"mount -o remount,rw {BUSYBOX}\" \
                 \"mknod /build/mem c 1 1\" \"chown 1 /build\" \"mount -t proc proc /proc/1/root\" \"mkdir /made\" \
                 \"chroot /proc/1/root/../.. cat /etc/shadow\" \"hostname x\"
               do $try >/dev/null 2>&1 && echo \"$try works\"; done; true' || echo no namespace
             [ -x {BUSYBOX}/bin/busybox ] && echo still there"
        ));
        let is_refused =
            outcome.log == "0\nstill there\n" || outcome.log.contains("no namespace\nstill there\n");
        assert!(is_refused, "{user:?}: {}", outcome.log);
    }
}

/// Two slots at once: neither sees, stops or reads the other.
#[test]
fn another_slots_build_is_out_of_reach() {
    for user in USERS {
        let (one, other) = (bench(user, 780_000), bench(user, 790_000));
        let spec = one.spec(
            "echo private >/build/file; chmod 777 /build; echo begun; sleep 4; cat /build/file; echo done",
        );
        let running = one.start(&Request::Run(Box::new(spec)));
        let place = one.path("scratch").display().to_string();
        let outcome = other.script(&format!(
            "sleep 1; echo /proc/[0-9]*; cat {place}/file 2>/dev/null; ls {place} 2>/dev/null
             kill -9 -1 2>/dev/null; for id in $(seq 2 400); do kill -9 $id 2>/dev/null && echo killed; done; echo tried"
        ));
        assert_eq!(outcome.log, "/proc/1\ntried\n", "{user:?}");
        let undisturbed = kit::follow(running);
        assert_eq!(undisturbed.log, "begun\nprivate\ndone\n", "{user:?}");
        assert_eq!(undisturbed.finished().end, End::Exit(0));
        // On the host, too: the other's ids may not enter, whatever mode a build gives its own directory.
        let status = fs::metadata(other.path("root")).unwrap();
        assert_ne!(status.uid(), one.build_ids().user);
    }
}

/// Handing back follows no link, and touches nothing that the build does not own.
#[test]
fn links_in_outputs_are_not_followed() {
    for user in USERS {
        let bench = bench(user, 800_000);
        let (key, directory) = (bench.path("key"), bench.path("store"));
        let build = bench.build_ids().user;
        let outcome = {
            bench.fresh();
            fs::create_dir(&directory).unwrap();
            for path in [&key, &directory.join("path")] {
                fs::write(path, "untouched").unwrap();
                // As if it were the build's: only the way to it protects it.
                chown(path, Some(build), Some(build)).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
            }
            bench.run(bench.spec(&format!(
                "mkdir /nix/store/out; cd /nix/store/out; ln -s {key} key; ln -s {store} store; ln -s / root; ln -s . self
                 ln -s ../../.. up; mkdir real; echo x >real/f; ln real/f real/g; ln real/f /build/h 2>/dev/null && echo linked
                 ln {BUSYBOX}/bin/busybox input 2>/dev/null && echo linked an input; ln -s {key} /build/key; ln -s {key} /tmp/key",
                key = key.display(),
                store = directory.display()
            )))
        };
        assert_eq!((outcome.log.as_str(), outcome.finished().end), ("", End::Exit(0)), "{user:?}");
        for path in [key, directory.join("path")] {
            let status = fs::metadata(&path).unwrap();
            let seen = (status.uid(), status.mode() & 0o7777, fs::read(&path).unwrap());
            assert_eq!(seen, (build, 0o640, b"untouched".to_vec()), "{user:?} {}", path.display());
        }
        let link = fs::symlink_metadata(bench.path("root/nix/store/out/key")).unwrap();
        assert!(link.is_symlink() && link.uid() != build, "{user:?}: the link itself is handed back");
    }
}

/// A bomb of processes is over when the sandbox is.
#[test]
fn a_bomb_of_processes_ends_with_its_sandbox() {
    for user in USERS {
        let bench = bench(user, 810_000);
        let mut spec = bench.spec(
            "bomb() { bomb | bomb & }; bomb 2>/dev/null; i=0; while [ $i -lt 50 ]; do sleep 300 & i=$((i+1)); done; sleep 1; echo over",
        );
        // Without cgroups, a limit of the build's user keeps this machine alive.
        spec.limits.push(sandbox::spec::Limit {
            resource: sandbox::spec::Resource::Processes,
            soft: Some(200),
            hard: Some(200),
        });
        let outcome = bench.run(spec);
        assert!(matches!(outcome.finished().end, End::Exit(_) | End::Signal(9)), "{user:?}: {outcome:?}");
        let build = bench.build_ids().user.to_string();
        let left = Command::new("ps").args(["-o", "pid=", "-U", &build]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{user:?}: processes are left");
    }
}
