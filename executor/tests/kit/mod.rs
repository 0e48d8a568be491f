//! A worker over a real store and the real launcher, without a coordinator; derivations whose paths are right.
#![expect(clippy::unwrap_used, reason = "a failing helper is a failing test")]
use executor::build::inputs::Inputs;
use executor::build::{Settings, Worker};
use executor::builtin::Downloader;
use executor::config::Config;
use executor::lease::{Input, Lease, LeaseKey, Limits, Source, Times};
use executor::platform::{self, Proven};
use executor::rpc::download::{Download, DownloadError, Sources};
use executor::session::desk::Builder;
use executor::session::uplink::{Outgoing, Uplink};
use executor::slots::{self, Slots};
use executor::store::Store;
use executor::tree;
use model::{ContentId, Epoch, LeaseId, Outcome, PathFacts, Platform, StorePath, TrustDomain};
use nix_formats::derivation::{Derivation, Output};
use nix_formats::modulo;
use nix_formats::store_path::{StoreDir, StorePath as BaseName};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// A product of `cargo xtask setup`.
pub fn cached(relative: &str) -> PathBuf {
    let cache = std::env::var_os("ELSEWHERE_CACHE").unwrap_or_else(|| "/var/cache/elsewhere".into());
    let path = Path::new(&cache).join(relative);
    assert!(path.exists(), "{} is missing: run `cargo xtask setup` (as root)", path.display());
    path
}

/// The launcher from `ELSEWHERE_BIN`, or built into the directory that this test came from.
pub fn launcher() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(find_launcher).clone()
}

fn find_launcher() -> PathBuf {
    if let Some(directory) = std::env::var_os("ELSEWHERE_BIN") {
        return Path::new(&directory).join("elsewhere-launcher");
    }
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let name = profile.file_name().unwrap().to_str().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "sandbox", "--bins", "--target-dir"]);
    cargo.arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["--profile", if name == "debug" { "dev" } else { name }]);
    assert!(cargo.status().unwrap().success(), "the launcher does not compile");
    profile.join("elsewhere-launcher")
}

/// Nobody has anything: all inputs must be in the store already.
#[derive(Debug)]
struct NoSources;

#[tonic::async_trait]
impl Sources for NoSources {
    async fn download(&self, source: &Source, _id: &ContentId) -> Result<Download, DownloadError> {
        Err(DownloadError::Unreachable(format!("{source} is not there").into()))
    }
}

/// A worker and what surrounds it.
pub struct Bench {
    pub proven: Proven,
    pub directory: tempfile::TempDir,
    pub store: Arc<Store>,
    worker: Arc<Worker>,
    next_lease: AtomicU64,
}

/// How a lease ended, and its log.
pub struct Built {
    pub outcome: Outcome,
    pub times: Times,
    pub log: String,
}

impl Bench {
    /// Proves the platforms of this machine, as the running user.
    pub async fn new() -> Self {
        Self::on(Path::new("/var/tmp"), 16 << 20).await
    }

    /// The same below a directory, on a disk of which so much stays free.
    pub async fn on(parent: &Path, disk_free_bytes_min: u64) -> Self {
        let directory = tempfile::Builder::new().prefix("executor-").tempdir_in(parent).unwrap();
        let mut config = config(directory.path());
        config.limits.disk_free_bytes_min = disk_free_bytes_min;
        let user_id = rustix::process::geteuid().as_raw();
        let ids = slots::host_ids(&config, user_id).unwrap_or_else(|error| panic!("{error}"));
        let proven = platform::prove(&config, Ok(ids[0]), &directory.path().join("self-test")).await;
        let store = Arc::new(Store::open(&directory.path().join("store"), false).unwrap());
        let builds_directory = directory.path().join("builds");
        fs::create_dir(&builds_directory).unwrap();
        let settings = Settings {
            launcher: config.launcher_path(),
            builds_directory,
            cores: 3,
            limits: Limits::default(),
            sandbox_paths: Vec::new(),
            dev_shm_size: "50%".into(),
            has_kvm: false,
            fixed_output_network: proven.fixed_outputs.network.clone(),
            downloader: Downloader::new(config.downloads, None).unwrap(),
            certificates: None,
            interpreters: proven.interpreters.clone(),
            resources: proven.resources.clone(),
            store_limits: config.store_limits().unwrap(),
            platforms: proven.capability.offers.iter().map(|offer| offer.platform.clone()).collect(),
            user_id,
        };
        let inputs = Inputs::new(store.clone(), Arc::new(NoSources));
        let worker = Arc::new(Worker::new(settings, store.clone(), inputs, Slots::new(&ids)));
        Self { proven, directory, store, worker, next_lease: AtomicU64::new(1) }
    }

    /// Puts a busybox into the store: the path of a directory with `bin/busybox` and `bin/sh`.
    pub fn busybox(&self, architecture: &str) -> Input {
        let name = format!("busybox-{architecture}");
        let tree = self.directory.path().join(&name);
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::copy(cached(&name), tree.join("bin/busybox")).unwrap();
        fs::set_permissions(tree.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("busybox", tree.join("bin/sh")).unwrap();
        tree::canonicalise(&tree, rustix::process::geteuid().as_raw()).unwrap();
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)).unwrap();
        let mut hash = Sha256::new();
        let nar_size = tree::dump(&tree, &mut |bytes| {
            hash.update(bytes);
            Ok(())
        });
        let nar_sha256 = hash.finalize().into();
        let path = StoreDir::default().source_path(&name, &nar_sha256, [], false).unwrap();
        let id = shared(&path);
        let facts = PathFacts {
            nar_sha256,
            nar_size: nar_size.unwrap(),
            references: Vec::new(),
            deriver: None,
            content_address: None,
        };
        self.store.adopt(&id, facts.clone(), &tree).unwrap();
        Input { id, facts, sources: Vec::new() }
    }

    /// A lease on a derivation that runs a shell script with the input's busybox.
    pub fn lease(&self, platform: Platform, busybox: &Input, name: &str, script: &str) -> Lease {
        let (path, text) = derivation(platform.system(), busybox, name, script);
        Lease {
            key: LeaseKey { id: LeaseId(self.next_lease.fetch_add(1, Ordering::Relaxed)), epoch: Epoch(1) },
            derivation: shared(&path),
            built: shared(&path).path,
            derivation_text: text,
            platform,
            inputs: vec![busybox.clone()],
            trace_context: HashMap::new(),
            limits: Limits::default(),
        }
    }

    pub async fn build(&self, lease: Lease) -> Built {
        self.build_until(lease, CancellationToken::new()).await
    }

    pub async fn build_until(&self, lease: Lease, cancel: CancellationToken) -> Built {
        let uplink = Arc::new(Uplink::default());
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1000);
        uplink.connect(sender).await;
        let reading = async {
            let mut log = Vec::new();
            while let Some(outgoing) = receiver.recv().await {
                if let Outgoing::Progress { log: bytes, .. } = outgoing {
                    log.extend_from_slice(&bytes);
                }
            }
            String::from_utf8_lossy(&log).into_owned()
        };
        let building = async {
            let result = self.worker.clone().build(lease, uplink.clone(), cancel).await;
            uplink.disconnect();
            result
        };
        let ((outcome, times), log) = tokio::join!(building, reading);
        Built { outcome, times, log }
    }

    /// What is left of builds, once the cleaning up in the background had its time. What a slot keeps for its next build
    /// is not counted as long as no build made it.
    pub async fn left_over(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for _ in 0..400 {
            let entries = fs::read_dir(self.directory.path().join("builds")).unwrap();
            left = entries.flat_map(|entry| left_in(entry.unwrap().path())).collect();
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        left
    }
}

/// A build's directory, or what a build left in one that is kept.
fn left_in(directory: PathBuf) -> Vec<PathBuf> {
    if !directory.to_string_lossy().ends_with("-kept") {
        return vec![directory];
    }
    let places = ["scratch", "root/tmp", "root/nix/store"].map(|place| fs::read_dir(directory.join(place)));
    let found = places.into_iter().flatten().flatten().map(|entry| entry.unwrap().path());
    let is_mount_point = |path: &PathBuf| path.is_dir() && fs::read_dir(path).unwrap().next().is_none();
    found.filter(|path| !is_mount_point(path)).collect()
}

fn config(directory: &Path) -> Config {
    let toml = format!(
        "coordinator = \"localhost:1\"\nstate_dir = \"{0}\"\nlauncher = \"{1}\"\nslots = 2\n\
         [tls]\nauthority = \"{0}/none\"\ncertificate = \"{0}/none\"\nkey = \"{0}/none\"\n\
         [emulation.aarch64-linux]\nqemu = \"{2}/qemu-aarch64\"\n\
         [emulation.armv7l-linux]\nqemu = \"{2}/qemu-arm\"\n\
         [emulation.riscv64-linux]\nqemu = \"{2}/qemu-riscv64\"\n",
        directory.display(),
        launcher().display(),
        cached("qemu").display()
    );
    toml::from_str(&toml).unwrap()
}

fn shared(path: &BaseName) -> ContentId {
    let path = StorePath::from_validated(&StoreDir::default().display(path));
    ContentId { domain: TrustDomain::Shared, path }
}

/// A derivation's path and text.
fn derivation(system: &str, busybox: &Input, name: &str, script: &str) -> (BaseName, Vec<u8>) {
    let store = StoreDir::default();
    let busybox_path = busybox.id.path.as_str();
    let source = store.parse(busybox_path).unwrap();
    let text = |value: &str| value.as_bytes().to_vec();
    let mut derivation = Derivation {
        // Masked when its own path is computed.
        outputs: BTreeMap::from([("out".into(), Output::InputAddressed { path: source.clone() })]),
        input_derivations: BTreeMap::new(),
        input_sources: BTreeSet::from([source]),
        system: system.into(),
        builder: format!("{busybox_path}/bin/sh").into_bytes(),
        arguments: vec![text("-c"), text(script)],
        environment: BTreeMap::from([
            (text("PATH"), format!("{busybox_path}/bin").into_bytes()),
            (text("name"), text(name)),
            (text("out"), text("")),
        ]),
    };
    let masked = modulo::masked_hash(&derivation, &store, |_| None).unwrap();
    let path = modulo::output_path(&store, &masked, name, "out").unwrap();
    derivation.environment.insert(text("out"), store.display(&path).into_bytes());
    derivation.outputs.insert("out".into(), Output::InputAddressed { path });
    let contents = derivation.to_aterm(&store);
    let references = derivation.references();
    let path = modulo::derivation_path(&store, &format!("{name}.drv"), &contents, &references);
    (path.unwrap(), contents)
}
