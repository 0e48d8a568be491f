//! The supervisor: root of the outer user namespace. Waits for its build where it was started ahead, makes the sandbox
//! through its children, and sees it to its end.
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use super::hand_back::{Covered, HandingBack};
use super::outer::{self, Prepared, Terminal};
use super::{
    Build, LaunchError, STOPPED, TOLD, Work, build, close_log, next_request, report, root, supervise,
};
use crate::bytes::ByteString;
use crate::failure::{StepError, failed};
use crate::plan::{EXECUTOR, OuterStep};
use crate::protocol::{Event, Finished};
use crate::spec::{Ids, Spec};
use crate::sys;

/// All of the supervisor; returns its exit code.
pub fn main(work: Work, own: Ids, launcher: Pid, mut link: UnixStream, started: Instant) -> i32 {
    match enter(launcher, &mut link) {
        Ok(true) => {}
        // The launcher could not map our ids, and says so.
        Ok(false) => return STOPPED,
        Err(error) => {
            report(&error.to_event());
            return TOLD;
        }
    }
    drop(link);
    match perform(work, own, launcher, started) {
        Ok(last) => last.iter().for_each(report),
        Err(error) => report(&error.to_event()),
    }
    TOLD
}

/// Returns the last event; none when it waited for a build that never came.
fn perform(work: Work, own: Ids, launcher: Pid, started: Instant) -> Result<Option<Event>, LaunchError> {
    become_root(launcher)?;
    match work {
        Work::Run(build) => Ok(Some(run(&build, Prepared::make(build.spec.inside_ids)?, started)?)),
        Work::Prepare(prepare) => {
            let prepared = Prepared::make(prepare.inside_ids)?;
            let Some(request) = next_request()? else { return Ok(None) };
            let taken = Instant::now();
            report(&Event::Taken);
            Ok(Some(run(&Build::prepared(request, prepare, own)?, prepared, taken)?))
        }
        Work::Reclaim(reclaim) => Ok(Some(reclaim_trees(&reclaim.paths)?)),
    }
}

/// Makes the user namespace; false when the launcher gave up on it.
fn enter(launcher: Pid, link: &mut UnixStream) -> Result<bool, StepError> {
    root::die_with(launcher)?;
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(failed("make a user namespace", ""))?;
    let mut byte = [1];
    link.write_all(&byte).map_err(failed("speak with", "the launcher"))?;
    Ok(link.read_exact(&mut byte).is_ok())
}

/// Root of the namespace, and still not alive without the launcher: changing ids clears that.
fn become_root(launcher: Pid) -> Result<(), StepError> {
    root::become_ids(EXECUTOR)?;
    root::die_with(launcher)
}

fn reclaim_trees(paths: &[ByteString]) -> Result<Event, StepError> {
    let mut handing = HandingBack::default();
    for path in paths {
        handing.tree(path)?;
    }
    Ok(Event::Reclaimed)
}

fn run(build: &Build, prepared: Prepared, started: Instant) -> Result<Event, StepError> {
    let mut interpreters = None;
    for step in &build.plan.outer {
        match step {
            OuterStep::MakeMountsPrivate => root::make_private()?,
            OuterStep::RegisterInterpreters(lines) => {
                interpreters = Some(outer::register_interpreters(lines)?);
            }
        }
    }
    let ended = sandbox(build, prepared, interpreters, started);
    // Also when it never ran: what was made for it must not stay the build's.
    let handed_back = hand_back(&build.spec);
    let finished = ended?;
    handed_back?;
    close_log()?;
    Ok(Event::Finished(finished))
}

/// From the first child to the end of all processes in the sandbox.
fn sandbox(
    build: &Build,
    prepared: Prepared,
    interpreters: Option<OwnedFd>,
    started: Instant,
) -> Result<Finished, StepError> {
    let Prepared { terminal: Terminal { master, slave }, namespaces } = prepared;
    let not_for_the_build = (master, interpreters);
    let build::Started { process, joined, kept } = build::start(build, namespaces, slave, not_for_the_build)?;
    let (master, interpreters) = kept;
    let setup_microseconds = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    report(&Event::Started { pid: process.as_raw_nonzero().get(), setup_microseconds });
    let finished = supervise::supervise(process, &master, build.spec.emulated);
    // Foreign programs ran as long as the one was open, and packets went as long as the other.
    drop((interpreters, joined));
    finished
}

fn hand_back(spec: &Spec) -> Result<(), StepError> {
    let mut handing = HandingBack::around(Covered::of(spec));
    for tree in &spec.hand_back {
        let foreign = handing.tree(&tree.path)?;
        if let (true, Some(path)) = (tree.check_owner, foreign) {
            report(&Event::ForeignOwner { tree: tree.path.to_string(), path });
        }
    }
    Ok(())
}
