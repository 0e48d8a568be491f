//! What surrounds a sandbox and outlives its start: interpreters of its own, and the terminal that is its log.
use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};
use rustix::process::Uid;
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;

use crate::bytes::ByteString;
use crate::failure::{StepError, failed};
use crate::plan::BUILD;

/// `O_LARGEFILE` of most processors: what open(2) adds by itself for a 64-bit program, and programs can see.
const LARGE_FILE: u32 = 0o100_000;

/// What the outer steps make.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// A binfmt_misc that is mounted nowhere: its rules live as long as this is open.
    pub interpreters: Option<OwnedFd>,
    /// The log.
    pub terminal: Option<Terminal>,
}

/// Both sides of a pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    /// Ours: the log is read here.
    pub master: OwnedFd,
    /// The build's standard output and error.
    pub slave: OwnedFd,
}

impl Surroundings {
    /// Registers interpreters in a binfmt_misc of this user namespace. A build that could see the mount could remove
    /// the rules, so it is attached to no path.
    pub fn register_interpreters(&mut self, lines: &[ByteString]) -> Result<(), StepError> {
        let step = "mount binfmt_misc (Linux 6.7 or later)";
        let context =
            rustix::mount::fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed(step, ""))?;
        rustix::mount::fsconfig_create(&context).map_err(failed(step, ""))?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount =
            rustix::mount::fsmount(&context, flags, MountAttrFlags::empty()).map_err(failed(step, ""))?;
        for line in lines {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let register = rustix::fs::openat(&mount, "register", flags, Mode::empty())
                .map_err(failed("open binfmt_misc's", "register"))?;
            // The kernel takes a rule in one write only.
            rustix::io::write(&register, line.as_bytes()).map_err(failed("register interpreter", line))?;
        }
        self.interpreters = Some(mount);
        Ok(())
    }

    /// Opens the log's terminal in a devpts of ours: in the host's, the slave could not be given to the build.
    pub fn open_terminal(&mut self) -> Result<(), StepError> {
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
        self.terminal = Some(Terminal { master, slave });
        Ok(())
    }
}
