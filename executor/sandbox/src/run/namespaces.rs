//! Namespaces of the build's user, made before there is a build: the network alone takes half a millisecond.
//!
//! A child makes them and ends; they live as long as their descriptors. Mounts and processes are not among them: what a
//! build mounts has to be there before its mount namespace is, and a process namespace cannot be without a process.
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::link::{self, Said};
use super::root;
use crate::failure::{StepError, failed};
use crate::plan::BUILD;
use crate::spec::Ids;
use crate::sys::{self, Side};

/// Exit code of a child that has told the supervisor why it failed.
const CHILD_FAILED: i32 = 127;

/// One build's own; nobody is in them yet.
#[derive(Debug)]
pub struct Namespaces {
    user: OwnedFd,
    network: OwnedFd,
    names: OwnedFd,
    communication: OwnedFd,
}

impl Namespaces {
    /// Makes them, with the build's final ids and its loopback up.
    pub fn make(inside: Ids) -> Result<Self, StepError> {
        let supervisor = rustix::process::getpid();
        let (own_end, child_end) = UnixStream::pair().map_err(failed("make a socket pair", ""))?;
        match sys::fork().map_err(failed("start", "the child that makes namespaces"))? {
            Side::Child => {
                drop(own_end);
                let code = match child(&child_end, supervisor) {
                    Ok(()) => 0,
                    Err(error) => {
                        link::tell_failure(&child_end, &error);
                        CHILD_FAILED
                    }
                };
                std::process::exit(code)
            }
            Side::Parent(child) => {
                drop(child_end);
                let made = Self::of(&own_end, child, inside);
                drop(own_end);
                sys::wait(child).map_err(failed("wait for", "the child that makes namespaces"))?;
                made
            }
        }
    }

    /// Maps the child's ids and opens what it made; it says no more unless it fails.
    fn of(own_end: &UnixStream, child: Pid, inside: Ids) -> Result<Self, StepError> {
        let step = || failed("follow", "the child that makes namespaces");
        let mut made = None;
        while let Some(said) = link::hear(own_end).map_err(step())? {
            match said {
                Said::Ready => {
                    write_maps(child, inside)?;
                    made = Some(Self::open(child)?);
                    link::go_on(own_end).map_err(step())?;
                }
                Said::Process(_) => {}
                Said::Failed(error) => return Err(error),
            }
        }
        made.ok_or_else(|| step()(io::Error::other("it died without a word")))
    }

    fn open(child: Pid) -> Result<Self, StepError> {
        let open = |name: &str| {
            let path = format!("/proc/{}/ns/{name}", child.as_raw_nonzero());
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, path.as_str(), flags, Mode::empty()).map_err(failed("open", &path))
        };
        Ok(Self {
            user: open("user")?,
            network: open("net")?,
            names: open("uts")?,
            communication: open("ipc")?,
        })
    }

    /// Enters them, for the build's user, and makes those that are missing. Process 1 is the next child.
    pub fn enter(&self, network: bool) -> Result<(), StepError> {
        // The user's first: it has the right to enter the others.
        let mut all = vec![
            (&self.user, LinkNameSpaceType::User),
            (&self.names, LinkNameSpaceType::HostNameAndNISDomainName),
            (&self.communication, LinkNameSpaceType::InterProcessCommunication),
        ];
        if network {
            all.push((&self.network, LinkNameSpaceType::Network));
        }
        for (namespace, kind) in all {
            move_into_link_name_space(namespace.as_fd(), Some(kind))
                .map_err(failed("enter namespaces", ""))?;
        }
        sys::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWPID).map_err(failed("unshare namespaces", ""))
    }
}

fn child(link: &UnixStream, supervisor: Pid) -> Result<(), StepError> {
    root::become_build()?;
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC | UnshareFlags::NEWNET;
    sys::unshare(flags).map_err(failed("unshare namespaces", ""))?;
    // After the ids, whose change clears it.
    root::die_with(supervisor)?;
    link::take_turns(link)?;
    loopback_up().map_err(failed("bring up", "lo"))
}

/// The build's final ids. Only the supervisor, root of the namespace above, may write them.
fn write_maps(child: Pid, inside: Ids) -> Result<(), StepError> {
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

fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    sys::loopback_up(socket.as_fd())
}
