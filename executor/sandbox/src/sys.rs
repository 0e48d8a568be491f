//! All unsafe code of the project: system calls that no crate wraps safely, one a function.
#![expect(unsafe_code, reason = "the one home of unsafe: each function is one system call with its proof")]
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use crate::seccomp::Instruction;

/// What the kernel counts a process's input and output in, whatever the device.
const BLOCK_BYTES: u64 = 512;

/// In which of the two processes a call returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the old one, with the new one's id.
    Parent(Pid),
    /// In the new one.
    Child,
}

/// What the kernel counted for a process that ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// As wait(2) encodes it.
    status: i32,
    /// Processor time in user mode.
    pub user_microseconds: u64,
    /// Processor time in the kernel.
    pub system_microseconds: u64,
    /// Largest resident set, in bytes.
    pub resident_bytes_max: u64,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written to block devices.
    pub written_bytes: u64,
}

impl Ended {
    /// Of a process that used nothing, by what wait(2) would give.
    #[cfg(test)]
    pub fn from_status(status: i32) -> Self {
        Self {
            status,
            user_microseconds: 0,
            system_microseconds: 0,
            resident_bytes_max: 0,
            read_bytes: 0,
            written_bytes: 0,
        }
    }

    /// The exit code, when it called exit.
    pub fn exit_code(&self) -> Option<i32> {
        libc::WIFEXITED(self.status).then(|| libc::WEXITSTATUS(self.status))
    }

    /// The signal, when one killed it.
    pub fn signal(&self) -> Option<i32> {
        libc::WIFSIGNALED(self.status).then(|| libc::WTERMSIG(self.status))
    }
}

fn check(result: impl TryInto<i64>) -> io::Result<i64> {
    match result.try_into() {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

fn side(result: i64) -> io::Result<Side> {
    if result == 0 {
        return Ok(Side::Child);
    }
    let pid = i32::try_from(result).ok().and_then(Pid::from_raw);
    pid.map(Side::Parent).ok_or_else(|| io::Error::other("the kernel gave no process id"))
}

/// Makes a child process. Only for a process of one thread, which the launcher is.
pub fn fork() -> io::Result<Side> {
    // SAFETY: this process has one thread (nothing in this crate starts another), so the child's memory, locks
    // included, is consistent, and it may go on running ordinary code.
    side(check(unsafe { libc::fork() })?)
}

/// Makes a sibling: its parent is ours, and it is the first process of the namespace that we unshared.
pub fn fork_sibling() -> io::Result<Side> {
    let flags = libc::c_ulong::from((libc::CLONE_PARENT | libc::SIGCHLD).unsigned_abs());
    let none: libc::c_ulong = 0;
    // SAFETY: without CLONE_VM this is fork with another parent; the null stack means the copy of ours. One thread,
    // as above. The child only runs this crate's code up to execve and never uses the C library's cached thread id.
    side(check(unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) })?)
}

/// Waits until a child has ended.
pub fn wait(pid: Pid) -> io::Result<Ended> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live memory of the right type; the kernel writes no more than that.
        let result =
            unsafe { libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, 0, usage.as_mut_ptr()) };
        match check(result) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    // SAFETY: zeroed at first, which is a valid rusage, and filled by the kernel.
    let usage = unsafe { usage.assume_init() };
    let microseconds = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    let blocks = |count: libc::c_long| u64::try_from(count).unwrap_or(0).saturating_mul(BLOCK_BYTES);
    Ok(Ended {
        status,
        user_microseconds: microseconds(usage.ru_utime),
        system_microseconds: microseconds(usage.ru_stime),
        resident_bytes_max: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
        read_bytes: blocks(usage.ru_inblock),
        written_bytes: blocks(usage.ru_oublock),
    })
}

/// Leaves the namespaces that the flags name for new ones.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the dangerous flag is FILES, which would close descriptors that Rust owns elsewhere; nobody passes it,
    // and with one thread there is no elsewhere.
    unsafe { rustix::thread::unshare_unsafe(flags & !UnshareFlags::FILES) }.map_err(io::Error::from)
}

/// Becomes another program; returns only when that fails.
pub fn execute(program: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |words: &[CString]| -> Vec<*const libc::c_char> {
        words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end in null, and they and what they point to live until the call is over.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Signals that end a process from a terminal or a service manager have no effect: the executor decides what ends.
pub fn ignore_stop_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE] {
        // SAFETY: ignoring runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// All signals get their default action, none is blocked.
pub fn default_signals() -> io::Result<()> {
    /// Bytes of the kernel's signal set.
    const SET_BYTES: usize = 8;
    // Not by the C library: it keeps 32 and 33 for itself, and its posix_spawn leaves them ignored in what it starts.
    let all_zero = [0_u64; 4];
    let none: *const libc::c_void = std::ptr::null();
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the kernel reads one of its sigaction structures, at most as long as this one; all zero is the default
        // action, which runs no code of ours. Errors mean KILL and STOP, which always have it.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                libc::c_long::from(signal),
                all_zero.as_ptr(),
                none,
                SET_BYTES,
            )
        };
    }
    let mut none = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is live memory, initialised by sigemptyset before sigprocmask reads it; null asks for nothing.
    check(unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    })?;
    Ok(())
}

/// Sets the execution domain.
pub fn personality(fixed_addresses: bool, linux32: bool) -> io::Result<()> {
    /// `PER_LINUX32` of sys/personality.h; `PER_LINUX` is 0.
    const THIRTY_TWO_BIT: i32 = 0x0008;
    let domain = if linux32 { THIRTY_TWO_BIT } else { 0 };
    let flags = if fixed_addresses { libc::ADDR_NO_RANDOMIZE } else { 0 };
    // SAFETY: takes a number only, and changes how later programs are loaded.
    check(unsafe { libc::personality(libc::c_ulong::from((domain | flags).unsigned_abs())) })?;
    Ok(())
}

/// Marks every descriptor from `first` on to be closed by execve.
pub fn close_on_execute_from(first: u32) -> io::Result<()> {
    let flags = libc::c_ulong::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: closes nothing now, so no descriptor that Rust owns becomes invalid.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, libc::c_ulong::from(first), libc::c_ulong::from(u32::MAX), flags)
    })?;
    Ok(())
}

/// Brings the loopback of this network namespace up.
pub fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = MaybeUninit::<libc::ifreq>::zeroed();
    // SAFETY: all zero is a valid ifreq: a name without letters and a union of numbers and addresses.
    let request = unsafe { request.assume_init_mut() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which is live.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, request) })?;
    Ok(())
}

/// Installs a system call filter on this thread; needs no_new_privs.
pub fn install_filter(program: &[Instruction]) -> io::Result<()> {
    let mut filter: Vec<libc::sock_filter> = program
        .iter()
        .map(|step| libc::sock_filter {
            code: step.code,
            jt: step.jump_true,
            jf: step.jump_false,
            k: step.operand,
        })
        .collect();
    let length =
        libc::c_ushort::try_from(filter.len()).map_err(|_| io::Error::other("the filter is too long"))?;
    let header = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    let mode = libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER);
    let no_flags: libc::c_ulong = 0;
    // SAFETY: the kernel copies `len` instructions from a live array of that length.
    check(unsafe { libc::syscall(libc::SYS_seccomp, mode, no_flags, &raw const header) })?;
    Ok(())
}

/// Forbids abstract Unix sockets made outside; false when this kernel cannot.
pub fn scope_abstract_sockets() -> io::Result<bool> {
    /// `struct landlock_ruleset_attr` of linux/landlock.h.
    #[repr(C)]
    struct Ruleset {
        file_system: u64,
        network: u64,
        scoped: u64,
    }
    const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
    let ruleset = Ruleset { file_system: 0, network: 0, scoped: SCOPE_ABSTRACT_UNIX_SOCKET };
    let no_flags: libc::c_ulong = 0;
    // SAFETY: the kernel reads as many bytes as the size says from a live structure.
    let result = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size_of::<Ruleset>(), no_flags)
    };
    let ruleset = match check(result) {
        Ok(descriptor) => descriptor,
        // Without Landlock, switched off, or before the scope existed (6.12).
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::E2BIG | libc::EINVAL)
            ) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    // SAFETY: takes a descriptor and a number. The descriptor is marked close-on-exec by the kernel.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, no_flags) })?;
    Ok(true)
}

/// What the C library calls an error number, without Rust's "(os error N)".
pub fn error_text(number: i32) -> String {
    let mut text = [0_u8; 256];
    // SAFETY: the XSI form writes at most the given length, with its NUL, into live memory.
    unsafe { libc::strerror_r(number, text.as_mut_ptr().cast(), text.len() - 1) };
    std::ffi::CStr::from_bytes_until_nul(&text)
        .map(|text| text.to_string_lossy().into_owned())
        .unwrap_or_default()
}
