//! The trust boundary of the launcher: limits and rules that a Spec must keep before anything is done with it.
use std::collections::BTreeMap;

use thiserror::Error;

use crate::bytes::ByteString;
use crate::spec::{
    ENTRIES_MAX, Entry, HAND_BACK_MAX, Ids, Network, PATH_BYTES_MAX, Prepare, RULES_MAX, Reclaim, Spec,
    WORDS_MAX,
};

/// Longest host or domain name that the kernel takes.
const NAME_BYTES_MAX: usize = 64;

/// What is wrong with a Spec.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{path}: {reason}")]
pub struct SpecError {
    /// The path or value that is wrong.
    pub path: String,
    /// Why.
    pub reason: &'static str,
}

fn refuse<T>(path: impl ToString, reason: &'static str) -> Result<T, SpecError> {
    Err(SpecError { path: path.to_string(), reason })
}

/// Checks all of a Spec that can be checked without the machine. `own` are the executor's ids.
pub(crate) fn spec(spec: &Spec, own: Ids) -> Result<(), SpecError> {
    host_path(&spec.root)?;
    if spec.root.as_bytes() == b"/" {
        return refuse("/", "the sandbox's root cannot be the host's");
    }
    ids(spec.host_ids, spec.inside_ids, own)?;
    mode(&spec.root, spec.root_mode)?;
    mode(&ByteString::from("umask"), spec.umask)?;
    entries(&spec.entries)?;
    for path in &spec.shared {
        let known = |entry: &Entry| matches!(entry, Entry::Directory { path: made, .. } if made == path);
        if !spec.entries.iter().any(known) {
            return refuse(path, "shared, but not a directory among the entries");
        }
    }
    command(spec)?;
    for name in [&spec.host_name, &spec.domain_name] {
        if name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return refuse(name, "a host or domain name has at most 64 bytes");
        }
    }
    if let Network::Joined { program } = &spec.network {
        host_path(program)?;
    }
    spec.cgroup.iter().try_for_each(host_path)?;
    if spec.interpreters.len() > RULES_MAX {
        return refuse("interpreters", "too many");
    }
    if spec.hand_back.len() > HAND_BACK_MAX {
        return refuse("hand_back", "too many");
    }
    spec.hand_back.iter().try_for_each(|tree| host_path(&tree.path))
}

/// Checks what is known before there is a build.
pub(crate) fn prepare(prepare: Prepare, own: Ids) -> Result<(), SpecError> {
    ids(prepare.host_ids, prepare.inside_ids, own)
}

/// Checks that a build is one of those that a launcher was prepared for.
pub(crate) fn prepared_for(prepare: Prepare, spec: &Spec) -> Result<(), SpecError> {
    if spec.host_ids != prepare.host_ids || spec.inside_ids != prepare.inside_ids {
        return refuse("host_ids", "the launcher was prepared for other ids");
    }
    Ok(())
}

/// Checks a request to hand trees back.
pub(crate) fn reclaim(reclaim: &Reclaim, own: Ids) -> Result<(), SpecError> {
    host_ids(reclaim.host_ids, own)?;
    if reclaim.paths.len() > HAND_BACK_MAX {
        return refuse("paths", "too many");
    }
    reclaim.paths.iter().try_for_each(host_path)
}

fn ids(host: Ids, inside: Ids, own: Ids) -> Result<(), SpecError> {
    host_ids(host, own)?;
    if inside.user == 0 {
        return refuse("inside_ids.user", "the program must not be user 0 inside");
    }
    Ok(())
}

/// A build that ran as the executor's own id would own its inputs; as root's, the host.
fn host_ids(ids: Ids, own: Ids) -> Result<(), SpecError> {
    let same = |kind: &str, id: u32, own: u32| {
        if id == own || id == 0 || id == u32::MAX {
            return refuse(
                format!("host_ids.{kind} {id}"),
                "must be a subordinate id, not the executor's own, not root's",
            );
        }
        Ok(())
    };
    same("user", ids.user, own.user)?;
    same("group", ids.group, own.group)
}

fn entries(entries: &[Entry]) -> Result<(), SpecError> {
    if entries.len() > ENTRIES_MAX {
        return refuse("entries", "too many");
    }
    // Path -> may something be put below it. Parents first, so that nothing is ever made through a symbolic link.
    let mut made: BTreeMap<&[u8], bool> = BTreeMap::from([(b"".as_slice(), true)]);
    for entry in entries {
        let path = entry.path();
        inside_path(path)?;
        let bytes = path.as_bytes();
        let parent = bytes.iter().rposition(|byte| *byte == b'/').map_or(bytes, |at| &bytes[..at]);
        match made.get(parent) {
            Some(true) => {}
            Some(false) => return refuse(path, "lies below an entry that is not a directory of the sandbox"),
            None => return refuse(path, "its parent is not an earlier entry"),
        }
        let below = match entry {
            Entry::Directory { mode: bits, .. } => mode(path, *bits).map(|()| true)?,
            Entry::File { mode: bits, .. } => mode(path, *bits).map(|()| false)?,
            Entry::Symlink { target, .. } => text(target, "a symbolic link's target")?,
            Entry::Bind { source, claim, .. } => {
                host_path(source)?;
                if let Some(claim) = claim {
                    mode(source, claim.mode)?;
                }
                // A scratch directory that the executor just made and claims for the build; others are not ours.
                claim.is_some()
            }
            Entry::Memory { size, .. } => {
                let size_ok = |byte: u8| byte.is_ascii_digit() || b"%kmgKMG".contains(&byte);
                if size.is_empty() || size.len() > 32 || !size.bytes().all(size_ok) {
                    return refuse(path, "its size is not bytes, k, m, g or per cent");
                }
                false
            }
            Entry::Terminals { .. } | Entry::Processes { .. } => false,
        };
        if made.insert(bytes, below).is_some() {
            return refuse(path, "is there twice");
        }
    }
    Ok(())
}

fn command(spec: &Spec) -> Result<(), SpecError> {
    let command = &spec.command;
    if command.arguments.is_empty() {
        return refuse("command.arguments", "argv[0] is missing");
    }
    if command.arguments.len() + command.environment.len() > WORDS_MAX {
        return refuse("command", "too many arguments and variables");
    }
    if command.program.as_bytes().is_empty() {
        return refuse("command.program", "empty");
    }
    // Words of any length: the kernel refuses what is too long, and its answer is the build's.
    for word in command.arguments.iter().chain(&command.environment).chain([&command.program]) {
        if word.as_bytes().contains(&0) {
            return refuse(word, "an argument or variable has a NUL byte in it");
        }
    }
    if command.directory.as_bytes() == b"/" {
        return Ok(());
    }
    inside_path(&command.directory)
}

fn mode(path: &ByteString, bits: u32) -> Result<(), SpecError> {
    if bits > 0o7777 {
        return refuse(path, "a mode has at most the bits 07777");
    }
    Ok(())
}

fn text(value: &ByteString, what: &'static str) -> Result<bool, SpecError> {
    let bytes = value.as_bytes();
    if bytes.is_empty() || bytes.contains(&0) || bytes.len() > PATH_BYTES_MAX {
        return refuse(format!("{what} {value:?}"), "empty, longer than 4095 bytes or with a NUL byte in it");
    }
    Ok(false)
}

fn host_path(path: &ByteString) -> Result<(), SpecError> {
    text(path, "a host path")?;
    if path.as_bytes()[0] != b'/' {
        return refuse(path, "a host path must be absolute");
    }
    Ok(())
}

/// `/a/b`: absolute, no empty, `.` or `..` parts.
fn inside_path(path: &ByteString) -> Result<(), SpecError> {
    text(path, "an inside path")?;
    let mut parts = path.as_bytes().split(|byte| *byte == b'/');
    if parts.next() != Some(b"") {
        return refuse(path, "an inside path must be absolute");
    }
    for part in parts {
        if matches!(part, b"" | b"." | b"..") || part.len() > 255 {
            return refuse(path, "an inside path has no empty, `.`, `..` or overlong parts");
        }
    }
    Ok(())
}
