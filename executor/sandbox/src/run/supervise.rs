//! Follows a running sandbox: copies its log, ends it when asked, when it closes its log, when its emulator hangs.
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::hang::Watch;
use crate::failure::{StepError, failed};
use crate::protocol::{Cause, End, Finished};
use crate::sys::{self, Ended};

/// Bytes of log copied at once: a pipe that is ready takes as many without making us wait.
const COPY_BYTES: usize = 4096;
/// How often an emulated program is looked at.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// Follows process 1 to its end, which is that of all processes in the sandbox.
pub fn supervise(process: Pid, master: &OwnedFd, emulated: bool) -> Result<Finished, StepError> {
    let handle =
        rustix::process::pidfd_open(process, PidfdFlags::empty()).map_err(failed("follow", "process 1"))?;
    let mut following = Following {
        handle,
        log: Log { master, pending: Vec::with_capacity(COPY_BYTES), is_open: true, reader_is_gone: false },
        killed: None,
        watch: emulated.then(|| Watch::new(process)),
    };
    let followed = following.follow().map_err(failed("follow", "process 1"));
    if followed.is_err() {
        // Whatever failed here, the sandbox must not outlive it.
        following.kill(Cause::Cancelled, None);
    }
    let ended = sys::wait(process).map_err(failed("wait for", "process 1"))?;
    followed?;
    if !matches!(following.killed, Some((Cause::Cancelled, _))) {
        following.log.drain().map_err(failed("copy", "the rest of the log"))?;
    }
    let (end, cause) = judge(&ended, following.killed);
    Ok(Finished {
        end,
        cause,
        user_microseconds: ended.user_microseconds,
        system_microseconds: ended.system_microseconds,
        resident_bytes_max: ended.resident_bytes_max,
        read_bytes: ended.read_bytes,
        written_bytes: ended.written_bytes,
    })
}

/// How it ended, and by whom.
fn judge(ended: &Ended, killed: Option<(Cause, Option<i32>)>) -> (End, Cause) {
    let killing = Signal::KILL.as_raw();
    match (ended.exit_code(), ended.signal().unwrap_or(killing), killed) {
        // Exiting closes the log, too: then our signal came too late to change anything.
        (Some(code), _, Some((Cause::Cancelled, _))) => (End::Exit(code), Cause::Cancelled),
        (Some(code), ..) => (End::Exit(code), Cause::Itself),
        (None, signal, Some((cause, fatal))) if signal == killing => {
            (End::Signal(fatal.unwrap_or(killing)), cause)
        }
        (None, signal, _) => (End::Signal(signal), Cause::Itself),
    }
}

/// What there is to do.
struct Ready {
    ended: bool,
    cancelled: bool,
    log: bool,
    time_to_look: bool,
}

struct Following<'a> {
    handle: OwnedFd,
    log: Log<'a>,
    /// Why we killed it, and which signal its emulator hangs on.
    killed: Option<(Cause, Option<i32>)>,
    watch: Option<Watch>,
}

impl Following<'_> {
    fn follow(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.ended {
                return Ok(());
            }
            if ready.cancelled {
                self.kill(Cause::Cancelled, None);
                self.log.pending.clear();
                self.log.reader_is_gone = true;
            }
            if ready.log && !self.log.copy()? {
                self.kill(Cause::LogClosed, None);
            }
            if ready.time_to_look
                && let Some(signal) = self.watch.as_mut().and_then(Watch::hung_on)
            {
                self.kill(Cause::EmulatorHung, Some(signal));
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let input = rustix::stdio::stdin();
        let mut ends = vec![PollFd::new(&self.handle, PollFlags::IN)];
        let log_at = self.log.waits_for().map(|log| {
            ends.push(log);
            ends.len() - 1
        });
        let input_at = self.killed.is_none().then(|| {
            // Its end, not its contents.
            ends.push(PollFd::new(&input, PollFlags::empty()));
            ends.len() - 1
        });
        let timeout = self.watch.as_ref().map(|_| &LOOK_INTERVAL);
        let count = match rustix::event::poll(&mut ends, timeout) {
            Err(Errno::INTR) => 0,
            count => count?,
        };
        let seen = |at: Option<usize>| at.is_some_and(|at| !ends[at].revents().is_empty());
        Ok(Ready {
            ended: seen(Some(0)),
            cancelled: seen(input_at),
            log: seen(log_at),
            time_to_look: count == 0,
        })
    }

    /// Process 1's death is that of all others in its process namespace.
    fn kill(&mut self, cause: Cause, hung_on: Option<i32>) {
        if self.killed.is_none() {
            self.killed = Some((cause, hung_on));
            // It may be dead already.
            let _dead = rustix::process::pidfd_send_signal(&self.handle, Signal::KILL);
        }
    }
}

/// The log on its way from the terminal to the executor. While the executor does not read, nor do we: the build waits.
struct Log<'a> {
    master: &'a OwnedFd,
    pending: Vec<u8>,
    is_open: bool,
    /// Nobody wants it: read on all the same, so that nobody waits.
    reader_is_gone: bool,
}

impl Log<'_> {
    fn waits_for(&self) -> Option<PollFd<'_>> {
        if !self.pending.is_empty() {
            return Some(PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::OUT));
        }
        self.is_open.then(|| PollFd::new(self.master, PollFlags::IN))
    }

    /// Reads or writes some of it; false when it has just been closed.
    fn copy(&mut self) -> io::Result<bool> {
        if !self.pending.is_empty() {
            match rustix::io::write(rustix::stdio::stdout(), &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::PIPE) => {
                    self.pending.clear();
                    self.reader_is_gone = true;
                }
                Err(errno) => return Err(errno.into()),
            }
            return Ok(true);
        }
        let mut bytes = [0; COPY_BYTES];
        match rustix::io::read(self.master, &mut bytes) {
            // A terminal whose other side is closed everywhere.
            Ok(0) | Err(Errno::IO) => self.is_open = false,
            Ok(count) if !self.reader_is_gone => self.pending.extend_from_slice(&bytes[..count]),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(self.is_open)
    }

    /// Copies what dead processes left in the terminal, as long as somebody wants it.
    fn drain(&mut self) -> io::Result<()> {
        let input = rustix::stdio::stdin();
        loop {
            if self.pending.is_empty() {
                if !self.is_open || !self.copy()? || self.pending.is_empty() {
                    return Ok(());
                }
                continue;
            }
            let output = rustix::stdio::stdout();
            let mut ends = [PollFd::new(&input, PollFlags::empty()), PollFd::new(&output, PollFlags::OUT)];
            match rustix::event::poll(&mut ends, None) {
                Err(Errno::INTR) => continue,
                count => count?,
            };
            if !ends[0].revents().is_empty() {
                return Ok(());
            }
            self.copy()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As wait(2) encodes them.
    fn exited(code: i32) -> Ended {
        Ended::from_status(code << 8)
    }

    #[test]
    fn ends_are_blamed_on_who_caused_them() {
        let by = |cause| Some((cause, None));
        let signalled = Ended::from_status;
        let cases = [
            (exited(3), None, End::Exit(3), Cause::Itself),
            (exited(0), by(Cause::LogClosed), End::Exit(0), Cause::Itself),
            (exited(0), by(Cause::Cancelled), End::Exit(0), Cause::Cancelled),
            (signalled(11), None, End::Signal(11), Cause::Itself),
            (signalled(11 | 0x80), by(Cause::LogClosed), End::Signal(11), Cause::Itself),
            (signalled(9), None, End::Signal(9), Cause::Itself),
            (signalled(9), by(Cause::LogClosed), End::Signal(9), Cause::LogClosed),
            (signalled(9), by(Cause::Cancelled), End::Signal(9), Cause::Cancelled),
            (signalled(9), Some((Cause::EmulatorHung, Some(6))), End::Signal(6), Cause::EmulatorHung),
        ];
        for (ended, killed, end, cause) in cases {
            assert_eq!(judge(&ended, killed), (end, cause), "{ended:?} {killed:?}");
        }
    }
}
