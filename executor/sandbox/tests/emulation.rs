//! Foreign programs in the sandbox: private interpreters, the self-contained qemu, its hang, with the real launcher.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing test")]
mod kit;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use kit::{Bench, Outcome, USERS, User, cached, follow_timed};
use sandbox::binfmt::{Rule, rule_for};
use sandbox::interpreter::self_contained;
use sandbox::protocol::{Cause, End};
use sandbox::spec::{Request, Spec};

/// From the last word of an emulator that hangs to the end of its sandbox.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);

/// A foreign system as Nix, Debian, the kernel and qemu call it, and the processor that it shall have.
struct Foreign {
    system: &'static str,
    debian: &'static str,
    machine: &'static str,
    qemu: &'static str,
    model: &'static str,
}

const FOREIGN: [Foreign; 3] = [
    Foreign {
        system: "aarch64-linux",
        debian: "arm64",
        machine: "aarch64",
        qemu: "qemu/qemu-aarch64",
        model: "cortex-a72",
    },
    Foreign {
        system: "armv7l-linux",
        debian: "armhf",
        machine: "armv7l",
        qemu: "qemu/qemu-arm",
        model: "cortex-a7",
    },
    Foreign {
        system: "riscv64-linux",
        debian: "riscv64",
        machine: "riscv64",
        qemu: "qemu/qemu-riscv64",
        model: "sifive-u54",
    },
];

/// A bench whose busybox is foreign, and the rule that makes it run.
fn emulating(user: User, foreign: &Foreign) -> (Bench, Rule) {
    let bench = Bench::new(user, foreign.debian);
    let qemu = fs::read(cached(foreign.qemu)).unwrap();
    let interpreter = bench.path("emulator");
    fs::write(&interpreter, self_contained(&qemu, foreign.model).unwrap()).unwrap();
    fs::set_permissions(&interpreter, fs::Permissions::from_mode(0o555)).unwrap();
    let rule = rule_for(foreign.system).unwrap().with_interpreter(interpreter);
    (bench, rule)
}

/// Both users with each foreign system.
fn everyone() -> impl Iterator<Item = (User, &'static Foreign)> {
    USERS.into_iter().flat_map(|user| FOREIGN.iter().map(move |foreign| (user, foreign)))
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
    for (user, foreign) in everyone() {
        let (bench, rule) = emulating(user, foreign);
        // The shell is found by argv[0]: the rule keeps it.
        let outcome = run(
            &bench,
            &rule,
            "uname -m; id -u; echo $$; cd /; echo *; ls -A /proc/sys/fs/binfmt_misc; ls / /build /dev /tmp | grep -c qemu
             cat /proc/1/personality; mkdir /nix/store/out; (exit 7) || echo $?; env | grep -c QEMU",
        );
        let expected =
            format!("{}\n1000\n1\nbuild dev etc nix proc tmp\n0\n00040000\n7\n0\n", foreign.machine);
        assert_eq!(outcome.log, expected, "{user:?} {:?}", outcome.events);
        assert!(bench.path("root/nix/store/out").is_dir());
    }
}

#[test]
fn variables_of_the_build_do_not_steer_the_emulator() {
    for (user, foreign) in everyone() {
        let (bench, rule) = emulating(user, foreign);
        let mut spec = emulated(&bench, &rule, "echo $QEMU_STRACE $QEMU_CPU; busybox echo child");
        for variable in ["QEMU_STRACE=1", "QEMU_CPU=nonsense", "QEMU_LOG=page", "QEMU_VERSION=1"] {
            spec.command.environment.push(variable.into());
        }
        assert_eq!(bench.run(spec).log, "1 nonsense\nchild\n", "{user:?}");
    }
}

#[test]
fn the_filter_holds_for_foreign_programs() {
    for foreign in &FOREIGN {
        let (bench, rule) = emulating(User::Executor, foreign);
        let outcome = run(&bench, &rule, "touch f; chmod 4755 f 2>&1; chmod 755 f; stat -c %a f");
        assert_eq!(outcome.log, "chmod: f: Operation not permitted\n755\n", "{}", foreign.system);
    }
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
    let (bench, rule) = emulating(User::Root, &FOREIGN[0]);
    assert_eq!(run(&bench, &rule, "echo once").log, "once\n");
    let outcome = bench.script("echo never");
    assert!(outcome.log.contains("Exec format error"), "{outcome:?}");
}

#[test]
fn an_emulator_that_hangs_on_its_own_signal_is_ended() {
    for (user, foreign) in everyone() {
        let (bench, rule) = emulating(user, foreign);
        for (name, signal) in [("SEGV", 11), ("ABRT", 6)] {
            let script = format!("echo before; kill -{name} $$; sleep 1; echo after");
            bench.fresh();
            let (outcome, silent) =
                follow_timed(bench.start(&Request::Run(Box::new(emulated(&bench, &rule, &script)))));
            assert!(silent < NOTICED_WITHIN, "{}: noticed after {silent:?}", foreign.system);
            let finished = outcome.finished();
            assert_eq!(
                (finished.end, finished.cause),
                (End::Signal(signal), Cause::EmulatorHung),
                "{outcome:?}"
            );
            // Most emulators complain before they hang; riscv64's says nothing of a signal that was sent.
            let log = &outcome.log;
            assert!(log.starts_with("before\n") && !log.contains("after"), "{}: {log:?}", foreign.system);
        }
        let outcome = run(&bench, &rule, "sh -c 'kill -SEGV $$'; echo $?; sleep 1; exit 5");
        assert!(outcome.log.ends_with("139\n"), "{}", outcome.log);
        assert_eq!(outcome.finished().end, End::Exit(5));
    }
}
