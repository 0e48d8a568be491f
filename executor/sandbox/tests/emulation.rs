//! Foreign programs in the sandbox: private interpreters, the self-contained qemu, its hang, with the real launcher.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing test")]
mod kit;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use kit::{Bench, Outcome, USERS, cached};
use sandbox::binfmt::{Rule, rule_for};
use sandbox::interpreter::self_contained;
use sandbox::protocol::{Cause, End};
use sandbox::spec::Spec;

/// A bench whose busybox is foreign, and the rule that makes it run.
fn emulating(user: kit::User) -> (Bench, Rule) {
    let bench = Bench::new(user, "arm64");
    let qemu = fs::read(cached("qemu/qemu-aarch64")).unwrap();
    let interpreter = bench.path("emulator");
    fs::write(&interpreter, self_contained(&qemu, "cortex-a72").unwrap()).unwrap();
    fs::set_permissions(&interpreter, fs::Permissions::from_mode(0o555)).unwrap();
    let rule = rule_for("aarch64-linux").unwrap().with_interpreter(interpreter);
    (bench, rule)
}

fn emulated(bench: &Bench, rule: &Rule, script: &str) -> Spec {
    let mut spec = bench.spec(script);
    spec.interpreters = vec![rule.clone()];
    spec.emulated = true;
    spec
}

fn run(bench: &Bench, rule: &Rule, script: &str) -> Outcome {
    bench.fresh();
    bench.run(emulated(bench, rule, script))
}

#[test]
fn a_foreign_build_runs_and_sees_nothing_of_the_emulator() {
    for user in USERS {
        let (bench, rule) = emulating(user);
        // The shell is found by argv[0]: the rule keeps it.
        let outcome = run(
            &bench,
            &rule,
            "uname -m; id -u; echo $$; cd /; echo *; ls -A /proc/sys/fs/binfmt_misc; ls / /build /dev /tmp | grep -c qemu
             cat /proc/1/personality; mkdir /nix/store/out; (exit 7) || echo $?; env | grep -c QEMU",
        );
        let expected = "aarch64\n1000\n1\nbuild dev etc nix proc tmp\n0\n00040000\n7\n0\n";
        assert_eq!(outcome.log, expected, "{user:?} {:?}", outcome.events);
        assert!(bench.path("root/nix/store/out").is_dir());
    }
}

#[test]
fn variables_of_the_build_do_not_steer_the_emulator() {
    for user in USERS {
        let (bench, rule) = emulating(user);
        let mut spec = emulated(&bench, &rule, "echo $QEMU_STRACE $QEMU_CPU; busybox echo child");
        for variable in ["QEMU_STRACE=1", "QEMU_CPU=nonsense", "QEMU_LOG=page", "QEMU_VERSION=1"] {
            spec.command.environment.push(variable.into());
        }
        assert_eq!(bench.run(spec).log, "1 nonsense\nchild\n", "{user:?}");
    }
}

#[test]
fn the_filter_holds_for_foreign_programs() {
    let (bench, rule) = emulating(kit::User::Executor);
    let outcome = run(&bench, &rule, "touch f; chmod 4755 f 2>&1; chmod 755 f; stat -c %a f");
    assert_eq!(outcome.log, "chmod: f: Operation not permitted\n755\n");
}

#[test]
fn without_a_rule_foreign_programs_do_not_run() {
    for user in USERS {
        let bench = Bench::new(user, "arm64");
        let outcome = bench.script("echo never");
        assert!(outcome.log.contains("Exec format error"), "{outcome:?}");
        assert_eq!(outcome.finished().end, End::Exit(1));
    }
}

#[test]
fn rules_end_with_their_sandbox() {
    let (bench, rule) = emulating(kit::User::Root);
    assert_eq!(run(&bench, &rule, "echo once").log, "once\n");
    let outcome = bench.script("echo never");
    assert!(outcome.log.contains("Exec format error"), "{outcome:?}");
}

#[test]
fn an_emulator_that_hangs_on_its_own_signal_is_ended() {
    for user in USERS {
        let (bench, rule) = emulating(user);
        for (name, signal) in [("SEGV", 11), ("ABRT", 6)] {
            let outcome = run(&bench, &rule, &format!("echo before; kill -{name} $$; sleep 1; echo after"));
            let finished = outcome.finished();
            assert_eq!(
                (finished.end, finished.cause),
                (End::Signal(signal), Cause::EmulatorHung),
                "{outcome:?}"
            );
            let complaint = format!("before\nqemu: uncaught target signal {signal} (");
            assert!(outcome.log.starts_with(&complaint), "{}", outcome.log);
        }
        let outcome = run(&bench, &rule, "sh -c 'kill -SEGV $$'; echo $?; sleep 1; exit 5");
        assert!(outcome.log.ends_with("\n139\n"), "{}", outcome.log);
        assert_eq!(outcome.finished().end, End::Exit(5));
    }
}
