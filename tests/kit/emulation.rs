//! The systems that executors and oracles emulate, both by the same interpreter file.

use std::path::{Path, PathBuf};

use crate::host::Bind;

/// A foreign system.
#[derive(Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Nix's word for it.
    pub system: &'static str,
    /// qemu's word for its processor.
    pub processor: &'static str,
    /// The Debian architecture whose programs it runs.
    pub debian: &'static str,
    /// Class and machine in the ELF header of its programs.
    header: (u8, u8),
}

/// All of them.
pub const FOREIGN: [Foreign; 3] = [
    Foreign { system: "aarch64-linux", processor: "aarch64", debian: "arm64", header: (2, 0xb7) },
    Foreign { system: "armv7l-linux", processor: "arm", debian: "armhf", header: (1, 0x28) },
    Foreign { system: "riscv64-linux", processor: "riscv64", debian: "riscv64", header: (2, 0xf3) },
];

/// Bits of the header that count: the ABI byte does not, nor which of ET_EXEC and ET_DYN.
const MASK: &str = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";

/// The file that runs programs of a foreign system.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// The system.
    pub foreign: &'static Foreign,
    /// On the machine itself.
    pub file: PathBuf,
}

impl Interpreter {
    /// Makes it visible in a host where executors keep theirs: builds see this name, in `/proc/1/cmdline` for one.
    #[must_use]
    pub fn bind(&self) -> Bind {
        Bind { source: self.file.clone(), target: self.foreign.interpreter(), writable: false }
    }

    /// The line that registers it there.
    #[must_use]
    pub fn rule(&self) -> String {
        let Foreign { processor, header: (class, machine), .. } = self.foreign;
        let magic = format!(
            r"\x7fELF\x{class:02x}\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x{machine:02x}\x00"
        );
        format!(":elsewhere-{processor}:M::{magic}:{MASK}:{}:POF", self.foreign.interpreter())
    }
}

impl Foreign {
    /// Where executors keep its interpreter.
    fn interpreter(&self) -> String {
        format!("/var/lib/elsewhere/interpreters/qemu-{}", self.processor)
    }

    /// qemu's program for it, in a directory.
    #[must_use]
    pub fn qemu(&self, directory: &str) -> PathBuf {
        Path::new(directory).join(format!("qemu-{}", self.processor))
    }
}
