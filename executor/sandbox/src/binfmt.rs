//! binfmt_misc as data: which files belong to which system, the line that registers an interpreter, the host's entries.
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bytes::ByteString;

/// Longest line that the kernel's `register` takes, in bytes.
const REGISTER_BYTES_MAX: usize = 1920;
/// Longest interpreter path that the kernel takes, in bytes.
const INTERPRETER_BYTES_MAX: usize = 127;
/// The kernel matches within the first 128 bytes of a file.
const MAGIC_BYTES_MAX: usize = 128;

/// Bits of an ELF header that tell an executable of one system; byte 7, the OS ABI, never counts.
const ELF_MASK: [u8; 20] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xff, 0xff, 0xff,
];

/// Which files belong to a system, still without an interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleTemplate {
    /// Name of the entry: qemu's word for the processor.
    pub name: &'static str,
    magic: [u8; 20],
}

impl RuleTemplate {
    /// The rule with an interpreter (host path of a static program, kept constant: a build can see it).
    pub fn with_interpreter(&self, interpreter: impl Into<ByteString>) -> Rule {
        Rule {
            name: self.name.to_owned(),
            magic: ByteString::from(self.magic.as_slice()),
            mask: ByteString::from(ELF_MASK.as_slice()),
            interpreter: interpreter.into(),
        }
    }
}

/// The rule template of a foreign Linux system, if this knows it.
pub fn rule_for(system: &str) -> Option<RuleTemplate> {
    let (name, class, machine) = match system {
        "aarch64-linux" => ("aarch64", 2, 0xb7),
        "armv7l-linux" | "armv6l-linux" => ("arm", 1, 0x28),
        "riscv64-linux" => ("riscv64", 2, 0xf3),
        _ => return None,
    };
    // Little endian, version 1; type 2 or 3 (the mask leaves its lowest bit out); the machine.
    let magic = [0x7f, b'E', b'L', b'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, machine, 0];
    Some(RuleTemplate { name, magic })
}

/// Files with this magic under this mask are run by this interpreter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name of the entry.
    pub name: String,
    /// First bytes of such a file.
    pub magic: ByteString,
    /// Which bits of them count.
    pub mask: ByteString,
    /// Host path of the interpreter.
    pub interpreter: ByteString,
}

/// Why a rule cannot be registered.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RuleError {
    /// Name empty, or with a character that the kernel's syntax or directory would not take.
    #[error("interpreter rule with the name {0:?}: one to 64 letters, digits, `-` and `_` are needed")]
    Name(String),
    /// Magic and mask do not fit each other or the kernel.
    #[error(
        "interpreter rule {name}: magic of {magic} bytes and mask of {mask}; both must have the same 1 to 128"
    )]
    Magic {
        /// Name of the rule.
        name: String,
        /// Length of the magic.
        magic: usize,
        /// Length of the mask.
        mask: usize,
    },
    /// Interpreter path not absolute, too long or with a separator in it.
    #[error(
        "interpreter rule {name}: path {path} must be absolute, at most 127 bytes, without `:` and control characters"
    )]
    Interpreter {
        /// Name of the rule.
        name: String,
        /// The path.
        path: ByteString,
    },
    /// The kernel's line would be too long.
    #[error("interpreter rule {name}: the line has {bytes} bytes, the kernel takes 1920")]
    TooLong {
        /// Name of the rule.
        name: String,
        /// Length of the line.
        bytes: usize,
    },
}

impl Rule {
    /// The one line to write to `register`. Flags: P keeps argv\[0\], O runs execute-only files, F opens the
    /// interpreter now, for its path is gone after pivot_root.
    pub fn register_line(&self) -> Result<Vec<u8>, RuleError> {
        let name_ok = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(name_ok) {
            return Err(RuleError::Name(self.name.clone()));
        }
        let (magic, mask) = (self.magic.as_bytes(), self.mask.as_bytes());
        if magic.is_empty() || magic.len() > MAGIC_BYTES_MAX || magic.len() != mask.len() {
            return Err(RuleError::Magic { name: self.name.clone(), magic: magic.len(), mask: mask.len() });
        }
        let path = self.interpreter.as_bytes();
        let path_ok = |byte: &u8| *byte != b':' && *byte >= b' ';
        if path.first() != Some(&b'/') || path.len() > INTERPRETER_BYTES_MAX || !path.iter().all(path_ok) {
            return Err(RuleError::Interpreter { name: self.name.clone(), path: self.interpreter.clone() });
        }
        let mut line = format!(":{}:M:0:{}:{}:", self.name, escaped(magic), escaped(mask)).into_bytes();
        line.extend_from_slice(path);
        line.extend_from_slice(b":POF");
        if line.len() > REGISTER_BYTES_MAX {
            return Err(RuleError::TooLong { name: self.name.clone(), bytes: line.len() });
        }
        Ok(line)
    }
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// An entry of the host's `/proc/sys/fs/binfmt_misc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Host path of the interpreter.
    pub interpreter: String,
    /// Flag F: the interpreter is open, so it works inside a sandbox too.
    pub pinned: bool,
    /// Flag P: argv\[0\] is kept.
    pub keeps_argument_zero: bool,
}

/// Reads the text of one entry file; none when it is disabled or is not for files of `template`.
pub fn parse_registration(text: &str, template: &RuleTemplate) -> Option<Registration> {
    let mut lines = text.lines();
    if lines.next() != Some("enabled") {
        return None;
    }
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("offset ") != Some("0") {
        return None;
    }
    let magic = from_hex(field("magic ")?)?;
    let mask = match field("mask ") {
        Some(mask) => from_hex(mask)?,
        None => vec![0xff; magic.len()],
    };
    if magic.len() > template.magic.len() || magic.len() != mask.len() {
        return None;
    }
    let matches =
        magic.iter().zip(&mask).zip(&template.magic).all(|((want, mask), have)| want & mask == have & mask);
    // A rule that looks only at "ELF" would match every system: the machine must count.
    if !matches || mask.get(18) != Some(&0xff) {
        return None;
    }
    let flags = field("flags:").unwrap_or_default();
    Some(Registration {
        interpreter: field("interpreter ")?.to_owned(),
        pinned: flags.contains('F'),
        keeps_argument_zero: flags.contains('P'),
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
#[path = "binfmt_tests.rs"]
mod tests;
