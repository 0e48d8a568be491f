//! What surrounds a sandbox: the terminal that is its log, namespaces for it, and interpreters of its own.
use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};
use rustix::process::Uid;
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;

use super::namespaces::Namespaces;
use crate::bytes::ByteString;
use crate::failure::{StepError, failed};
use crate::plan::BUILD;
use crate::spec::Ids;

/// `O_LARGEFILE` of most processors: what open(2) adds by itself for a 64-bit program, and programs can see.
const LARGE_FILE: u32 = 0o100_000;

/// What is the same for all builds of a slot, and made before there is one.
#[derive(Debug)]
pub struct Prepared {
    /// The log.
    pub terminal: Terminal,
    /// For process 1.
    pub namespaces: Namespaces,
}

impl Prepared {
    /// By root of the outer user namespace. Whatever the host mounts from now on is still seen: it may be part of the build.
    pub fn make(inside: Ids) -> Result<Self, StepError> {
        Ok(Self { terminal: Terminal::open()?, namespaces: Namespaces::make(inside)? })
    }
}

/// Both sides of a pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    /// Ours: the log is read here.
    pub master: OwnedFd,
    /// The build's standard output and error.
    pub slave: OwnedFd,
}

impl Terminal {
    /// Opens the log's terminal in a devpts of ours: in the host's, the slave could not be given to the build.
    fn open() -> Result<Self, StepError> {
        let path = "/dev/pts";
        let options = CString::new("newinstance,ptmxmode=0666,mode=0600").unwrap_or_default();
        rustix::mount::mount("none", path, "devpts", MountFlags::empty(), options.as_c_str())
            .map_err(failed("mount devpts", path))?;
        let path = "/dev/pts/ptmx";
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let master = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(failed("open", path))?;
        rustix::pty::unlockpt(&master).map_err(failed("unlock", path))?;
        // Not close-on-exec: programs can see that flag. Process 1 marks all other descriptors itself.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::from_bits_retain(LARGE_FILE);
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(failed("open peer of", path))?;
        rustix::fs::fchown(&slave, Some(Uid::from_raw(BUILD.user)), None)
            .map_err(failed("own peer of", path))?;
        rustix::fs::fchmod(&slave, Mode::RUSR | Mode::WUSR).map_err(failed("set mode of peer of", path))?;
        let mut settings = rustix::termios::tcgetattr(&slave).map_err(failed("read settings of", path))?;
        settings.make_raw();
        rustix::termios::tcsetattr(&slave, OptionalActions::Now, &settings)
            .map_err(failed("make raw", path))?;
        Ok(Self { master, slave })
    }
}

/// Registers interpreters in a binfmt_misc of this user namespace, mounted nowhere: a build that could see the mount could
/// remove the rules. They live as long as it is open.
pub fn register_interpreters(lines: &[ByteString]) -> Result<OwnedFd, StepError> {
    let step = "mount binfmt_misc (Linux 6.7 or later)";
    let context =
        rustix::mount::fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed(step, ""))?;
    rustix::mount::fsconfig_create(&context).map_err(failed(step, ""))?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let mount = rustix::mount::fsmount(&context, flags, MountAttrFlags::empty()).map_err(failed(step, ""))?;
    for line in lines {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let register = rustix::fs::openat(&mount, "register", flags, Mode::empty())
            .map_err(failed("open binfmt_misc's", "register"))?;
        // The kernel takes a rule in one write only.
        rustix::io::write(&register, line.as_bytes()).map_err(failed("register interpreter", line))?;
    }
    Ok(mount)
}
