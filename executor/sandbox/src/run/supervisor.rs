//! The supervisor: root of the outer user namespace. Makes the sandbox through its children, and sees it to its end.
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use super::hand_back::{Covered, HandingBack};
use super::{STOPPED, TOLD, Work, build, outer, report, root, supervise};
use crate::bytes::ByteString;
use crate::failure::{StepError, failed};
use crate::init::Words;
use crate::plan::{EXECUTOR, OuterStep, Plan};
use crate::protocol::{Event, Finished};
use crate::spec::Spec;
use crate::sys;

/// All of the supervisor; returns its exit code.
pub fn main(work: &Work, launcher: Pid, mut link: UnixStream, started: Instant) -> i32 {
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
    let result = match work {
        Work::Run { spec, plan, words } => run(spec, plan, words, launcher, started),
        Work::Reclaim(reclaim) => reclaim_trees(&reclaim.paths, launcher),
    };
    report(&result.unwrap_or_else(|error| error.to_event()));
    TOLD
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

fn reclaim_trees(paths: &[ByteString], launcher: Pid) -> Result<Event, StepError> {
    become_root(launcher)?;
    let mut handing = HandingBack::default();
    for path in paths {
        handing.tree(path)?;
    }
    Ok(Event::Reclaimed)
}

fn run(spec: &Spec, plan: &Plan, words: &Words, launcher: Pid, started: Instant) -> Result<Event, StepError> {
    let mut surroundings = outer::Surroundings::default();
    for step in &plan.outer {
        match step {
            OuterStep::BecomeRoot => become_root(launcher)?,
            OuterStep::MakeMountsPrivate => root::make_private()?,
            OuterStep::RegisterInterpreters(lines) => surroundings.register_interpreters(lines)?,
            OuterStep::OpenTerminal => surroundings.open_terminal()?,
        }
    }
    let ended = sandbox(spec, plan, words, surroundings, started);
    // Also when it never ran: what was made for it must not stay the build's.
    let handed_back = hand_back(spec);
    let finished = ended?;
    handed_back?;
    Ok(Event::Finished(finished))
}

/// From the first child to the end of all processes in the sandbox.
fn sandbox(
    spec: &Spec,
    plan: &Plan,
    words: &Words,
    surroundings: outer::Surroundings,
    started: Instant,
) -> Result<Finished, StepError> {
    let outer::Surroundings { interpreters, terminal } = surroundings;
    let missing = || failed("open the log's terminal", "")(io::Error::other("the plan has no such step"));
    let outer::Terminal { master, slave } = terminal.ok_or_else(missing)?;
    let not_for_the_build = (master, interpreters);
    let build::Started { process, joined, kept } = build::start(spec, plan, words, slave, not_for_the_build)?;
    let (master, interpreters) = kept;
    let setup_microseconds = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    report(&Event::Started { pid: process.as_raw_nonzero().get(), setup_microseconds });
    let finished = supervise::supervise(process, &master, spec.emulated);
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
