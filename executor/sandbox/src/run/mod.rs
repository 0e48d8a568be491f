//! The launcher's first process: reads the first request, starts the supervisor, maps its ids, and waits for it.
//!
//! It keeps the executor's ids, which may write the supervisor's id maps; all else is done by the supervisor.
mod build;
mod hand_back;
mod hang;
mod id_maps;
mod kept;
mod link;
mod namespaces;
mod network;
mod outer;
mod root;
mod supervise;
mod supervisor;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Instant;

use rustix::process::Pid;
use thiserror::Error;

use crate::check::{self, SpecError};
use crate::failure::{StepError, failed};
use crate::init::Words;
use crate::plan::{Plan, PlanError, plan};
use crate::protocol::{Event, ProtocolError, read_request};
use crate::spec::{Ids, Prepare, Reclaim, Request, Spec};
use crate::sys::{self, Side};

pub(crate) use root::make_private;

/// The supervisor has said all there is to say.
const TOLD: i32 = 0;
/// The supervisor was told to stop by us, who know why.
const STOPPED: i32 = 3;

/// Why there was no sandbox.
#[derive(Debug, Error)]
enum LaunchError {
    #[error("read the request")]
    Protocol(#[from] ProtocolError),
    #[error("accept the request")]
    Spec(#[from] SpecError),
    #[error("plan the sandbox")]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Step(#[from] StepError),
}

impl LaunchError {
    fn to_event(&self) -> Event {
        if let Self::Step(step) = self {
            return step.to_event();
        }
        let mut message = String::new();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            message.push_str(if message.is_empty() { "" } else { ": " });
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Event::Failed { step: self.to_string(), path: String::new(), message }
    }
}

/// A build, checked and ready.
struct Build {
    spec: Box<Spec>,
    plan: Plan,
    words: Words,
}

impl Build {
    fn of(spec: Box<Spec>, own: Ids) -> Result<Self, LaunchError> {
        Ok(Self { plan: plan(&spec, own)?, words: Words::of(&spec)?, spec })
    }

    /// The build that a launcher waited for.
    fn prepared(request: Request, prepare: Prepare, own: Ids) -> Result<Self, LaunchError> {
        let Request::Run(spec) = request else {
            return Err(
                SpecError { path: "request".to_owned(), reason: "it is for a build that it waits" }.into()
            );
        };
        check::prepared_for(prepare, &spec)?;
        Self::of(spec, own)
    }
}

/// What the supervisor is to do.
enum Work {
    Run(Build),
    Prepare(Prepare),
    Reclaim(Reclaim),
}

impl Work {
    fn of(request: Request, own: Ids) -> Result<Self, LaunchError> {
        Ok(match request {
            Request::Run(spec) => Self::Run(Build::of(spec, own)?),
            Request::Prepare(prepare) => {
                check::prepare(prepare, own)?;
                Self::Prepare(prepare)
            }
            Request::Reclaim(reclaim) => {
                check::reclaim(&reclaim, own)?;
                Self::Reclaim(reclaim)
            }
        })
    }

    fn build_ids(&self) -> Ids {
        match self {
            Self::Run(build) => build.spec.host_ids,
            Self::Prepare(prepare) => prepare.host_ids,
            Self::Reclaim(reclaim) => reclaim.host_ids,
        }
    }
}

/// All of the launcher: reads its request and does it. `started` is when the program began.
pub fn launch(started: Instant) -> ExitCode {
    match try_launch(started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error.to_event());
            ExitCode::FAILURE
        }
    }
}

/// One event line to the executor.
fn report(event: &Event) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        // When the executor is gone there is nobody to tell.
        let _executor_is_gone = io::stderr().write_all(&line);
    }
}

/// The next request; none when the executor has closed the pipe before it.
fn next_request() -> Result<Option<Request>, ProtocolError> {
    let input = rustix::stdio::stdin().try_clone_to_owned().map_err(ProtocolError::Pipe)?;
    read_request(&mut std::fs::File::from(input))
}

/// Closes this process's end of the log's pipe.
fn close_log() -> Result<(), StepError> {
    rustix::stdio::dup2_stdout(rustix::stdio::stderr()).map_err(failed("close", "the log"))
}

fn try_launch(started: Instant) -> Result<(), LaunchError> {
    sys::ignore_stop_signals();
    let Some(request) = next_request()? else { return Ok(()) };
    let own = Ids { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() };
    let work = Work::of(request, own)?;
    let launcher = rustix::process::getpid();
    let (mut link, supervisor_end) = UnixStream::pair().map_err(failed("make a socket pair", ""))?;
    match sys::fork().map_err(failed("start the supervisor", ""))? {
        Side::Child => {
            drop(link);
            std::process::exit(supervisor::main(work, own, launcher, supervisor_end, started))
        }
        Side::Parent(supervisor) => {
            drop(supervisor_end);
            // The log is the supervisor's, who closes it when it is whole.
            close_log()?;
            let mapped = map_ids(&mut link, supervisor, own, work.build_ids());
            drop((link, work));
            let ended = sys::wait(supervisor).map_err(failed("wait for the supervisor", ""))?;
            mapped?;
            match (ended.exit_code(), ended.signal()) {
                (Some(TOLD), _) => Ok(()),
                (code, signal) => {
                    let text = format!("it ended with exit code {code:?}, signal {signal:?}");
                    Err(failed("follow the supervisor", "")(io::Error::other(text)).into())
                }
            }
        }
    }
}

/// Waits for the supervisor's user namespace, maps its ids, and lets it go on.
fn map_ids(link: &mut UnixStream, supervisor: Pid, own: Ids, build: Ids) -> Result<(), StepError> {
    let mut ready = [0];
    // A supervisor that failed before says so itself.
    if link.read_exact(&mut ready).is_err() {
        return Ok(());
    }
    id_maps::write(supervisor, own, build)?;
    // If it died meanwhile, its end tells.
    let _died = link.write_all(&ready);
    Ok(())
}
