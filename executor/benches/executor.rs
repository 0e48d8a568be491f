//! Times what every build pays: its sandbox without a program to speak of, and the examination of its outputs.
//!
//! Prints a line for each benchmark: name, our median, the peer's or the goal, the largest ratio that is promised.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing benchmark")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark talks to the person that started it"
)]
#[path = "../tests/kit/mod.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod kit;

use executor::build::directory::Directory;
use executor::build::disk::Disk;
use executor::build::jail::{self, InputKind, Jail, JailInput, JailNetwork};
use executor::build::launcher::Launchers;
use executor::build::log::Piece;
use executor::build::outputs::{self, Expected};
use executor::build::run::{self, Ended, LogSink};
use executor::lease::{LeaseKey, Limits};
use executor::slots::Slots;
use executor::store::Store;
use model::{Epoch, LeaseId, StorePath};
use nix_formats::store_path::StoreDir;
use sandbox::spec::{Command as Program, Ids, Request};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Odd, so that there is a middle.
const SANDBOXES: usize = 101;
const EXAMINATIONS: usize = 5;
/// Set-up plus tear-down, in seconds: with one input, and with as many as large builds have.
const WARM_GOAL_S: f64 = 0.004;
const LARGE_GOAL_S: f64 = 0.060;
const LARGE_INPUTS: usize = 2000;
/// From the end of a slot's build to its next lease, in a chain.
const BETWEEN: Duration = Duration::from_millis(5);

#[tokio::main]
async fn main() {
    let directory = tempfile::Builder::new().prefix("bench-").tempdir_in("/var/tmp").unwrap();
    let place = Place::new(directory.path());
    let own = place.outside();
    for (name, inputs, goal_s) in [
        ("sandbox set-up and tear-down, 1 input (peer: the goal)", 1, WARM_GOAL_S),
        ("sandbox set-up and tear-down, 2,000 inputs (peer: the goal)", LARGE_INPUTS, LARGE_GOAL_S),
    ] {
        let mut all = Vec::new();
        for number in 0..SANDBOXES {
            all.push(place.sandbox(inputs, number).await);
        }
        let median = |part: fn(&Parts) -> f64| middle(all.iter().map(part).collect());
        eprintln!(
            "{name}: made {:.2} ms, launcher {:.2} ms, removed {:.2} ms; the program itself {:.2} ms",
            median(|parts| parts.made_s) * 1e3,
            median(|parts| parts.ran_s) * 1e3,
            median(|parts| parts.removed_s) * 1e3,
            own * 1e3
        );
        let sum = median(|parts| parts.made_s + parts.ran_s + parts.removed_s) - own;
        println!("{name}\t{sum}\t{goal_s}\t1");
    }
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    place.make_output();
    for _ in 0..EXAMINATIONS {
        ours.push(place.examine());
        peers.push(place.dump_and_hash());
    }
    let name = "outputs: scan, hash and metadata, against nix-store --dump | sha256sum";
    println!("{name}\t{}\t{}\t1.25", middle(ours), middle(peers));
}

fn middle(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Where the time of one sandbox went, in seconds.
struct Parts {
    made_s: f64,
    ran_s: f64,
    removed_s: f64,
}

/// Files of the benchmarks.
struct Place {
    directory: PathBuf,
    launcher: PathBuf,
    slots: Slots,
    launchers: Arc<Launchers>,
    disk: Arc<Disk>,
    program: PathBuf,
}

impl Place {
    fn new(directory: &Path) -> Self {
        let inputs = directory.join("inputs");
        for number in 0..LARGE_INPUTS {
            fs::create_dir_all(inputs.join(number.to_string())).unwrap();
        }
        let program = inputs.join("0/true");
        fs::copy(kit::cached("busybox-amd64"), &program).unwrap();
        let slots = Slots::new(&[Ids { user: 0x3400_0000, group: 0x3400_0000 }]);
        let store = Store::open(&directory.join("store"), false).unwrap();
        let disk = Arc::new(Disk::new(Arc::new(store), 0));
        let launcher = kit::launcher();
        let launchers = Launchers::new(launcher.clone());
        Self { directory: directory.to_owned(), launcher, slots, launchers, disk, program }
    }

    /// Seconds that the builder takes outside any sandbox.
    fn outside(&self) -> f64 {
        let time = || {
            let started = Instant::now();
            assert!(Command::new(&self.program).status().unwrap().success());
            started.elapsed().as_secs_f64()
        };
        middle((0..SANDBOXES).map(|_| time()).collect())
    }

    async fn sandbox(&self, inputs: usize, number: usize) -> Parts {
        let taken = self.slots.take().await.unwrap();
        let started = Instant::now();
        let key = LeaseKey { id: LeaseId(number as u64), epoch: Epoch(1) };
        let builds = self.directory.join("builds");
        let directory = Directory::make(&builds, taken.slot, key, self.disk.enter(), true).await.unwrap();
        let made_s = started.elapsed().as_secs_f64();

        let started = Instant::now();
        let store_name = |number: usize| format!("{}-{number}", base_hash(number));
        let program = format!("/nix/store/{}/true", store_name(0));
        let input = |number: usize| JailInput {
            base_name: store_name(number),
            source: self.directory.join("inputs").join(number.to_string()),
            kind: InputKind::Mounted,
        };
        let spec = jail::spec(Jail {
            root: &directory.root,
            scratch: &directory.scratch,
            command: Program {
                program: program.as_str().into(),
                arguments: vec![program.as_str().into()],
                environment: Vec::new(),
                directory: jail::BUILD_DIRECTORY.into(),
            },
            build_files: Vec::new(),
            inputs: (0..inputs).map(input).collect(),
            outputs: vec![format!("{}-out", base_hash(LARGE_INPUTS))],
            network: JailNetwork::None,
            cgroup: None,
            system: "x86_64-linux",
            host_ids: taken.slot.ids,
            is_emulated: false,
            interpreters: Vec::new(),
            sandbox_paths: &[],
            dev_shm_size: "50%",
            has_kvm: false,
            certificates: None,
        });
        let shape = directory.fit(&spec).await.unwrap();
        let request = Request::Run(Box::new(spec));
        let never = std::future::pending();
        let waiting = self.launchers.take(taken.slot);
        let run = run::run(&self.launcher, waiting, &request, Limits::default(), never, &mut Nothing)
            .await
            .unwrap();
        assert_eq!(run.ended, Ended::Exited(0));
        self.launchers.prepare(taken.slot);
        directory.keep(shape);
        let ran_s = started.elapsed().as_secs_f64();

        let started = Instant::now();
        directory.empty(&self.launcher).await;
        let removed_s = started.elapsed().as_secs_f64();
        // A slot's next build comes when the coordinator has heard of this one, at the earliest.
        tokio::time::sleep(BETWEEN).await;
        Parts { made_s, ran_s, removed_s }
    }

    fn output(&self) -> PathBuf {
        self.directory.join(format!("output/{}-out", base_hash(0)))
    }

    /// 400 MB: programs, texts full of store paths, and many small files.
    fn make_output(&self) {
        let output = self.output();
        fs::create_dir_all(&output).unwrap();
        let program = fs::read(&self.program).unwrap();
        let text: String = (0..40_000).map(|line| format!("/nix/store/{}-x y\n", base_hash(line))).collect();
        for number in 0..20 {
            fs::write(output.join(format!("program-{number}")), program.repeat(5)).unwrap();
            fs::write(output.join(format!("text-{number}")), text.repeat(5)).unwrap();
        }
        for number in 0..4000 {
            fs::write(output.join(format!("small-{number}")), &text[..text.len().min(5000)]).unwrap();
        }
    }

    /// Seconds that we take for a build's output.
    fn examine(&self) -> f64 {
        let store = StoreDir::default();
        let candidate =
            |number: usize| store.parse(&format!("/nix/store/{}-{number}", base_hash(number * 31))).unwrap();
        let candidates: Vec<_> = (0..LARGE_INPUTS).map(candidate).collect();
        let path = |base: &str| StorePath::from_validated(&format!("/nix/store/{base}"));
        let output = self.output();
        let expected = Expected {
            name: "out".into(),
            path: path(output.file_name().unwrap().to_str().unwrap()),
            fixed: None,
            floating: None,
            discard_references: false,
        };
        let derivation = path(&format!("{}-bench.drv", base_hash(1)));
        let owner = rustix::process::geteuid().as_raw();
        let started = Instant::now();
        let directory = output.parent().unwrap();
        let examined = outputs::examine(&derivation, &[expected], &candidates, directory, owner).unwrap();
        let took = started.elapsed().as_secs_f64();
        assert!(examined[0].references.len() > 1000, "{} references", examined[0].references.len());
        took
    }

    /// Seconds that real Nix and coreutils take to read and hash the same.
    fn dump_and_hash(&self) -> f64 {
        let started = Instant::now();
        let mut dump = Command::new("nix-store")
            .arg("--dump")
            .arg(self.output())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let hash = Command::new("sha256sum").stdin(dump.stdout.take().unwrap()).output().unwrap();
        assert!(dump.wait().unwrap().success() && hash.status.success());
        started.elapsed().as_secs_f64()
    }
}

/// A hash part, different for every number.
fn base_hash(number: usize) -> String {
    let digits = nix_formats::base32::ALPHABET;
    (0..32_u32).map(|at| char::from(digits[(number.wrapping_mul(2_654_435_761) >> at) % 32])).collect()
}

/// A builder that says nothing.
struct Nothing;

impl LogSink for Nothing {
    async fn piece(&mut self, _piece: Piece) {}
}
