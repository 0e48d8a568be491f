//! The Spec: what the executor asks the launcher to become. Plain data with a JSON form; nothing here acts.
use serde::{Deserialize, Serialize};

use crate::binfmt::Rule;
pub use crate::bytes::ByteString;

/// Longest JSON form of a request that the launcher reads, in bytes.
pub const REQUEST_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most entries below the root of one sandbox (a closure of this many inputs does not exist).
pub const ENTRIES_MAX: usize = 200_000;
/// Longest path, in bytes: the kernel's PATH_MAX less its NUL.
pub const PATH_BYTES_MAX: usize = 4095;
/// Most arguments and environment variables together; the kernel refuses long before by size.
pub const WORDS_MAX: usize = 1_000_000;
/// Most trees whose owner is handed back.
pub const HAND_BACK_MAX: usize = 10_000;
/// Most interpreter rules of one sandbox.
pub const RULES_MAX: usize = 32;

/// What the launcher is asked to do: one request a process, or two when the first is [`Request::Prepare`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Run one program in a sandbox.
    Run(Box<Spec>),
    /// Make ready what is the same for all builds of a slot, then wait for the request of one of them on the same pipe; the
    /// pipe's end before that means that there is none.
    Prepare(Prepare),
    /// Only hand the owner of trees back to the executor: after a launcher was killed, its root still holds files of
    /// the subordinate id that the executor cannot remove.
    Reclaim(Reclaim),
}

/// One program in one sandbox.
///
/// Paths called *inside* start with `/` and mean the sandbox's root; paths called *host* are the executor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Host path of the directory that becomes `/`: made by the executor, empty, its own.
    pub root: ByteString,
    /// Permission bits of `/`; its owner becomes executor, its group the build's.
    pub root_mode: u32,
    /// What to make below `/`, in this order. A parent comes before its children; `/proc` and `/dev/pts` included.
    pub entries: Vec<Entry>,
    /// Inside paths of directories that become mount points of themselves marked shared, before the binds below them.
    pub shared: Vec<ByteString>,
    /// What to run.
    pub command: Command,
    /// Ids on the host that the build runs as: subordinate ids, one pair a slot. Never the executor's own.
    pub host_ids: Ids,
    /// Ids that the build sees as its own.
    pub inside_ids: Ids,
    /// Host name inside.
    pub host_name: String,
    /// NIS domain name inside: `(none)` is Linux's default.
    pub domain_name: String,
    /// `ADDR_NO_RANDOMIZE`: addresses are the same in every run.
    pub fixed_addresses: bool,
    /// `PER_LINUX32`: `uname -m` of a 32-bit machine.
    pub linux32: bool,
    /// File mode creation mask.
    pub umask: u32,
    /// Resource limits to set; all others are inherited.
    pub limits: Vec<Limit>,
    /// Host path of the cgroup that all processes of the sandbox are in; none leaves them in the launcher's.
    #[serde(default)]
    pub cgroup: Option<ByteString>,
    /// Which network the build sees.
    pub network: Network,
    /// Refuse set-id bits and extended attributes, as Nix does.
    pub filter_system_calls: bool,
    /// Interpreters for foreign programs. Empty: the host's registrations stay visible; else only these exist.
    pub interpreters: Vec<Rule>,
    /// The program is run by qemu-user: end it when it hangs on its own fatal signal, which process 1 ignores.
    pub emulated: bool,
    /// Trees whose owner becomes the executor again when the build has ended.
    pub hand_back: Vec<HandBack>,
}

/// One thing below the sandbox's root. `path` is always an inside path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// A directory.
    Directory {
        /// Where.
        path: ByteString,
        /// Permission bits.
        mode: u32,
        /// Owner and group.
        owner: Owner,
    },
    /// A regular file.
    File {
        /// Where; below a [`Entry::Bind`] of a directory it lands in that directory on the host.
        path: ByteString,
        /// What is in it.
        contents: ByteString,
        /// Permission bits.
        mode: u32,
        /// Owner and group.
        owner: Owner,
    },
    /// A symbolic link.
    Symlink {
        /// Where.
        path: ByteString,
        /// What it says.
        target: ByteString,
        /// Owner and group.
        owner: Owner,
    },
    /// A file, directory or device of the host, with everything mounted below it; the mount point is made.
    Bind {
        /// Where.
        path: ByteString,
        /// Host path; symbolic links are followed.
        source: ByteString,
        /// A missing source is left out instead of an error.
        optional: bool,
        /// Set these on the source before it is mounted: the build's scratch directory becomes the build's.
        #[serde(default)]
        claim: Option<Claim>,
    },
    /// Memory with a size limit (`/dev/shm`), mode 01777.
    Memory {
        /// Where.
        path: ByteString,
        /// As mount(8) writes it: `50%` or bytes.
        size: String,
    },
    /// Pseudo-terminals of its own (`/dev/pts`), mode 0620, its ptmx 0666.
    Terminals {
        /// Where.
        path: ByteString,
    },
    /// Process information of the sandbox's process namespace (`/proc`).
    Processes {
        /// Where.
        path: ByteString,
    },
}

impl Entry {
    /// Where the entry is, inside.
    pub fn path(&self) -> &ByteString {
        match self {
            Self::Directory { path, .. }
            | Self::File { path, .. }
            | Self::Symlink { path, .. }
            | Self::Bind { path, .. }
            | Self::Memory { path, .. }
            | Self::Terminals { path }
            | Self::Processes { path } => path,
        }
    }

    /// A bind mount of a path that must exist.
    pub fn bind(path: impl Into<ByteString>, source: impl Into<ByteString>) -> Self {
        Self::Bind { path: path.into(), source: source.into(), optional: false, claim: None }
    }
}

/// Owner and mode that a bind's source gets before the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: Owner,
}

/// Owner and group of an entry. Inside, the executor's ids show as 65534.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// Executor's user and group: the build cannot change it.
    Executor,
    /// Executor's user, the build's group.
    ExecutorForBuildGroup,
    /// The build's user and group.
    Build,
}

/// The program that becomes process 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// What is executed (inside path, relative paths from `directory`).
    pub program: ByteString,
    /// All of argv, argv\[0\] included.
    pub arguments: Vec<ByteString>,
    /// `NAME=VALUE` in the order in which the program sees them.
    pub environment: Vec<ByteString>,
    /// Working directory (inside path).
    pub directory: ByteString,
}

/// A user id and a group id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ids {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Of what.
    pub resource: Resource,
    /// Soft limit in the resource's own unit; none is unlimited.
    pub soft: Option<u64>,
    /// Hard limit; none leaves the inherited one.
    pub hard: Option<u64>,
}

/// Resources that can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Size of a core file, bytes.
    Core,
    /// Stack, bytes.
    Stack,
    /// Open files.
    OpenFiles,
    /// Address space, bytes (never for emulated builds: qemu reserves a lot).
    AddressSpace,
    /// Largest file, bytes.
    FileSize,
    /// Processes of the build's user.
    Processes,
}

/// Which network the build sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Its own, with nothing but a loopback that is up.
    Isolated,
    /// Its own, joined to the host's by a process that speaks for it. Nobody outside can speak to the build, and the
    /// host's loopback is out of reach.
    Joined {
        /// Host path of slirp4netns.
        program: ByteString,
    },
    /// The host's; abstract Unix sockets of the host stay out of reach where the kernel can do that (6.12).
    Host,
}

/// A tree whose owner becomes the executor again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandBack {
    /// Host path; missing is no error.
    pub path: ByteString,
    /// Report the first object that the build's user does not own (an event `foreign-owner`).
    pub check_owner: bool,
}

/// Whose build a launcher waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// [`Spec::host_ids`] of the build.
    pub host_ids: Ids,
    /// [`Spec::inside_ids`] of the build.
    pub inside_ids: Ids,
}

/// Trees to hand back without running anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reclaim {
    /// The subordinate ids that own them now.
    pub host_ids: Ids,
    /// Host paths; missing is no error.
    pub paths: Vec<ByteString>,
}
