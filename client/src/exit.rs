//! Exit codes, as nix-build gives them.
use model::{Failure, FailureClass};

/// Anything but a failed build: bad arguments, a refused import, an interruption.
pub const OTHER: u8 = 1;

/// What failed builds add up to: 100 a build, 101 a time limit, 102 a wrong hash; bits combine, and 1 is anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitBits {
    build_failed: bool,
    timed_out: bool,
    hash_mismatch: bool,
}

impl ExitBits {
    /// Adds one failed derivation. Nix calls the failure of a fixed-output builder transient, and gives it no bit.
    pub fn add(&mut self, failure: &Failure, is_fixed_output: bool) {
        match failure.class {
            FailureClass::BuildFailed if !is_fixed_output => self.build_failed = true,
            FailureClass::TimedOut => self.timed_out = true,
            // Nix gives a fixed output that refers to something the same bit, once its hash is right.
            FailureClass::OutputRejected
                if failure.message.contains("hash mismatch in fixed-output")
                    || failure.message.contains("must not reference store paths") =>
            {
                self.hash_mismatch = true;
            }
            // A platform or a feature that nobody has, a graph of what is no input; other refusals have no bit.
            FailureClass::InputRejected
                if failure.message.contains("Cannot build '")
                    || failure.message.starts_with("cannot export references of path '") =>
            {
                self.build_failed = true;
            }
            _ => {}
        }
    }

    /// The exit code of a command in which something failed.
    pub fn code(self) -> u8 {
        let mut bits = 0;
        if self.build_failed || self.timed_out || self.hash_mismatch {
            bits |= 0x64;
        }
        if self.timed_out {
            bits |= 0x01;
        }
        if self.hash_mismatch {
            bits |= 0x02;
        }
        if bits == 0 { OTHER } else { bits }
    }
}
