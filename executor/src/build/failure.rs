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

/// The failure that the end of the builder means; `None` when it succeeded.
pub fn of_end(
    derivation: &StorePath,
    outputs: &[StorePath],
    ended: &Ended,
    free_bytes: u64,
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
        Ended::Cancelled => return Some(failure(FailureClass::Cancelled, "the build was cancelled")),
    };
    let mut message = format!("Cannot build '{derivation}'.\nReason: {reason}.\nOutput paths:");
    for path in outputs.iter().collect::<BTreeSet<_>>() {
        message.push_str(&format!("\n  {path}"));
    }
    let mut class = FailureClass::BuildFailed;
    if free_bytes < FREE_BYTES_MIN {
        message.push_str("\nnote: build failure may have been caused by lack of free disk space");
        class = FailureClass::OutOfDisk;
    }
    Some(Failure { exit_status, ..failure(class, message) })
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
            let seen = of_end(&derivation, std::slice::from_ref(&output), &ended, free_bytes);
            let seen = seen.map(|failure| (failure.class, failure.exit_status, failure.message));
            assert_eq!(seen, expected, "{ended:?}");
        }
    }
}
