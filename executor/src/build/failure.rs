//! How failures of a build are classed and worded: in the words of Nix 2.34. Pure.
use crate::build::run::Ended;
use model::{Failure, FailureClass, StorePath};
use std::collections::BTreeSet;

/// Free bytes below which a failed build may have failed for want of room, as Nix sees it.
pub const FREE_BYTES_MIN: u64 = 8 << 20;

/// A failure of this class without exit status or missing inputs.
pub fn failure(class: FailureClass, message: impl Into<String>) -> Failure {
    Failure { class, message: message.into(), exit_status: None, missing_inputs: Vec::new() }
}

/// What may explain a failure beside the builder's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Around {
    /// Free bytes on the disk.
    pub free_bytes: u64,
    /// The limit of processes, when the build wanted more.
    pub processes_refused_at: Option<u64>,
}

/// The failure that the end of the builder means; `None` when it succeeded.
pub fn of_end(
    derivation: &StorePath,
    outputs: &[StorePath],
    ended: &Ended,
    Around { free_bytes, processes_refused_at }: Around,
) -> Option<Failure> {
    let mut exit_status = None;
    let reason = match ended {
        Ended::Exited(0) => return None,
        Ended::Exited(status) => {
            exit_status = Some(*status);
            format!("builder failed with exit code {status}")
        }
        Ended::Signalled(signal) => {
            format!("builder failed due to signal {signal} ({})", signal_description(*signal))
        }
        Ended::SilentTooLong { limit_s } => {
            return Some(failure(
                FailureClass::TimedOut,
                format!("timed out after {limit_s} seconds of silence"),
            ));
        }
        Ended::TimedOut { limit_s } => {
            return Some(failure(FailureClass::TimedOut, format!("timed out after {limit_s} seconds")));
        }
        Ended::LogTooLong { limit_bytes } => {
            let message = format!("killed after writing more than {limit_bytes} bytes of log output");
            return Some(failure(FailureClass::LogLimitExceeded, message));
        }
        Ended::OutOfMemory { limit_bytes } => return Some(out_of_memory(derivation, *limit_bytes)),
        Ended::OutOfDisk { free_bytes, reserve_bytes } => {
            let message = format!(
                "Cannot build '{derivation}'.\nReason: builder was ended because the executor's disk is full: {} are \
                 free, and {} are kept.\nMake room there, or lower `limits.disk_free_bytes_min`.",
                mebibytes(*free_bytes),
                mebibytes(*reserve_bytes)
            );
            return Some(failure(FailureClass::OutOfDisk, message));
        }
        Ended::Cancelled => return Some(failure(FailureClass::Cancelled, "the build was cancelled")),
    };
    let mut message = format!("Cannot build '{derivation}'.\nReason: {reason}.");
    if !outputs.is_empty() {
        message.push_str("\nOutput paths:");
    }
    for path in outputs.iter().collect::<BTreeSet<_>>() {
        message.push_str(&format!("\n  {path}"));
    }
    let mut class = FailureClass::BuildFailed;
    if free_bytes < FREE_BYTES_MIN {
        message.push_str("\nnote: build failure may have been caused by lack of free disk space");
        class = FailureClass::OutOfDisk;
    }
    if let Some(limit) = processes_refused_at {
        message.push_str(&format!(
            "\nnote: the build wanted more than the {limit} processes that this executor allows (`limits.processes_max`)"
        ));
    }
    Some(Failure { exit_status, ..failure(class, message) })
}

fn out_of_memory(derivation: &StorePath, limit_bytes: Option<u64>) -> Failure {
    let why = match limit_bytes {
        Some(limit) => format!(
            "it was ended at the limit of {}.\nRaise `limits.memory_bytes_max` of the executors, or let the derivation \
             do less at once (`enableParallelBuilding = false`).",
            mebibytes(limit)
        ),
        None => "the executor's machine had no more.\nGive it more memory or fewer slots, or set \
                 `limits.memory_bytes_max` so that one build cannot take all."
            .to_owned(),
    };
    let message = format!("Cannot build '{derivation}'.\nReason: builder ran out of memory: {why}");
    failure(FailureClass::OutOfMemory, message)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// What `strsignal` of the GNU C library says.
fn signal_description(signal: i32) -> String {
    let known = match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        16 => "Stack fault",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        31 => "Bad system call",
        _ => return format!("Unknown signal {signal}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_worded_and_classed_as_nix_does() {
        let derivation = StorePath::from_validated("/nix/store/w51084ksv60sy0fkcb9hz4rxv8rv2avb-one.drv");
        let output = StorePath::from_validated("/nix/store/dmyy8r66h2gpcd7p6lm670kknzqwgcaz-one");
        let cannot = format!("Cannot build '{derivation}'.\nReason: builder failed");
        let paths = format!(".\nOutput paths:\n  {output}");
        let cases = [
            (Ended::Exited(0), u64::MAX, None),
            (
                Ended::Exited(42),
                u64::MAX,
                Some((FailureClass::BuildFailed, Some(42), format!("{cannot} with exit code 42{paths}"))),
            ),
            (
                Ended::Signalled(9),
                u64::MAX,
                Some((FailureClass::BuildFailed, None, format!("{cannot} due to signal 9 (Killed){paths}"))),
            ),
            (
                Ended::Exited(1),
                FREE_BYTES_MIN - 1,
                Some((
                    FailureClass::OutOfDisk,
                    Some(1),
                    format!(
                        "{cannot} with exit code 1{paths}\nnote: build failure may have been caused by lack of free disk space"
                    ),
                )),
            ),
            (
                Ended::SilentTooLong { limit_s: 2 },
                0,
                Some((FailureClass::TimedOut, None, "timed out after 2 seconds of silence".into())),
            ),
            (
                Ended::TimedOut { limit_s: 3 },
                0,
                Some((FailureClass::TimedOut, None, "timed out after 3 seconds".into())),
            ),
            (
                Ended::LogTooLong { limit_bytes: 100 },
                0,
                Some((
                    FailureClass::LogLimitExceeded,
                    None,
                    "killed after writing more than 100 bytes of log output".into(),
                )),
            ),
            (Ended::Cancelled, 0, Some((FailureClass::Cancelled, None, "the build was cancelled".into()))),
        ];
        for (ended, free_bytes, expected) in cases {
            let around = Around { free_bytes, processes_refused_at: None };
            let seen = of_end(&derivation, std::slice::from_ref(&output), &ended, around);
            let seen = seen.map(|failure| (failure.class, failure.exit_status, failure.message));
            assert_eq!(seen, expected, "{ended:?}");
        }
    }

    #[test]
    fn want_of_memory_processes_and_room_is_said_with_its_limit_and_what_to_do() {
        let derivation = StorePath::from_validated("/nix/store/w51084ksv60sy0fkcb9hz4rxv8rv2avb-one.drv");
        let check = |ended, processes_refused_at, class, parts: &[&str]| {
            let around = Around { free_bytes: u64::MAX, processes_refused_at };
            let seen = of_end(&derivation, &[], &ended, around).unwrap();
            assert_eq!(seen.class, class, "{ended:?}");
            for part in parts {
                assert!(seen.message.contains(part), "{}", seen.message);
            }
        };
        check(
            Ended::OutOfMemory { limit_bytes: Some(512 << 20) },
            None,
            FailureClass::OutOfMemory,
            &[
                "-one.drv'.\nReason: builder ran out of memory: ",
                "limit of 512 MiB.",
                "limits.memory_bytes_max",
            ],
        );
        check(
            Ended::OutOfMemory { limit_bytes: None },
            None,
            FailureClass::OutOfMemory,
            &["the executor's machine had no more", "fewer slots"],
        );
        check(
            Ended::OutOfDisk { free_bytes: 3 << 20, reserve_bytes: 1 << 30 },
            None,
            FailureClass::OutOfDisk,
            &["disk is full: 3 MiB are free, and 1024 MiB are kept", "limits.disk_free_bytes_min"],
        );
        check(
            Ended::Exited(2),
            Some(40),
            FailureClass::BuildFailed,
            &["builder failed with exit code 2", "more than the 40 processes", "limits.processes_max"],
        );
    }
}
