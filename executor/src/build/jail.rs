//! The sandbox of a build as data: root file system, ids, network and limits as Nix 2.34 has them. Pure.
use crate::config::SandboxPath;
use sandbox::binfmt::Rule;
use sandbox::spec::{
    ByteString, Claim, Command, Entry, HandBack, Ids, Limit, Network, Owner, Resource, Spec,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Ids that every build sees as its own: user 1000 and group 100.
pub const INSIDE_IDS: Ids = Ids { user: 1000, group: 100 };
/// The build's working directory, inside.
pub const BUILD_DIRECTORY: &str = "/build";
/// The store, inside.
const STORE: &str = "/nix/store";
/// Where downloads look for certificate authorities, inside.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

const PASSWD: &str = "root:x:0:0:Nix build user:/build:/noshell\n\
nixbld:x:1000:100:Nix build user:/build:/noshell\n\
nobody:x:65534:65534:Nobody:/:/noshell\n";
const GROUP: &str = "root:x:0:\nnixbld:!:100:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";
/// slirp4netns answers there by asking the host's resolver.
const JOINED_RESOLVER: &str = "nameserver 10.0.2.3\n";
const NSSWITCH: &str = "hosts: files dns\nservices: files\n";

/// An input as it appears in the store of the sandbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InputKind {
    /// A directory or regular file: mounted.
    Mounted,
    /// A symlink: copied.
    Symlink {
        /// What it says.
        target: Vec<u8>,
    },
}

/// One path of the input closure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JailInput {
    /// Base name of its store path.
    pub base_name: String,
    /// Where it is on this machine.
    pub source: PathBuf,
    /// How it appears.
    pub kind: InputKind,
}

/// The network of a build.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum JailNetwork {
    /// None: a loopback of its own.
    #[default]
    None,
    /// The host's.
    Host,
    /// Its own, joined to the host's.
    Joined {
        /// slirp4netns.
        program: PathBuf,
    },
}

/// What is to run, and where.
#[derive(Debug)]
pub struct Jail<'a> {
    /// Host directory that becomes `/`.
    pub root: &'a Path,
    /// Host directory that becomes `/build`.
    pub scratch: &'a Path,
    /// Program, arguments, environment, working directory.
    pub command: Command,
    /// Files in `/build`: name and contents.
    pub build_files: Vec<(Vec<u8>, Vec<u8>)>,
    /// The closure of the inputs.
    pub inputs: Vec<JailInput>,
    /// Base names of the outputs.
    pub outputs: Vec<String>,
    /// Which network it has, and the files that go with it.
    pub network: JailNetwork,
    /// The derivation's system.
    pub system: &'a str,
    /// Where its limits are in force and its use is measured.
    pub cgroup: Option<ByteString>,
    /// Ids that the build runs as on this host.
    pub host_ids: Ids,
    /// Whether the program is of a foreign system.
    pub is_emulated: bool,
    /// Interpreters of foreign programs.
    pub interpreters: Vec<Rule>,
    /// Host files that every build sees.
    pub sandbox_paths: &'a [SandboxPath],
    /// Size of `/dev/shm`.
    pub dev_shm_size: &'a str,
    /// Whether `/dev/kvm` is there.
    pub has_kvm: bool,
    /// Certificate authorities of the host, for builds with network.
    pub certificates: Option<&'a Path>,
}

/// The Spec of a build.
pub fn spec(jail: Jail<'_>) -> Spec {
    let mut entries = Entries::default();
    entries.base(&jail);
    entries.devices(&jail);
    entries.etc(&jail);
    entries.store(&jail);
    for path in jail.sandbox_paths {
        entries.bind_with_parents(&path.target, &path.source, path.optional);
    }
    let linux32 = ["i686-linux", "armv7l-linux", "armv6l-linux", "armv5tel-linux"].contains(&jail.system);
    Spec {
        root: jail.root.into(),
        root_mode: 0o750,
        entries: entries.list,
        shared: vec![STORE.into()],
        command: jail.command,
        host_ids: jail.host_ids,
        inside_ids: INSIDE_IDS,
        host_name: "localhost".into(),
        domain_name: "(none)".into(),
        fixed_addresses: true,
        linux32,
        umask: 0o022,
        limits: vec![Limit { resource: Resource::Core, soft: Some(0), hard: None }],
        cgroup: jail.cgroup,
        network: match &jail.network {
            JailNetwork::None => Network::Isolated,
            JailNetwork::Host => Network::Host,
            JailNetwork::Joined { program } => Network::Joined { program: program.as_path().into() },
        },
        filter_system_calls: true,
        interpreters: jail.interpreters,
        emulated: jail.is_emulated,
        hand_back: hand_back(jail.root, jail.scratch, &jail.outputs),
    }
}

/// Outputs first, each checked for foreign owners; then all that a build may have left elsewhere.
fn hand_back(root: &Path, scratch: &Path, outputs: &[String]) -> Vec<HandBack> {
    let store = root.join(STORE.trim_start_matches('/'));
    let mut trees: Vec<_> = outputs
        .iter()
        .map(|output| HandBack { path: store.join(output).into(), check_owner: true })
        .collect();
    trees.extend([root, scratch].map(|path| HandBack { path: path.into(), check_owner: false }));
    trees
}

#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    directories: BTreeSet<PathBuf>,
}

impl Entries {
    fn directory(&mut self, path: &str, mode: u32, owner: Owner) {
        self.directories.insert(path.into());
        self.list.push(Entry::Directory { path: path.into(), mode, owner });
    }

    fn file(&mut self, path: &str, contents: &str) {
        let contents = ByteString::from(contents);
        self.list.push(Entry::File { path: path.into(), contents, mode: 0o644, owner: Owner::Executor });
    }

    fn bind_with_parents(&mut self, target: &Path, source: &Path, optional: bool) {
        let parents: Vec<_> = target.ancestors().skip(1).filter(|path| *path != Path::new("/")).collect();
        for parent in parents.into_iter().rev() {
            if self.directories.insert(parent.to_owned()) {
                self.list.push(Entry::Directory { path: parent.into(), mode: 0o755, owner: Owner::Executor });
            }
        }
        self.list.push(Entry::Bind { path: target.into(), source: source.into(), optional, claim: None });
    }

    fn base(&mut self, jail: &Jail<'_>) {
        self.directories.insert(BUILD_DIRECTORY.into());
        self.list.push(Entry::Bind {
            path: BUILD_DIRECTORY.into(),
            source: jail.scratch.into(),
            optional: false,
            claim: Some(Claim { mode: 0o700, owner: Owner::Build }),
        });
        for (name, contents) in &jail.build_files {
            let path = [BUILD_DIRECTORY.as_bytes(), b"/", name].concat();
            let contents = ByteString::from(contents.as_slice());
            self.list.push(Entry::File { path: path.into(), contents, mode: 0o644, owner: Owner::Build });
        }
        self.directory("/tmp", 0o1777, Owner::Executor);
        self.directories.insert("/proc".into());
        self.list.push(Entry::Processes { path: "/proc".into() });
    }

    fn devices(&mut self, jail: &Jail<'_>) {
        self.directory("/dev", 0o755, Owner::Executor);
        for name in ["full", "null", "random", "tty", "urandom", "zero"] {
            self.list.push(Entry::bind(format!("/dev/{name}"), format!("/dev/{name}")));
        }
        if jail.has_kvm {
            self.list.push(Entry::bind("/dev/kvm", "/dev/kvm"));
        }
        let links = [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "/dev/pts/ptmx"),
        ];
        for (name, target) in links {
            let path = format!("/dev/{name}").into();
            self.list.push(Entry::Symlink { path, target: target.into(), owner: Owner::Executor });
        }
        self.list.push(Entry::Terminals { path: "/dev/pts".into() });
        self.list.push(Entry::Memory { path: "/dev/shm".into(), size: jail.dev_shm_size.to_owned() });
    }

    fn etc(&mut self, jail: &Jail<'_>) {
        self.directory("/etc", 0o555, Owner::Executor);
        self.file("/etc/passwd", PASSWD);
        self.file("/etc/group", GROUP);
        if jail.network == JailNetwork::None {
            return self.file("/etc/hosts", HOSTS);
        }
        self.file("/etc/nsswitch.conf", NSSWITCH);
        let mut names = vec!["services", "hosts"];
        match jail.network {
            // The host's resolver may listen on the host's loopback only, which is out of reach.
            JailNetwork::Joined { .. } => self.file("/etc/resolv.conf", JOINED_RESOLVER),
            _ => names.push("resolv.conf"),
        }
        for name in names {
            let path = PathBuf::from(format!("/etc/{name}"));
            self.bind_with_parents(&path, &path, true);
        }
        if let Some(source) = jail.certificates {
            self.bind_with_parents(Path::new(CERTIFICATES), source, true);
        }
    }

    fn store(&mut self, jail: &Jail<'_>) {
        self.directory("/nix", 0o755, Owner::Executor);
        self.directory(STORE, 0o1775, Owner::ExecutorForBuildGroup);
        for input in &jail.inputs {
            let path = ByteString::from(format!("{STORE}/{}", input.base_name));
            self.list.push(match &input.kind {
                InputKind::Mounted => Entry::bind(path, input.source.as_path()),
                InputKind::Symlink { target } => {
                    Entry::Symlink { path, target: target.as_slice().into(), owner: Owner::Executor }
                }
            });
        }
    }
}
