//! Leases from their inputs to their outputs through the real sandbox, natively and emulated, as root and unprivileged.
mod kit;

use kit::{Bench, Built};
use model::{BuiltOutput, FailureClass, Outcome, Platform, System};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The unprivileged executor's user.
const USER: u32 = 990;
/// NARs as real Nix 2.8 hashes them: the file `hello`, and a directory with `a` = "x" and `b` -> `a`.
const HELLO: (u64, &str) = (120, "0a430879c266f8b57f4092a0f935cf3facd48bbccde5760d4748ca405171e969");
const DIRECTORY: (u64, &str) = (480, "ee2df35a339f47f9d984099f5aaf80eed4800fb8e0f4e628dff6d000fe2d47f2");

fn native() -> Platform {
    Platform::Native(System("x86_64-linux".into()))
}

fn emulated() -> Platform {
    Platform::Emulated(System("aarch64-linux".into()))
}

fn one(built: &Built) -> &BuiltOutput {
    match &built.outcome {
        Outcome::Built(outputs) if outputs.len() == 1 => &outputs[0],
        outcome => panic!("{outcome:?}; log: {}", built.log),
    }
}

fn assert_nar(output: &BuiltOutput, (size, sha256): (u64, &str)) {
    let hex: String = output.facts.nar_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((output.facts.nar_size, hex.as_str()), (size, sha256));
}

fn failed(built: &Built) -> (FailureClass, Option<i32>, &str) {
    match &built.outcome {
        Outcome::Failed(failure) => (failure.class, failure.exit_status, &failure.message),
        outcome => panic!("{outcome:?}; log: {}", built.log),
    }
}

/// What an executor does as whoever runs this: each is run as root, and once more by a user with subordinate ids.
mod scenario {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn platforms_are_proven() {
        let bench = Bench::new().await;
        let capability = &bench.proven.capability;
        let cross = Platform::Cross { build: System("x86_64-linux".into()) };
        for platform in [native(), cross, Platform::Builtin, emulated()] {
            let is_offered = capability.offers.iter().any(|offer| offer.platform == platform);
            assert!(is_offered, "{platform} is not among {capability:?}");
        }
        let detail = &capability.offers.iter().find(|offer| offer.platform == emulated()).unwrap().detail;
        assert!(detail.contains("cortex-a72, self-contained, private binfmt_misc"), "{detail}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn native_and_emulated_builds_give_nixs_bits() {
        let bench = Bench::new().await;
        let busybox = bench.busybox("amd64");
        let built =
            bench.build(bench.lease(native(), &busybox, "hello", "printf hello >$out; echo log")).await;
        assert_nar(one(&built), HELLO);
        assert_eq!(built.log, "log\n");
        let cross = Platform::Cross { build: System("x86_64-linux".into()) };
        let script = "mkdir $out; printf x >$out/a; ln -s a $out/b; chmod 4755 $out/a || chmod 600 $out/a";
        let built = bench.build(bench.lease(cross, &busybox, "directory", script)).await;
        assert_nar(one(&built), DIRECTORY);

        let busybox = bench.busybox("arm64");
        let script = format!("[ $(uname -m) = aarch64 ] && {script}");
        let built = bench.build(bench.lease(emulated(), &busybox, "directory", &script)).await;
        assert_nar(one(&built), DIRECTORY);
        let held = bench.store.held();
        assert_eq!(held.len(), 5, "two inputs and three outputs: {held:?}");
        assert_eq!(bench.left_over().await, Vec::<std::path::PathBuf>::new());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn references_are_found_and_a_held_output_is_not_built_again() {
        let bench = Bench::new().await;
        let busybox = bench.busybox("amd64");
        let lease = bench.lease(native(), &busybox, "refers", "echo $PATH $out >$out; echo ran");
        let built = bench.build(lease.clone()).await;
        let output = one(&built);
        let mut references = vec![busybox.id.path.clone(), output.path.clone()];
        references.sort();
        let mut found = output.facts.references.clone();
        found.sort();
        assert_eq!(found, references);
        assert_eq!(built.log, "ran\n");
        let again = bench.build(lease).await;
        assert_eq!((again.outcome, again.log.as_str()), (built.outcome, ""));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn failures_are_told_apart_and_leave_nothing() {
        let bench = Bench::new().await;
        let busybox = bench.busybox("amd64");
        let lease = |name, script| bench.lease(native(), &busybox, name, script);
        let built = bench.build(lease("exits", "echo so far; exit 42")).await;
        let (class, status, message) = failed(&built);
        assert_eq!((class, status, built.log.as_str()), (FailureClass::BuildFailed, Some(42), "so far\n"));
        assert!(message.contains("Reason: builder failed with exit code 42."), "{message}");
        let built = bench.build(lease("none", "true")).await;
        let (class, _, message) = failed(&built);
        assert_eq!(class, FailureClass::OutputRejected);
        assert!(message.contains("failed to produce output path for output 'out'"), "{message}");
        let built = bench.build(lease("open", "echo >$out; chmod 666 $out")).await;
        let (class, _, message) = failed(&built);
        assert_eq!(class, FailureClass::OutputRejected);
        assert!(message.contains("suspicious ownership or permission"), "{message}");
        let built = bench.build(lease("fifo", "mkdir $out; mkfifo $out/f")).await;
        let (class, _, message) = failed(&built);
        assert_eq!(class, FailureClass::OutputRejected);
        assert!(message.contains("has an unsupported type"), "{message}");
        let built = bench.build(lease("closed", "exec >/dev/null 2>&1; sleep 5; echo >$out")).await;
        assert!(failed(&built).2.contains("due to signal 9 (Killed)"));
        assert_eq!(bench.store.held().len(), 1, "nothing of a failed build is held");
        assert_eq!(bench.left_over().await, Vec::<std::path::PathBuf>::new());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn limits_and_cancelling_end_a_build() {
        let bench = Bench::new().await;
        let busybox = bench.busybox("amd64");
        let lease = |name, script| bench.lease(native(), &busybox, name, script);
        let mut silent = lease("silent", "echo a; sleep 100");
        silent.limits.max_silent_s = Some(1);
        let built = bench.build(silent).await;
        assert_eq!(failed(&built), (FailureClass::TimedOut, None, "timed out after 1 seconds of silence"));
        assert_eq!(built.log, "a\n");
        let mut slow = lease("slow", "while true; do echo a; sleep 0.1; done");
        slow.limits.timeout_s = Some(1);
        let built = bench.build(slow).await;
        assert_eq!(failed(&built), (FailureClass::TimedOut, None, "timed out after 1 seconds"));
        let mut loud = lease("loud", "while true; do echo loud; done");
        loud.limits.log_bytes_max = Some(10_000);
        let built = bench.build(loud).await;
        let message = "killed after writing more than 10000 bytes of log output";
        assert_eq!(failed(&built), (FailureClass::LogLimitExceeded, None, message));

        let cancel = CancellationToken::new();
        let canceller = cancel.clone();
        let building = bench.build_until(lease("cancelled", "sleep 1000 & sleep 1000"), cancel);
        let (built, ()) = tokio::join!(building, async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            canceller.cancel();
        });
        assert_eq!(failed(&built).0, FailureClass::Cancelled);
        assert!(built.times.build_ms < 10_000, "{:?}", built.times);
        assert_eq!(bench.left_over().await, Vec::<std::path::PathBuf>::new());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_cannot_be_built_here_is_refused() {
        let bench = Bench::new().await;
        let busybox = bench.busybox("amd64");
        let mut forged = bench.lease(native(), &busybox, "forged", "echo >$out");
        forged.derivation_text =
            forged.derivation_text.iter().map(|byte| if *byte == b'>' { b'<' } else { *byte }).collect();
        let built = bench.build(forged).await;
        let (class, _, message) = failed(&built);
        assert_eq!(class, FailureClass::InputRejected);
        assert!(message.contains("hashes to"), "{message}");
        let foreign = Platform::Emulated(System("riscv64-linux".into()));
        let built = bench.build(bench.lease(foreign, &busybox, "foreign", "echo >$out")).await;
        assert_eq!(failed(&built).0, FailureClass::Infrastructure);
        let mut missing = bench.lease(native(), &busybox, "missing", "echo >$out");
        missing.inputs[0].id.path =
            model::StorePath::from_validated(&busybox.id.path.as_str().replace("busybox", "other"));
        let Outcome::Failed(failure) = bench.build(missing).await.outcome else { panic!("not missed") };
        assert_eq!(failure.class, FailureClass::InputMissing);
        assert_eq!(failure.missing_inputs.len(), 1);
    }
}

#[test]
fn an_unprivileged_user_with_subordinate_ids_does_all_of_it() {
    if std::env::var_os("EXECUTOR_TEST_UNPRIVILEGED").is_some() {
        return;
    }
    let user = rustix::process::geteuid().as_raw();
    assert_eq!(user, 0, "this test becomes another user and must be run as root");
    // Where that user can get to, which a home directory's target is not.
    let directory = tempfile::Builder::new().prefix("executor-user-").tempdir_in("/var/tmp").unwrap();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), open).unwrap();
    fs::copy(kit::launcher(), directory.path().join("elsewhere-launcher")).unwrap();
    fs::copy(std::env::current_exe().unwrap(), directory.path().join("test")).unwrap();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    fs::write(directory.path().join("passwd"), format!("{passwd}executor-test:x:{USER}:{USER}::/:/bin/sh\n"))
        .unwrap();
    for name in ["subuid", "subgid"] {
        fs::write(directory.path().join(name), format!("{USER}:800000:16\n")).unwrap();
    }
    let script = "for file in passwd subuid subgid; do mount --bind \"$0/$file\" /etc/$file; done
                  exec setpriv --reuid=\"$1\" --regid=\"$1\" --clear-groups \"$0/test\" scenario::";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", script])
        .arg(directory.path())
        .arg(USER.to_string())
        .env("ELSEWHERE_BIN", directory.path())
        .env("EXECUTOR_TEST_UNPRIVILEGED", "1")
        .env("HOME", "/")
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("6 passed"), "{text}");
}
