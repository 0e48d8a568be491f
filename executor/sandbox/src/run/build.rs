//! Starts process 1: a child builds the root and makes the namespaces, its only child becomes the program.
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use rustix::process::Pid;

use super::network::{self, Joined};
use super::root;
use crate::bytes::ByteString;
use crate::failure::{StepError, failed};
use crate::init::{self, Inherited, Words};
use crate::plan::{BUILD, Plan, RootStep};
use crate::protocol::{EVENT_BYTES_MAX, Event};
use crate::spec::{Ids, Network, Spec};
use crate::sys::{self, Side};

/// Messages to the supervisor begin with one of these.
const UNSHARED: u8 = b'u';
const PROCESS: u8 = b'p';
const FAILED: u8 = b'f';
/// The supervisor's only answer.
const MAPPED: u8 = b'm';
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

/// Starts the program as process 1 of a new sandbox. `kept` are descriptors that the children must not have.
pub fn start<T>(
    spec: &Spec,
    plan: &Plan,
    words: &Words,
    terminal: OwnedFd,
    kept: T,
) -> Result<Started<T>, StepError> {
    let supervisor = rustix::process::getpid();
    let (mut control, child_end) = UnixStream::pair().map_err(failed("make a socket pair", ""))?;
    let inherited = Inherited { null: root::open_null()?, terminal, supervisor: child_end };
    match sys::fork().map_err(failed("start", "the child that builds the root"))? {
        Side::Child => {
            drop((control, kept));
            let Err(error) = child(spec, plan, words, &inherited, supervisor);
            tell_failure(&inherited.supervisor, &error);
            std::process::exit(CHILD_FAILED)
        }
        Side::Parent(child) => {
            drop(inherited);
            let heard = listen(&mut control, child, spec);
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
fn listen(control: &mut UnixStream, child: Pid, spec: &Spec) -> Result<Heard, StepError> {
    let broke = || failed("follow the start of", "process 1");
    let mut heard = Heard::default();
    let mut tag = [0];
    while control.read(&mut tag).map_err(broke())? == 1 {
        let mut number = [0; 4];
        if tag[0] != UNSHARED {
            control.read_exact(&mut number).map_err(broke())?;
        }
        match tag[0] {
            UNSHARED => {
                if let Some(cgroup) = &spec.cgroup {
                    enter_cgroup(child, cgroup)?;
                }
                write_inner_maps(child, spec.inside_ids)?;
                if let Network::Joined { program } = &spec.network {
                    heard.joined = Some(network::join(program, child)?);
                }
                control.write_all(&[MAPPED]).map_err(broke())?;
            }
            PROCESS => heard.process = Pid::from_raw(i32::from_le_bytes(number)),
            _ => {
                let length = usize::try_from(u32::from_le_bytes(number)).unwrap_or(usize::MAX);
                let mut text = vec![0; length.min(EVENT_BYTES_MAX)];
                control.read_exact(&mut text).map_err(broke())?;
                heard.failure = Some(told_failure(&text));
            }
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

/// The build's final ids. Only the supervisor, root of the namespace above, may write them.
fn write_inner_maps(child: Pid, inside: Ids) -> Result<(), StepError> {
    let child = child.as_raw_nonzero();
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{} {} 1\n", inside.user, BUILD.user)),
        ("gid_map", format!("{} {} 1\n", inside.group, BUILD.group)),
    ] {
        let path = format!("/proc/{child}/{file}");
        std::fs::write(&path, text).map_err(failed("write", &path))?;
    }
    Ok(())
}

fn child(
    spec: &Spec,
    plan: &Plan,
    words: &Words,
    inherited: &Inherited,
    supervisor: Pid,
) -> Result<Infallible, StepError> {
    root::die_with(supervisor)?;
    for step in &plan.root {
        root::perform(step, spec)?;
        if matches!(step, RootStep::BecomeBuild | RootStep::NewNamespaces { .. }) {
            // Changed credentials clear it.
            root::die_with(supervisor)?;
        }
    }
    let broke = || failed("speak with", "the supervisor");
    let mut link = &inherited.supervisor;
    link.write_all(&[UNSHARED]).map_err(broke())?;
    link.read_exact(&mut [0]).map_err(broke())?;
    // Exactly once: any other child would take a process id that the build sees.
    match sys::fork_sibling().map_err(failed("start", "process 1"))? {
        Side::Child => init::run(&plan.inner, words, inherited),
        Side::Parent(process) => {
            let mut message = [PROCESS; 5];
            message[1..].copy_from_slice(&process.as_raw_nonzero().get().to_le_bytes());
            link.write_all(&message).map_err(broke())?;
            std::process::exit(0)
        }
    }
}

/// In one write, for both children have this socket.
fn tell_failure(mut link: &UnixStream, error: &StepError) {
    let text = serde_json::to_vec(&error.to_event()).unwrap_or_default();
    let length = u32::try_from(text.len()).unwrap_or(0);
    let message = [&[FAILED], length.to_le_bytes().as_slice(), &text].concat();
    // A supervisor that is gone takes us with it.
    let _supervisor_is_gone = link.write_all(&message);
}

fn told_failure(text: &[u8]) -> StepError {
    match serde_json::from_slice(text) {
        Ok(Event::Failed { step, path, message }) => {
            StepError { step: step.into(), path, source: io::Error::other(message) }
        }
        _ => failed("start", "process 1")(io::Error::other("it failed in words that make no sense")),
    }
}
