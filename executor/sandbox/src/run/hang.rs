//! Finds an emulator that sleeps for ever: qemu-user ends a guest that died of a signal by raising that signal, which
//! process 1 of a process namespace ignores, and then waits for it in rt_sigsuspend.
use std::io::Read;

use rustix::process::Pid;

/// Never blocked by anybody: SIGKILL, SIGSTOP, and the two that the C library keeps for itself.
const NEVER_BLOCKED: [u32; 4] = [9, 19, 32, 33];
/// Default action: nothing. Waiting for one of these is no sign of death.
const HARMLESS: [i32; 4] = [17, 18, 23, 28];
/// Largest file of /proc that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024;
/// Most threads that are looked at.
const THREADS_MAX: usize = 256;

/// Looks at process 1 now and then.
#[derive(Debug)]
pub struct Watch {
    process: Pid,
    /// What the last look found.
    last: Option<i32>,
}

impl Watch {
    /// Watches this process.
    pub fn new(process: Pid) -> Self {
        Self { process, last: None }
    }

    /// The signal that its emulator sleeps on, when two looks in a row find the same.
    pub fn hung_on(&mut self) -> Option<i32> {
        let found = self.look();
        let before = std::mem::replace(&mut self.last, found);
        found.filter(|_| found == before)
    }

    fn look(&self) -> Option<i32> {
        let tasks = format!("/proc/{}/task", self.process);
        let threads = std::fs::read_dir(tasks).ok()?.take(THREADS_MAX);
        threads.filter_map(Result::ok).find_map(|thread| {
            let call = read(&thread.path().join("syscall"))?;
            if !is_asleep(&call) {
                return None;
            }
            waits_for(&read(&thread.path().join("status"))?)
        })
    }
}

fn read(path: &std::path::Path) -> Option<String> {
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Whether a thread is in rt_sigsuspend, by its `syscall` file.
fn is_asleep(call: &str) -> bool {
    let number = call.split_whitespace().next().and_then(|word| word.parse::<libc::c_long>().ok());
    number == Some(libc::SYS_rt_sigsuspend)
}

/// The only signal that a thread lets through, if nobody catches it, by its `status` file.
fn waits_for(status: &str) -> Option<i32> {
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let always = NEVER_BLOCKED.iter().fold(0_u64, |all, signal| all | 1 << (signal - 1));
    let open = !set("SigBlk:")? & !always;
    let uncaught = open & !set("SigCgt:")?;
    let signal = i32::try_from(open.trailing_zeros()).ok()? + 1;
    (open.count_ones() == 1 && uncaught == open && !HARMLESS.contains(&signal)).then_some(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(blocked: u64, caught: u64) -> String {
        format!("Name:\tqemu\nSigBlk:\t{blocked:016x}\nSigIgn:\t0000000000000000\nSigCgt:\t{caught:016x}\n")
    }

    const fn bit(signal: u32) -> u64 {
        1 << (signal - 1)
    }

    #[test]
    fn one_uncaught_signal_is_a_hang() {
        let others = bit(9) | bit(19) | bit(32) | bit(33);
        let all_but = |signal| !(others | bit(signal));
        let check = |blocked, caught, expected: Option<i32>| {
            assert_eq!(waits_for(&status(blocked, caught)), expected, "{blocked:x} {caught:x}");
        };
        check(all_but(6), 0, Some(6));
        check(all_but(11), bit(6) | bit(10), Some(11));
        check(all_but(64), 0, Some(64));
        check(all_but(6), bit(6), None);
        check(all_but(6) & !bit(2), 0, None);
        check(all_but(17), 0, None);
        check(!others, 0, None);
        check(0, 0, None);
        assert_eq!(waits_for("Name:\tqemu\n"), None);
    }

    #[test]
    fn only_sigsuspend_counts() {
        let own = format!("{} 0x1 0x8 0x0 0x0 0x0 0x0 0x7ffe 0x4321\n", libc::SYS_rt_sigsuspend);
        for (call, expected) in [(own.as_str(), true), ("running\n", false), ("7 0x0\n", false), ("", false)]
        {
            assert_eq!(is_asleep(call), expected, "{call}");
        }
    }
}
