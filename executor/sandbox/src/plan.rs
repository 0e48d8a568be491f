//! Spec -> steps. Pure: what each of the sandbox's three processes does, in order, as data.
//!
//! *Outer* is the supervisor: root of a user namespace in which 0 is the executor and 1 the build. *Root* builds the
//! file tree there and makes the namespaces. *Inner* is process 1, where the build's user has its final number.
use thiserror::Error;

use crate::binfmt::RuleError;
use crate::bytes::ByteString;
use crate::check::{self, SpecError};
use crate::spec::{Entry, Ids, Limit, Network, Owner, Spec};

/// The executor in the outer user namespace.
pub const EXECUTOR: Ids = Ids { user: 0, group: 0 };
/// The build in the outer user namespace.
pub const BUILD: Ids = Ids { user: 1, group: 1 };

/// What each process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// By the supervisor, which is root of its namespace, has the log's terminal and the build's namespaces.
    pub outer: Vec<OuterStep>,
    /// By the process that builds the root.
    pub root: Vec<RootStep>,
    /// By process 1 of the sandbox.
    pub inner: Vec<InnerStep>,
}

/// A step of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OuterStep {
    /// Nothing that the host mounts from here on is seen.
    MakeMountsPrivate,
    /// Write these lines to a binfmt_misc of its own, and keep that alive.
    RegisterInterpreters(Vec<ByteString>),
}

/// A step on the root directory. Paths are relative to it; the process stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootStep {
    /// A mount namespace of its own, private.
    NewMounts,
    /// Make the host directory a mount, set mode and owner, step into it.
    EnterRoot {
        /// Host path.
        root: ByteString,
        /// Permission bits.
        mode: u32,
    },
    /// Make a directory.
    Directory {
        /// Where.
        path: ByteString,
        /// Permission bits.
        mode: u32,
        /// Outer ids.
        owner: Ids,
    },
    /// Write a file.
    File {
        /// Where.
        path: ByteString,
        /// Entry of the Spec that has the contents: they are not copied.
        entry: usize,
        /// Permission bits.
        mode: u32,
        /// Outer ids.
        owner: Ids,
    },
    /// Make a symbolic link.
    Symlink {
        /// Where.
        path: ByteString,
        /// What it says.
        target: ByteString,
        /// Outer ids.
        owner: Ids,
    },
    /// Change owner and mode of a host path.
    Claim {
        /// Host path.
        source: ByteString,
        /// Permission bits.
        mode: u32,
        /// Outer ids.
        owner: Ids,
    },
    /// Mount a host path, with everything below it.
    Bind {
        /// Where; made when missing.
        path: ByteString,
        /// Host path.
        source: ByteString,
        /// Skip when the source is missing.
        optional: bool,
    },
    /// Make a directory a mount of itself.
    BindItself {
        /// Which.
        path: ByteString,
    },
    /// Mount a tmpfs.
    Memory {
        /// Where; made.
        path: ByteString,
        /// Mount option.
        size: String,
    },
    /// Mount a devpts.
    Terminals {
        /// Where; made.
        path: ByteString,
    },
    /// Become the build's user, with no supplementary groups, and readable to the supervisor.
    BecomeBuild,
    /// Enter the build's user, UTS and IPC namespaces, its network unless that is the host's; new mounts and processes.
    EnterNamespaces {
        /// The network namespace too.
        network: bool,
    },
}

/// A step of process 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InnerStep {
    /// Session and process group of its own.
    NewSession,
    /// Host and domain name.
    SetNames {
        /// Host name.
        host: String,
        /// Domain name.
        domain: String,
    },
    /// Nothing reaches the supervisor's mounts.
    MakeMountsPrivate,
    /// Make the root a mount that is not locked, and stand in it.
    UnlockRoot,
    /// Mark a mount and all below it shared.
    Share {
        /// Which, relative to the root.
        path: ByteString,
    },
    /// Mount a proc.
    Processes {
        /// Where, relative to the root.
        path: ByteString,
    },
    /// Make the root `/` and let go of the host's.
    PivotRoot,
    /// Change directory.
    ChangeDirectory {
        /// Inside path.
        path: ByteString,
    },
    /// /dev/null, terminal, terminal; nothing else stays open over execve.
    ConnectStreams,
    /// File mode creation mask.
    Umask(u32),
    /// A resource limit.
    Limit(Limit),
    /// Execution domain.
    Personality {
        /// Addresses are not random.
        fixed_addresses: bool,
        /// 32-bit machine name.
        linux32: bool,
    },
    /// All signals default and unblocked.
    DefaultSignals,
    /// The final ids.
    BecomeInside(Ids),
    /// SIGKILL when the supervisor dies; again, for changing ids clears it.
    DieWithSupervisor,
    /// No program gives privileges.
    NoNewPrivileges,
    /// No abstract Unix sockets of the host, where the kernel can.
    ScopeAbstractSockets,
    /// The system call filter.
    FilterSystemCalls,
    /// execve.
    Execute,
}

/// Why there is no plan.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// The Spec breaks a rule.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// An interpreter cannot be registered.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// The steps for a Spec, of which nothing is trusted. `own` are the executor's ids on the host.
pub fn plan(spec: &Spec, own: Ids) -> Result<Plan, PlanError> {
    check::spec(spec, own)?;
    Ok(Plan { outer: outer(spec)?, root: root(spec), inner: inner(spec) })
}

fn outer(spec: &Spec) -> Result<Vec<OuterStep>, RuleError> {
    let mut steps = vec![OuterStep::MakeMountsPrivate];
    if !spec.interpreters.is_empty() {
        let lines = spec.interpreters.iter().map(|rule| rule.register_line().map(ByteString::from));
        steps.push(OuterStep::RegisterInterpreters(lines.collect::<Result<_, _>>()?));
    }
    Ok(steps)
}

fn root(spec: &Spec) -> Vec<RootStep> {
    let mut steps =
        vec![RootStep::NewMounts, RootStep::EnterRoot { root: spec.root.clone(), mode: spec.root_mode }];
    for (index, entry) in spec.entries.iter().enumerate() {
        let path = relative(entry.path());
        match entry {
            Entry::Directory { mode, owner, .. } => {
                steps.push(RootStep::Directory { path: path.clone(), mode: *mode, owner: ids(*owner) });
                if spec.shared.contains(entry.path()) {
                    steps.push(RootStep::BindItself { path });
                }
            }
            Entry::File { mode, owner, .. } => {
                steps.push(RootStep::File { path, entry: index, mode: *mode, owner: ids(*owner) });
            }
            Entry::Symlink { target, owner, .. } => {
                steps.push(RootStep::Symlink { path, target: target.clone(), owner: ids(*owner) });
            }
            Entry::Bind { source, optional, claim, .. } => {
                if let Some(claim) = claim {
                    let owner = ids(claim.owner);
                    steps.push(RootStep::Claim { source: source.clone(), mode: claim.mode, owner });
                }
                steps.push(RootStep::Bind { path, source: source.clone(), optional: *optional });
            }
            Entry::Memory { size, .. } => steps.push(RootStep::Memory { path, size: size.clone() }),
            Entry::Terminals { .. } => steps.push(RootStep::Terminals { path }),
            // Process 1 mounts it: only then does it show the sandbox's processes.
            Entry::Processes { .. } => steps.push(RootStep::Directory { path, mode: 0o755, owner: EXECUTOR }),
        }
    }
    steps.push(RootStep::BecomeBuild);
    steps.push(RootStep::EnterNamespaces { network: spec.network != Network::Host });
    steps
}

fn inner(spec: &Spec) -> Vec<InnerStep> {
    let mut steps = vec![
        InnerStep::NewSession,
        InnerStep::SetNames { host: spec.host_name.clone(), domain: spec.domain_name.clone() },
    ];
    steps.push(InnerStep::MakeMountsPrivate);
    steps.push(InnerStep::UnlockRoot);
    steps.extend(spec.shared.iter().map(|path| InnerStep::Share { path: relative(path) }));
    for entry in &spec.entries {
        if let Entry::Processes { path } = entry {
            steps.push(InnerStep::Processes { path: relative(path) });
        }
    }
    steps.push(InnerStep::PivotRoot);
    steps.push(InnerStep::ChangeDirectory { path: spec.command.directory.clone() });
    steps.push(InnerStep::ConnectStreams);
    steps.push(InnerStep::Umask(spec.umask));
    steps.extend(spec.limits.iter().copied().map(InnerStep::Limit));
    steps.push(InnerStep::Personality { fixed_addresses: spec.fixed_addresses, linux32: spec.linux32 });
    steps.push(InnerStep::DefaultSignals);
    steps.push(InnerStep::BecomeInside(spec.inside_ids));
    steps.push(InnerStep::DieWithSupervisor);
    steps.push(InnerStep::NoNewPrivileges);
    if spec.network == Network::Host {
        steps.push(InnerStep::ScopeAbstractSockets);
    }
    if spec.filter_system_calls {
        steps.push(InnerStep::FilterSystemCalls);
    }
    steps.push(InnerStep::Execute);
    steps
}

fn ids(owner: Owner) -> Ids {
    match owner {
        Owner::Executor => EXECUTOR,
        Owner::ExecutorForBuildGroup => Ids { user: EXECUTOR.user, group: BUILD.group },
        Owner::Build => BUILD,
    }
}

fn relative(path: &ByteString) -> ByteString {
    ByteString::from(path.as_bytes().strip_prefix(b"/").unwrap_or(path.as_bytes()))
}
