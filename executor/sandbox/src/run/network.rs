//! A network of the sandbox's own, joined to the host's by slirp4netns: a TCP/IP stack in an ordinary process.
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::FdFlags;
use rustix::process::Pid;

use crate::bytes::ByteString;
use crate::failure::{StepError, failed};

/// The interface inside.
const INTERFACE: &str = "tap0";
/// Bytes that one packet may carry: nothing on the way is an Ethernet.
const MTU_BYTES: u32 = 65_520;
/// How long it may take until packets can go.
const READY_WAIT: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };
/// Longest complaint that is repeated, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 2000;

/// A running slirp4netns. It ends when this is dropped, and when this process dies: its standard input then closes.
#[derive(Debug)]
pub struct Joined {
    child: Child,
}

impl Drop for Joined {
    fn drop(&mut self) {
        // It may have ended already; then there is only its status to collect.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Joins the network namespace of a process to ours. The host's loopback stays out of reach.
pub fn join(program: &ByteString, process: Pid) -> Result<Joined, StepError> {
    let (ready, says_ready) = pipe().map_err(failed("make a pipe for", program))?;
    let child = Command::new(std::ffi::OsStr::from_bytes(program.as_bytes()))
        .args(["--configure", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"])
        .args([format!("--mtu={MTU_BYTES}"), format!("--ready-fd={}", says_ready.as_raw_fd())])
        .args(["--exit-fd=0", &process.as_raw_nonzero().to_string(), INTERFACE])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("start", program))?;
    drop(says_ready);
    let mut joined = Joined { child };
    if is_ready(ready).map_err(failed("wait for", program))? {
        return Ok(joined);
    }
    let _ended = joined.child.kill();
    let mut complaint = String::new();
    if let Some(stderr) = joined.child.stderr.take() {
        let _unreadable = stderr.take(COMPLAINT_BYTES_MAX).read_to_string(&mut complaint);
    }
    let complaint = complaint.trim().replace('\n', "; ");
    Err(failed("join networks with", program)(io::Error::other(complaint)))
}

/// Its write end outlives execve.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe()?;
    rustix::io::fcntl_setfd(&read, FdFlags::CLOEXEC)?;
    Ok((read, write))
}

/// Whether a byte came; not when the other side closed or takes too long.
fn is_ready(ready: OwnedFd) -> io::Result<bool> {
    let mut ends = [PollFd::from_borrowed_fd(ready.as_fd(), PollFlags::IN)];
    if rustix::event::poll(&mut ends, Some(&READY_WAIT))? == 0 {
        return Ok(false);
    }
    Ok(File::from(ready).read(&mut [0])? == 1)
}
