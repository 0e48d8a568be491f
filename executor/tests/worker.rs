//! Leases from their inputs to their outputs through the real sandbox, natively and emulated, as root and unprivileged.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing test")]
mod kit;

use executor::lease::Input;
use kit::{Bench, Built};
use model::{BuiltOutput, FailureClass, Outcome, Platform, System};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
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

fn emulated(system: &str) -> Platform {
    Platform::Emulated(System(system.into()))
}

/// Foreign systems: Nix's and Debian's word for each, the machine that its programs see, its processor.
const FOREIGN: [(&str, &str, &str, &str); 3] = [
    ("aarch64-linux", "arm64", "aarch64", "cortex-a72"),
    ("armv7l-linux", "armhf", "armv7l", "cortex-a7"),
    ("riscv64-linux", "riscv64", "riscv64", "sifive-u54"),
];

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
        let detail = |platform: Platform| {
            let offer = capability.offers.iter().find(|offer| offer.platform == platform);
            &offer.unwrap_or_else(|| panic!("{platform} is not among {capability:?}")).detail
        };
        for platform in [native(), cross, Platform::Builtin] {
            detail(platform);
        }
        let version = fs::read_to_string(kit::cached("qemu/VERSION")).unwrap();
        for (system, _, _, model) in FOREIGN {
            let expected = format!("qemu {}, {model}, self-contained, private binfmt_misc", version.trim());
            let detail = detail(emulated(system));
            assert!(detail.starts_with(&expected), "{detail}");
        }
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

        for (system, debian, machine, _) in FOREIGN {
            let busybox = bench.busybox(debian);
            let script = format!("[ $(uname -m) = {machine} ] && {script}");
            let built = bench.build(bench.lease(emulated(system), &busybox, "directory", &script)).await;
            assert_nar(one(&built), DIRECTORY);
        }
        let held = bench.store.held();
        assert_eq!(held.len(), 9, "four inputs and five outputs: {held:?}");
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
    async fn what_a_build_used_is_measured() {
        let bench = Bench::new().await;
        let busybox = bench.busybox("amd64");
        let script = "dd if=/dev/zero of=/build/x bs=1M count=8 conv=fsync 2>/dev/null; i=0
                      while [ $i -lt 100000 ]; do i=$((i+1)); done; echo >$out";
        let built = bench.build(bench.lease(native(), &busybox, "uses", script)).await;
        one(&built);
        let usage = built.times.usage.unwrap();
        assert!(usage.memory_bytes_peak > 1 << 20, "dd alone has a megabyte: {usage:?}");
        assert!(usage.user_ms + usage.system_ms > 5, "{usage:?}");
        assert!(usage.written_bytes >= 8 << 20, "{usage:?}");
        let detail = &bench.proven.resources.detail;
        assert_eq!(usage.is_of_all, bench.proven.resources.hierarchy.is_some(), "{detail}");
        assert!(detail.starts_with("measured by "), "{detail}");
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
        let foreign = emulated("loongarch64-linux");
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

/// Ways out through the outputs, and what is larger than Nix takes.
mod hostile {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn links_in_outputs_stay_links_and_nothing_behind_them_is_touched() {
        let bench = Bench::new().await;
        let busybox = bench.busybox("amd64");
        let key = bench.directory.path().join("key");
        fs::write(&key, "secret").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(&key).unwrap();
        let passwd = fs::metadata("/etc/passwd").unwrap();
        let script = format!(
            "mkdir $out; cd $out; ln -s {key} key; ln -s /etc/passwd passwd; ln -s ../../../../../.. up; ln -s . self
             echo x >a; ln a b; ln {busybox}/bin/busybox input 2>/dev/null && echo linked; chmod 0 a; chmod 700 .",
            key = key.display(),
            busybox = busybox.id.path
        );
        let built = bench.build(bench.lease(native(), &busybox, "links", &script)).await;
        let id = model::ContentId { domain: model::TrustDomain::Shared, path: one(&built).path.clone() };
        assert_eq!(built.log, "");
        let tree = bench.store.tree(&id);
        assert_eq!(fs::read_link(tree.join("key")).unwrap(), key);
        assert_eq!(fs::read(tree.join("b")).unwrap(), b"x\n");
        let built = bench
            .build(bench.lease(native(), &busybox, "is-a-link", &format!("ln -s {} $out", key.display())))
            .await;
        let id = model::ContentId { domain: model::TrustDomain::Shared, path: one(&built).path.clone() };
        assert_eq!(fs::read_link(bench.store.tree(&id)).unwrap(), key);
        for (path, before) in [(key.as_path(), before), (std::path::Path::new("/etc/passwd"), passwd)] {
            let after = fs::metadata(path).unwrap();
            let facts = |status: &fs::Metadata| (status.mode(), status.uid(), status.mtime(), status.nlink());
            assert_eq!(facts(&after), facts(&before), "{}", path.display());
        }
        assert_eq!(fs::read(&key).unwrap(), b"secret");
    }

    /// The slot keeps the root: with what the executor made there, and nothing else.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_slots_next_build_finds_nothing_of_the_last() {
        let bench = Bench::new().await;
        let (native_input, emulated_input) = (bench.busybox("amd64"), bench.busybox("arm64"));
        let look = "for d in / /build /tmp /nix/store /nix /dev /etc; do echo $d; ls -A $d; done
                    cat /etc/passwd; echo >$out";
        let base_name = |input: &Input| input.id.path.as_str()["/nix/store/".len()..].to_owned();
        let first = bench.build(bench.lease(native(), &native_input, "first", look)).await;
        one(&first);
        let leave = format!(
            "for d in /build /tmp /nix/store; do cd $d; echo secret >left; mkdir -p dir/deep; echo x >dir/deep/file
             chmod 0 dir/deep dir; ln -s /etc link; mkfifo fifo; done; ln -s /etc {next}; ln /etc/passwd /tmp/passwd
             rmdir {own}; mv {own} /tmp/away; rm -f /etc/passwd /dev/null; chmod 777 /nix/store /tmp /etc; exit 3",
            next = emulated_input.id.path,
            own = native_input.id.path
        );
        let mut seen = Vec::new();
        for round in 0..3 {
            assert_eq!(bench.left_over().await, Vec::<std::path::PathBuf>::new());
            let lease = bench.lease(native(), &native_input, &format!("leaves-{round}"), &leave);
            assert_eq!(failed(&bench.build(lease).await).1, Some(3));
            assert_eq!(bench.left_over().await, Vec::<std::path::PathBuf>::new());
            let (platform, input) = match round {
                1 => (emulated("aarch64-linux"), &emulated_input),
                _ => (native(), &native_input),
            };
            let built = bench.build(bench.lease(platform, input, &format!("looks-{round}"), look)).await;
            one(&built);
            seen.push(built.log);
        }
        assert_eq!(
            seen,
            [
                first.log.clone(),
                first.log.replace(&base_name(&native_input), &base_name(&emulated_input)),
                first.log
            ]
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_larger_than_nix_takes_is_refused_and_removed() {
        let bench = Bench::new().await;
        let busybox = bench.busybox("amd64");
        let name = "n".repeat(255);
        let script = format!(
            "mkdir $out; echo >$out/{name}; ln -s $(printf '%04095d' 1) $out/far; echo >$out/$(printf 'a\\nb\\001')"
        );
        let built = bench.build(bench.lease(native(), &busybox, "limits", &script)).await;
        assert_eq!(one(&built).facts.references, []);
        // 63 levels of directories below the output's own are the most.
        for (levels, is_taken) in [(63, true), (64, false), (900, false)] {
            let script = format!(
                "mkdir /build/t; cd /build; i=1; while [ $i -lt {levels} ]; do mkdir n && mv t n && mv n t || exit 9; i=$((i+1)); done
                 mkdir $out && cp -r t $out/ 2>/dev/null; [ {levels} -gt 100 ] || exit 0
                 cd $out; i=1; while [ $i -lt {levels} ]; do mkdir d && cd d || exit 0; i=$((i+1)); done"
            );
            let built =
                bench.build(bench.lease(native(), &busybox, &format!("deep-{levels}"), &script)).await;
            match built.outcome {
                Outcome::Built(_) => assert!(is_taken, "{levels} levels are taken"),
                Outcome::Failed(failure) => {
                    assert!(
                        !is_taken && failure.class == FailureClass::OutputRejected,
                        "{levels}: {failure:?}"
                    );
                }
            }
        }
        assert_eq!(bench.left_over().await, Vec::<std::path::PathBuf>::new());
    }

    /// On a disk of 160 MB that [`again`] mounts.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_full_disk_is_an_outcome_and_harms_nobody_else() {
        let Some(disk) = std::env::var_os("EXECUTOR_TEST_DISK") else { return };
        let bench = Bench::on(std::path::Path::new(&disk), 40 << 20).await;
        let busybox = bench.busybox("amd64");
        let lease = |name: &str, script: &str| bench.lease(native(), &busybox, name, script);
        // Faster than anybody looks: the file system itself says that it is full.
        let fast = "dd if=/dev/zero of=/build/x bs=1M count=400 2>/dev/null || dd if=/dev/zero of=$out bs=1M count=400";
        let built = bench.build(lease("fast", fast)).await;
        assert_eq!(failed(&built).0, FailureClass::OutOfDisk, "{:?}", built.outcome);
        assert_eq!(bench.left_over().await, Vec::<std::path::PathBuf>::new());
        // Slowly, beside an older build that wants nothing.
        let slow = "i=0; while [ $i -lt 50 ]; do dd if=/dev/zero of=/build/$i bs=1M count=4 2>/dev/null; sleep 0.2; i=$((i+1)); done";
        let older = bench.build(lease("older", "sleep 12; echo >$out"));
        let younger = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            bench.build(lease("slow", slow)).await
        };
        let (older, younger) = tokio::join!(older, younger);
        one(&older);
        let (class, _, message) = failed(&younger);
        assert_eq!(class, FailureClass::OutOfDisk, "{message}");
        assert!(
            message.contains("the executor's disk is full") && message.contains("40 MiB are kept"),
            "{message}"
        );
        assert_eq!(bench.left_over().await, Vec::<std::path::PathBuf>::new());
        one(&bench.build(lease("after", "echo >$out")).await);
        // Without room nothing begins.
        let filler = bench.directory.path().join("filler");
        let free = bench.store.free_disk_bytes().saturating_sub(20 << 20);
        fs::write(&filler, vec![1; usize::try_from(free).unwrap()]).unwrap();
        let built = bench.build(lease("refused", "echo >$out; echo began")).await;
        assert_eq!((failed(&built).0, built.log.as_str()), (FailureClass::OutOfDisk, ""));
        fs::remove_file(filler).unwrap();
        one(&bench.build(lease("refused", "echo >$out")).await);
        println!("the disk was filled");
    }
}

#[test]
fn root_on_a_small_disk_survives_that_it_is_full() {
    if std::env::var_os("EXECUTOR_TEST_AGAIN").is_none() {
        let text = again(0, "hostile::a_full_disk");
        assert!(text.contains("the disk was filled") && text.contains("1 passed"), "{text}");
    }
}

#[test]
fn an_unprivileged_user_with_subordinate_ids_does_all_of_it() {
    if std::env::var_os("EXECUTOR_TEST_AGAIN").is_none() {
        let text = again(USER, "::");
        assert!(text.contains("the disk was filled") && text.contains("11 passed"), "{text}");
    }
}

/// Runs tests of this program again, as another user, with a small disk.
fn again(user: u32, tests: &str) -> String {
    assert_eq!(
        rustix::process::geteuid().as_raw(),
        0,
        "this test becomes other users and must be run as root"
    );
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
                  mkdir \"$0/disk\"; mount -t tmpfs -o size=160m tmpfs \"$0/disk\"; chown \"$1\" \"$0/disk\"
                  exec setpriv --reuid=\"$1\" --regid=\"$1\" --clear-groups \"$0/test\" --nocapture \"$2\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", script])
        .arg(directory.path())
        .args([&user.to_string(), tests])
        .env("ELSEWHERE_BIN", directory.path())
        .env("EXECUTOR_TEST_AGAIN", "1")
        .env("EXECUTOR_TEST_DISK", directory.path().join("disk"))
        .env("HOME", "/")
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}
