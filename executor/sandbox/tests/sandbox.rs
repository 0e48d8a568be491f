//! What a program sees in the sandbox and what it cannot do there, with the real launcher, as root and unprivileged.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing test")]
mod kit;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kit::{BUSYBOX, Bench, USERS, User};
use sandbox::protocol::{Cause, End, Event};

/// Runs a script as both users and compares what it prints.
fn check(script: &str, expected: &str) {
    for user in USERS {
        let outcome = Bench::new(user, "amd64").script(script);
        assert_eq!(outcome.log, expected, "{user:?}: {script}\n{:?}", outcome.events);
        assert_eq!(outcome.finished().end, End::Exit(0), "{user:?}");
        assert!(outcome.status.success());
    }
}

#[test]
fn identity_is_that_of_a_nix_build() {
    check(
        "id -u; id -g; id -G; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; cat /proc/self/setgroups
         echo $$; grep -E '^(PPid|NSsid|NoNewPrivs|Seccomp|CapEff|CapPrm)' /proc/1/status; umask
         cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname /proc/1/personality; pwd",
        // The middle column is the build's id in the namespace around it.
        "1000\n100\n100\n 1000 1 1\n 100 1 1\ndeny\n\
         1\nPPid:\t0\nNSsid:\t1\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
         Seccomp_filters:\t1\n0022\nlocalhost\n(none)\n00040000\n/build\n",
    );
}

#[test]
fn the_environment_is_in_the_given_order_and_nothing_else() {
    let environment = format!("Z=last letter first\0PATH={BUSYBOX}/bin\0A=x\0").replace('\0', "\n");
    check(
        "tr '\\0' '\\n' </proc/1/environ; tr '\\0' ' ' </proc/1/cmdline | head -c 5; ls -1 /proc/1/fd; true",
        &format!("{environment}sh -c0\n1\n2\n"),
    );
}

#[test]
fn the_log_is_a_raw_terminal() {
    check(
        "[ -t 1 ] && [ -t 2 ] && ! [ -t 0 ] && echo terminal
         stty -a <&2 2>/dev/null | tr ' ;' '\\n\\n' | grep -x -e -opost -e -icanon -e -echo -e -isig | sort
         grep flags /proc/self/fdinfo/1; stat -L -c '%a %u %g' /proc/self/fd/1
         echo reopened >/dev/stderr; (echo none >/dev/tty) 2>/dev/null || echo no controlling terminal
         cat; printf 'no line feed'",
        "terminal\n-echo\n-icanon\n-isig\n-opost\nflags:\t0100002\n600 1000 65534\nreopened\nno controlling terminal\nno line feed",
    );
}

#[test]
fn the_root_holds_what_was_asked_for() {
    check(
        "stat -c '%n %a %u %g' / /build /build/given /dev /dev/shm /dev/pts /dev/pts/ptmx /etc /nix/store /tmp /proc/1
         cd /; echo *; cat /build/given; mkdir /made 2>&1; mkdir /etc/made 2>&1; echo x >/tmp/a; mkdir /nix/store/out
         grep -c ' /nix/store .* shared:' /proc/self/mountinfo; ls /proc/sys/fs/binfmt_misc; ls -d /proc/[0-9]*",
        "/ 750 65534 100\n/build 700 1000 100\n/build/given 644 1000 100\n/dev 755 65534 65534\n/dev/shm 1777 65534 65534\n\
         /dev/pts 755 65534 65534\n/dev/pts/ptmx 666 65534 65534\n/etc 555 65534 65534\n/nix/store 1775 65534 100\n\
         /tmp 1777 65534 65534\n/proc/1 555 1000 100\nbuild dev etc nix proc tmp\ngiven\n\
         mkdir: can't create directory '/made': Permission denied\n\
         mkdir: can't create directory '/etc/made': Permission denied\n1\n/proc/1\n",
    );
}

/// An executor keeps roots. Whatever else might be there under a wanted name is made anew, and nothing behind it touched.
#[test]
fn a_root_that_is_there_becomes_what_was_asked_for() {
    let script = "cd /; echo *; echo /dev/* /nix/store/*; cat /build/given; readlink /dev/fd; echo >/dev/null; ls -l /dev/null | cut -c1-10
                  find / -xdev -mmin +1";
    for user in USERS {
        let bench = Bench::new(user, "amd64");
        let new = bench.script(script);
        assert_eq!(new.finished().end, End::Exit(0), "{user:?}: {new:?}");
        let old = std::process::Command::new("find")
            .arg(bench.path("root"))
            .args(["-exec", "touch", "-hd", "@1", "{}", "+"])
            .status();
        assert!(old.unwrap().success());
        let again = bench.run(bench.spec(script));
        assert_eq!(again.log, new.log, "{user:?}: {:?}", again.events);

        let root = |path: &str| bench.path("root").join(path);
        let precious = bench.path("precious");
        fs::write(&precious, "precious\n").unwrap();
        fs::remove_dir(root("tmp")).unwrap();
        fs::write(root("tmp"), "a file").unwrap();
        fs::remove_file(root("dev/null")).unwrap();
        fs::create_dir(root("dev/null")).unwrap();
        fs::remove_file(root("dev/zero")).unwrap();
        std::os::unix::fs::symlink(&precious, root("dev/zero")).unwrap();
        fs::remove_file(root("dev/fd")).unwrap();
        std::os::unix::fs::symlink("/etc", root("dev/fd")).unwrap();
        fs::remove_dir(bench.path("root").join(&BUSYBOX[1..])).unwrap();
        std::os::unix::fs::symlink(bench.directory.path(), root(&BUSYBOX[1..])).unwrap();
        fs::remove_file(bench.path("scratch/given")).unwrap();
        fs::hard_link(&precious, bench.path("scratch/given")).unwrap();
        let mended = bench.run(bench.spec(script));
        assert_eq!(mended.log, new.log, "{user:?}: {:?}", mended.events);
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious\n");
        assert_eq!(fs::metadata(&precious).unwrap().uid(), 0, "{user:?}");

        fs::remove_dir(root("tmp")).unwrap();
        fs::create_dir_all(root("etc/group/x")).unwrap();
        let mut spec = bench.spec(script);
        spec.entries.push(sandbox::spec::Entry::bind("/etc/group", "/etc/group"));
        let refused = bench.run(spec);
        let failed = refused.events.iter().find(|event| matches!(event, Event::Failed { .. }));
        assert!(failed.is_some(), "{user:?}: a directory that holds something is not removed: {refused:?}");
        assert!(root("etc/group/x").exists());
    }
}

#[test]
fn there_is_a_loopback_and_no_other_network() {
    check(
        "ip -o link | grep -c . ; ip -o addr | grep -o -e '127.0.0.1/8' -e '::1/128'
         nc -l -p 5 127.0.0.1 2>/dev/null; ping -c 1 -w 1 10.0.0.1 >/dev/null 2>&1 || echo nobody",
        "1\n127.0.0.1/8\n::1/128\nnobody\n",
    );
}

#[test]
fn inputs_cannot_be_changed() {
    check(
        &format!(
            "cd {BUSYBOX}; stat -c %u .; for try in 'touch bin/busybox' 'chmod 777 bin' 'rm bin/sh' 'mv bin b' \
             'rm -rf {BUSYBOX}' 'chown 1000 bin'; do $try 2>/dev/null && echo \"$try works\"; done
             (echo >bin/busybox) 2>/dev/null && echo written; ln bin/busybox /tmp/x 2>/dev/null && echo linked
             umount {BUSYBOX} 2>/dev/null && echo unmounted; mount -t tmpfs none /tmp 2>/dev/null && echo mounted
             [ -x bin/busybox ] && echo still there"
        ),
        "65534\nstill there\n",
    );
}

#[test]
fn set_id_bits_and_attributes_are_refused() {
    check(
        "touch f; for mode in 4755 2755 6755; do chmod $mode f 2>&1; done; chmod 1755 f; stat -c %a f",
        "chmod: f: Operation not permitted\nchmod: f: Operation not permitted\nchmod: f: Operation not permitted\n1755\n",
    );
}

#[test]
fn process_1_is_deaf_to_its_own_signals_and_its_end_ends_all() {
    check(
        "kill -9 $$; kill -TERM $$; echo alive; sleep 1000 & (setsid sleep 1000 &) ; echo done",
        "alive\ndone\n",
    );
}

#[test]
fn what_cannot_be_executed_is_logged_as_nix_does() {
    for user in USERS {
        let bench = Bench::new(user, "amd64");
        let mut spec = bench.spec("");
        spec.command.program = "/nix/store/missing/bin/sh".into();
        let outcome = bench.run(spec);
        let expected = "\x1b[31;1merror:\x1b[0m executing '\x1b[35;1m/nix/store/missing/bin/sh\x1b[0m': \x1b[35;1mNo such file or directory\x1b[0m";
        assert_eq!(outcome.log, expected);
        assert_eq!(outcome.finished().end, End::Exit(1));
    }
}

#[test]
fn codes_and_signals_are_told_apart() {
    let cases = [
        ("exit 3", End::Exit(3), Cause::Itself),
        ("exec >/dev/null 2>&1; sleep 1; exit 3", End::Signal(9), Cause::LogClosed),
        ("exec >&- 2>&-; exit 4", End::Exit(4), Cause::Itself),
    ];
    for user in USERS {
        let bench = Bench::new(user, "amd64");
        for (script, end, cause) in cases {
            // A shell that exits at once may do so before or after its log is seen closed: both are itself.
            let outcome = bench.script(script);
            let finished = outcome.finished();
            let exits_at_once = script.contains("exit 4");
            if exits_at_once && finished.cause == Cause::LogClosed {
                continue;
            }
            assert_eq!((finished.end, finished.cause), (end, cause), "{user:?}: {script}");
        }
    }
}

#[test]
fn no_byte_of_a_long_log_is_lost() {
    for user in USERS {
        let outcome = Bench::new(user, "amd64").script("seq 1 200000");
        let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
        assert!(outcome.log == expected, "{user:?}: {} bytes of {}", outcome.log.len(), expected.len());
    }
}

#[test]
fn owners_are_handed_back() {
    for user in USERS {
        let bench = Bench::new(user, "amd64");
        let outcome = bench.script(
            "mkdir -p /nix/store/out/a/b; cd /nix/store/out; echo x >a/f; ln a/f a/g; ln -s nowhere a/l; chmod 0 a/b a
             mkdir -p /build/x/y /tmp/z; touch /dev/shm/q; chmod 0 /build/x/y /build",
        );
        assert_eq!(outcome.finished().end, End::Exit(0), "{outcome:?}");
        assert!(!outcome.events.iter().any(|event| matches!(event, Event::ForeignOwner { .. })));
        let own = if user == User::Root { 0 } else { 990 };
        for tree in ["root", "scratch"] {
            each_below(&bench.path(tree), &mut |path| {
                let status = fs::symlink_metadata(path).unwrap();
                assert_eq!((status.uid(), status.gid()), (own, own), "{}", path.display());
            });
        }
        assert_eq!(fs::read(bench.path("root/nix/store/out/a/f")).unwrap(), b"x\n");
    }
}

#[test]
fn a_very_deep_tree_is_handed_back() {
    let bench = Bench::new(User::Executor, "amd64");
    // Longer than PATH_MAX, so it is made from the inside out.
    let deep = "cd /build; mkdir tenletters; i=0; while [ $i -lt 600 ]; do mkdir n && mv tenletters n && mv n tenletters \
                || exit 1; i=$((i+1)); done; echo deep";
    let outcome = bench.script(deep);
    assert_eq!(outcome.log, "deep\n");
    assert_eq!(outcome.finished().end, End::Exit(0));
    let owned =
        std::process::Command::new("find").arg(bench.path("scratch")).args(["!", "-uid", "990"]).output();
    assert_eq!(owned.unwrap().stdout, b"");
}

#[test]
fn an_object_that_the_build_does_not_own_is_reported() {
    let bench = Bench::new(User::Executor, "amd64");
    let mut spec = bench.spec("mkdir -p /nix/store/out/deep; touch /nix/store/out/deep/own");
    let path = "/nix/store/out/deep/foreign";
    for directory in ["/nix/store/out", "/nix/store/out/deep"] {
        spec.entries.push(sandbox::spec::Entry::Directory {
            path: directory.into(),
            mode: 0o755,
            owner: sandbox::spec::Owner::Build,
        });
    }
    spec.entries.push(sandbox::spec::Entry::Symlink {
        path: path.into(),
        target: "x".into(),
        owner: sandbox::spec::Owner::Executor,
    });
    let outcome = bench.run(spec);
    let expected = Event::ForeignOwner {
        tree: bench.path("root/nix/store/out").display().to_string(),
        path: "deep/foreign".into(),
    };
    assert!(outcome.events.contains(&expected), "{outcome:?}");
}

fn each_below(path: &Path, check: &mut dyn FnMut(&Path)) {
    check(path);
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            each_below(&entry.unwrap().path(), check);
        }
    }
}
