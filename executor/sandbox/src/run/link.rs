//! What the supervisor's children say to it.
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use rustix::process::Pid;

use crate::failure::{StepError, failed};
use crate::protocol::{EVENT_BYTES_MAX, Event};

const READY: u8 = b'r';
const PROCESS: u8 = b'p';
const FAILED: u8 = b'f';
/// The supervisor's only answer.
const GO_ON: u8 = b'g';

/// One message.
pub enum Said {
    /// It waits for what only the supervisor can do.
    Ready,
    /// It started process 1.
    Process(Option<Pid>),
    /// Its last word.
    Failed(StepError),
}

/// Says that it is the supervisor's turn, and waits for it.
pub fn take_turns(mut link: &UnixStream) -> Result<(), StepError> {
    let broke = || failed("speak with", "the supervisor");
    link.write_all(&[READY]).map_err(broke())?;
    link.read_exact(&mut [0]).map_err(broke())
}

/// Says which process is process 1.
pub fn tell_process(mut link: &UnixStream, process: Pid) -> Result<(), StepError> {
    let mut message = [PROCESS; 5];
    message[1..].copy_from_slice(&process.as_raw_nonzero().get().to_le_bytes());
    link.write_all(&message).map_err(failed("speak with", "the supervisor"))
}

/// In one write, for several children may have this socket.
pub fn tell_failure(mut link: &UnixStream, error: &StepError) {
    let text = serde_json::to_vec(&error.to_event()).unwrap_or_default();
    let length = u32::try_from(text.len()).unwrap_or(0);
    let message = [&[FAILED], length.to_le_bytes().as_slice(), &text].concat();
    // A supervisor that is gone takes us with it.
    let _supervisor_is_gone = link.write_all(&message);
}

/// Answers [`Said::Ready`].
pub fn go_on(mut link: &UnixStream) -> io::Result<()> {
    link.write_all(&[GO_ON])
}

/// The next message; none when all that have the other end are dead or have become the program.
pub fn hear(mut link: &UnixStream) -> io::Result<Option<Said>> {
    let mut tag = [0];
    if link.read(&mut tag)? == 0 {
        return Ok(None);
    }
    if tag[0] == READY {
        return Ok(Some(Said::Ready));
    }
    let mut number = [0; 4];
    link.read_exact(&mut number)?;
    if tag[0] == PROCESS {
        return Ok(Some(Said::Process(Pid::from_raw(i32::from_le_bytes(number)))));
    }
    let length = usize::try_from(u32::from_le_bytes(number)).unwrap_or(usize::MAX);
    let mut text = vec![0; length.min(EVENT_BYTES_MAX)];
    link.read_exact(&mut text)?;
    Ok(Some(Said::Failed(told_failure(&text))))
}

fn told_failure(text: &[u8]) -> StepError {
    match serde_json::from_slice(text) {
        Ok(Event::Failed { step, path, message }) => {
            StepError { step: step.into(), path, source: io::Error::other(message) }
        }
        _ => failed("start", "process 1")(io::Error::other("it failed in words that make no sense")),
    }
}
