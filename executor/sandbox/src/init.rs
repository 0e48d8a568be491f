//! Process 1 of the sandbox: carries out the inner steps, the last of which turns it into the program.
use std::convert::Infallible;
use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::process::{Gid, Resource as KernelResource, Rlimit, Uid};

use crate::bytes::ByteString;
use crate::failure::{StepError, failed};
use crate::plan::InnerStep;
use crate::run::make_private;
use crate::seccomp;
use crate::spec::{Ids, Limit, Resource, Spec};
use crate::sys;

/// Exit code of a program that could not be executed, as Nix has it.
const NOT_EXECUTED: i32 = 1;

/// What process 1 gets from the process that made it.
pub struct Inherited {
    /// /dev/null.
    pub null: OwnedFd,
    /// Slave side of the log's terminal.
    pub terminal: OwnedFd,
    /// To the supervisor; its end is the sign that it died.
    pub supervisor: UnixStream,
}

/// Words of the program in the kernel's form, made before there is a process that could not report a failure.
pub struct Words {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Words {
    /// The words of a Spec; NUL bytes have been refused by its check.
    pub fn of(spec: &Spec) -> Result<Self, StepError> {
        let word = |bytes: &ByteString| {
            CString::new(bytes.as_bytes()).map_err(|error| failed("prepare", bytes)(io::Error::other(error)))
        };
        let words = |list: &[ByteString]| list.iter().map(word).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            program: word(&spec.command.program)?,
            arguments: words(&spec.command.arguments)?,
            environment: words(&spec.command.environment)?,
        })
    }
}

/// Becomes the program, or says why not: a step that fails is returned, a failing execve exits as Nix does.
pub fn run(steps: &[InnerStep], words: &Words, inherited: &Inherited) -> Result<Infallible, StepError> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(failed("die with the supervisor", ""))?;
    for step in steps {
        perform(step, words, inherited)?;
    }
    Err(failed("execute", words.program.as_bytes())(io::Error::other("the plan does not end in that step")))
}

fn perform(step: &InnerStep, words: &Words, inherited: &Inherited) -> Result<(), StepError> {
    match step {
        InnerStep::NewSession => rustix::process::setsid().map(drop).map_err(failed("start a session", "")),
        InnerStep::SetNames { host, domain } => {
            rustix::system::sethostname(host.as_bytes()).map_err(failed("set host name", host))?;
            rustix::system::setdomainname(domain.as_bytes()).map_err(failed("set domain name", domain))
        }
        InnerStep::MakeMountsPrivate => make_private(),
        InnerStep::UnlockRoot => unlock_root().map_err(failed("unlock", "/")),
        InnerStep::Share { path } => {
            let flags = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
            rustix::mount::mount_change(path.as_bytes(), flags).map_err(failed("share", path))
        }
        InnerStep::Processes { path } => {
            rustix::mount::mount("none", path.as_bytes(), "proc", MountFlags::empty(), None)
                .map_err(failed("mount proc", path))
        }
        InnerStep::PivotRoot => pivot_root().map_err(failed("pivot to", "/")),
        InnerStep::ChangeDirectory { path } => {
            rustix::process::chdir(path.as_bytes()).map_err(failed("enter", path))
        }
        InnerStep::ConnectStreams => connect(inherited).map_err(failed("connect streams", "")),
        InnerStep::Umask(mask) => {
            rustix::process::umask(Mode::from_raw_mode(*mask));
            Ok(())
        }
        InnerStep::Limit(limit) => {
            set_limit(*limit).map_err(failed("limit", format!("{:?}", limit.resource)))
        }
        InnerStep::Personality { fixed_addresses, linux32 } => {
            sys::personality(*fixed_addresses, *linux32).map_err(failed("set personality", ""))
        }
        InnerStep::DefaultSignals => sys::default_signals().map_err(failed("reset signals", "")),
        InnerStep::BecomeInside(ids) => become_inside(*ids),
        InnerStep::DieWithSupervisor => die_with_supervisor(&inherited.supervisor),
        InnerStep::NoNewPrivileges => {
            rustix::thread::set_no_new_privs(true).map_err(failed("set no_new_privs", ""))
        }
        InnerStep::ScopeAbstractSockets => {
            sys::scope_abstract_sockets().map(drop).map_err(failed("scope abstract sockets", ""))
        }
        InnerStep::FilterSystemCalls => {
            sys::install_filter(&seccomp::filter()).map_err(failed("filter system calls", ""))
        }
        InnerStep::Execute => {
            let error = sys::execute(&words.program, &words.arguments, &words.environment);
            std::process::exit(report_not_executed(words.program.as_bytes(), &error));
        }
    }
}

/// Mounts of the outer namespace are locked here; a copy of the tree on top of it is not. No path is searched, so it
/// works below directories that this id may not pass.
fn unlock_root() -> io::Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, ".", flags)?;
    rustix::mount::move_mount(&tree, "", CWD, ".", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(rustix::process::fchdir(&tree)?)
}

fn pivot_root() -> io::Result<()> {
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

fn connect(inherited: &Inherited) -> io::Result<()> {
    rustix::stdio::dup2_stdin(&inherited.null)?;
    rustix::stdio::dup2_stdout(&inherited.terminal)?;
    rustix::stdio::dup2_stderr(&inherited.terminal)?;
    sys::close_on_execute_from(3)
}

fn set_limit(limit: Limit) -> io::Result<()> {
    let resource = match limit.resource {
        Resource::Core => KernelResource::Core,
        Resource::Stack => KernelResource::Stack,
        Resource::OpenFiles => KernelResource::Nofile,
        Resource::AddressSpace => KernelResource::As,
        Resource::FileSize => KernelResource::Fsize,
        Resource::Processes => KernelResource::Nproc,
    };
    let maximum = limit.hard.or(rustix::process::getrlimit(resource).maximum);
    Ok(rustix::process::setrlimit(resource, Rlimit { current: limit.soft, maximum })?)
}

fn become_inside(ids: Ids) -> Result<(), StepError> {
    let (user, group) = (Uid::from_raw(ids.user), Gid::from_raw(ids.group));
    let shown = format!("{}:{}", ids.user, ids.group);
    rustix::thread::set_thread_res_gid(group, group, group).map_err(failed("become group of", &shown))?;
    rustix::thread::set_thread_res_uid(user, user, user).map_err(failed("become user of", &shown))
}

fn die_with_supervisor(supervisor: &UnixStream) -> Result<(), StepError> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(failed("die with the supervisor", ""))?;
    // Its process id is not visible from here, but its end of the socket is.
    let mut ends = [PollFd::new(supervisor, PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut ends, Some(&now)).map_err(failed("look for the supervisor", ""))?;
    if ends[0].revents().contains(PollFlags::HUP) {
        return Err(failed("die with the supervisor", "")(io::Error::other("it is dead already")));
    }
    Ok(())
}

/// Nix's words in the build's log, coloured and without a line feed.
fn report_not_executed(program: &[u8], error: &io::Error) -> i32 {
    let reason = error.raw_os_error().map_or_else(|| error.to_string(), sys::error_text);
    let mut line = b"\x1b[31;1merror:\x1b[0m executing '\x1b[35;1m".to_vec();
    line.extend_from_slice(program);
    line.extend_from_slice(format!("\x1b[0m': \x1b[35;1m{reason}\x1b[0m").as_bytes());
    // There is nobody else to tell.
    let _log_is_gone = io::stderr().write_all(&line);
    NOT_EXECUTED
}
