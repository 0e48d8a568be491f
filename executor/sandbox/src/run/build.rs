//! Starts process 1: a child builds the root and enters the namespaces, its only child becomes the program.
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use rustix::process::Pid;

use super::link::{self, Said};
use super::namespaces::Namespaces;
use super::network::{self, Joined};
use super::{Build, root};
use crate::bytes::ByteString;
use crate::failure::{StepError, failed};
use crate::init::{self, Inherited};
use crate::plan::RootStep;
use crate::spec::{Network, Spec};
use crate::sys::{self, Side};

/// Exit code of a child that has told the supervisor why it failed.
const CHILD_FAILED: i32 = 127;

/// Process 1 as it runs.
pub struct Started<T> {
    /// Its process id here.
    pub process: Pid,
    /// What connects it with the host's network, as long as this is kept.
    pub joined: Option<Joined>,
    /// What the children did not get.
    pub kept: T,
}

/// What the children have said.
#[derive(Default)]
struct Heard {
    process: Option<Pid>,
    joined: Option<Joined>,
    failure: Option<StepError>,
}

/// Starts the program as process 1 of a sandbox. `kept` are descriptors that the children must not have.
pub fn start<T>(
    build: &Build,
    namespaces: Namespaces,
    terminal: OwnedFd,
    kept: T,
) -> Result<Started<T>, StepError> {
    let supervisor = rustix::process::getpid();
    let (control, child_end) = UnixStream::pair().map_err(failed("make a socket pair", ""))?;
    let inherited = Inherited { null: root::open_null()?, terminal, supervisor: child_end };
    match sys::fork().map_err(failed("start", "the child that builds the root"))? {
        Side::Child => {
            drop((control, kept));
            let Err(error) = child(build, &namespaces, &inherited, supervisor);
            link::tell_failure(&inherited.supervisor, &error);
            std::process::exit(CHILD_FAILED)
        }
        Side::Parent(child) => {
            drop((inherited, namespaces));
            let heard = listen(&control, child, &build.spec);
            drop(control);
            sys::wait(child).map_err(failed("wait for", "the child that builds the root"))?;
            let Heard { process, joined, failure } = heard?;
            match (process, failure) {
                (Some(process), None) => Ok(Started { process, joined, kept }),
                (process, failure) => {
                    if let Some(process) = process {
                        sys::wait(process).map_err(failed("wait for", "process 1"))?;
                    }
                    let silent = || failed("start", "process 1")(io::Error::other("it died without a word"));
                    Err(failure.unwrap_or_else(silent))
                }
            }
        }
    }
}

/// What the children say until process 1 has become the program or all are dead.
fn listen(control: &UnixStream, child: Pid, spec: &Spec) -> Result<Heard, StepError> {
    let broke = || failed("follow the start of", "process 1");
    let mut heard = Heard::default();
    while let Some(said) = link::hear(control).map_err(broke())? {
        match said {
            Said::Ready => {
                if let Some(cgroup) = &spec.cgroup {
                    enter_cgroup(child, cgroup)?;
                }
                if let Network::Joined { program } = &spec.network {
                    heard.joined = Some(network::join(program, child)?);
                }
                link::go_on(control).map_err(broke())?;
            }
            Said::Process(process) => heard.process = process,
            Said::Failed(failure) => heard.failure = Some(failure),
        }
    }
    Ok(heard)
}

/// Process 1 and all others inherit it; ourselves, who must outlive its limits, stay outside.
fn enter_cgroup(child: Pid, cgroup: &ByteString) -> Result<(), StepError> {
    let file = std::path::Path::new(std::ffi::OsStr::from_bytes(cgroup.as_bytes())).join("cgroup.procs");
    let shown = file.display().to_string();
    std::fs::write(&file, child.as_raw_nonzero().to_string()).map_err(failed("move process 1 to", &shown))
}

fn child(
    build: &Build,
    namespaces: &Namespaces,
    inherited: &Inherited,
    supervisor: Pid,
) -> Result<Infallible, StepError> {
    let Build { spec, plan, words } = build;
    root::die_with(supervisor)?;
    for step in &plan.root {
        root::perform(step, spec, namespaces)?;
        if matches!(step, RootStep::BecomeBuild | RootStep::EnterNamespaces { .. }) {
            // Changed credentials clear it.
            root::die_with(supervisor)?;
        }
    }
    let link = &inherited.supervisor;
    if spec.cgroup.is_some() || matches!(spec.network, Network::Joined { .. }) {
        link::take_turns(link)?;
    }
    // Exactly once: any other child would take a process id that the build sees.
    match sys::fork_sibling().map_err(failed("start", "process 1"))? {
        Side::Child => init::run(&plan.inner, words, inherited),
        Side::Parent(process) => {
            link::tell_process(link, process)?;
            std::process::exit(0)
        }
    }
}
