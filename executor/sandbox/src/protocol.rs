//! The pipe between executor and launcher: one request on stdin, one JSON event a line on stderr.
//!
//! stdin: length (8 bytes, little endian), the request as JSON; then it stays open, and its end means: kill the
//! sandbox. stdout: the raw log, closed before the last event. stderr: events, the last of them `finished`, `reclaimed`
//! or `failed`; none when a launcher that waits for its build sees the end of stdin.
use std::io::{Read, Write};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::spec::{REQUEST_BYTES_MAX, Request};

/// Longest event line, in bytes.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;

/// What can go wrong on the pipe.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// Not a request that can be written as JSON.
    #[error("cannot write the request as JSON")]
    Encode(#[source] serde_json::Error),
    /// Not a request.
    #[error("the {bytes} bytes on stdin are not a request")]
    Decode {
        /// Length that was announced.
        bytes: u64,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Too long, in either direction.
    #[error("a request of {bytes} bytes is longer than the limit of {REQUEST_BYTES_MAX}")]
    TooLong {
        /// Announced or encoded length.
        bytes: u64,
    },
    /// Reading or writing failed.
    #[error("the pipe to the launcher broke")]
    Pipe(#[source] std::io::Error),
    /// Not an event line.
    #[error("not an event of the launcher: {line}")]
    Event {
        /// The start of the line.
        line: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

/// What the launcher reports, one a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A launcher that waited has its build's request, and has done nothing for it yet.
    Taken,
    /// The program runs.
    Started {
        /// Process id of the sandbox's process 1 on the host.
        pid: i32,
        /// From the start of the launcher to here.
        setup_microseconds: u64,
    },
    /// The first object of a checked tree that the build's user does not own.
    ForeignOwner {
        /// Host path of the tree, as asked.
        tree: String,
        /// Path of the object below it; empty for the tree itself.
        path: String,
    },
    /// The program ended, everything of it is dead, owners are handed back.
    Finished(Finished),
    /// A [`Request::Reclaim`] is done.
    Reclaimed,
    /// No sandbox, or not to the end: the executor's fault, never the build's.
    Failed {
        /// What was attempted.
        step: String,
        /// On what; empty when there is no path.
        path: String,
        /// What happened.
        message: String,
    },
}

/// How the program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Exit code or signal.
    pub end: End,
    /// Who ended it.
    pub cause: Cause,
    /// Processor time in user mode, the program and what it waited for.
    pub user_microseconds: u64,
    /// Processor time in the kernel.
    pub system_microseconds: u64,
    /// Largest resident set of any one process, in bytes.
    pub resident_bytes_max: u64,
    /// Bytes that it read from block devices.
    #[serde(default)]
    pub read_bytes: u64,
    /// Bytes that it wrote to them.
    #[serde(default)]
    pub written_bytes: u64,
}

/// Exit code or signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It called exit.
    Exit(i32),
    /// A signal killed it.
    Signal(i32),
}

/// Who ended the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It ended by itself.
    Itself,
    /// It closed its log and went on: killed, as Nix does.
    LogClosed,
    /// The executor closed stdin.
    Cancelled,
    /// Its emulator slept for ever on the signal that `end` names.
    EmulatorHung,
}

/// The bytes to write to the launcher's stdin: length and JSON.
pub fn encode_request(request: &Request) -> Result<Vec<u8>, ProtocolError> {
    let mut bytes = vec![0; 8];
    serde_json::to_writer(&mut bytes, request).map_err(ProtocolError::Encode)?;
    let length = u64::try_from(bytes.len() - 8).map_err(|_| ProtocolError::TooLong { bytes: u64::MAX })?;
    if length > REQUEST_BYTES_MAX {
        return Err(ProtocolError::TooLong { bytes: length });
    }
    bytes[..8].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Writes a request to the launcher's stdin. Keep that pipe open: its end kills the sandbox.
pub fn write_request(to: &mut impl Write, request: &Request) -> Result<(), ProtocolError> {
    to.write_all(&encode_request(request)?).map_err(ProtocolError::Pipe)?;
    to.flush().map_err(ProtocolError::Pipe)
}

/// Reads a request (the launcher's side); none when the pipe ends before it. Only its length is trusted, up to the limit.
pub fn read_request(from: &mut impl Read) -> Result<Option<Request>, ProtocolError> {
    let mut prefix = [0; 8];
    let begun = from.read(&mut prefix).map_err(ProtocolError::Pipe)?;
    if begun == 0 {
        return Ok(None);
    }
    from.read_exact(&mut prefix[begun..]).map_err(ProtocolError::Pipe)?;
    let length = u64::from_le_bytes(prefix);
    let size = usize::try_from(length).map_err(|_| ProtocolError::TooLong { bytes: length })?;
    if length > REQUEST_BYTES_MAX {
        return Err(ProtocolError::TooLong { bytes: length });
    }
    let mut json = Vec::with_capacity(size.min(1024 * 1024));
    let mut chunk = [0; 64 * 1024];
    while json.len() < size {
        let wanted = chunk.len().min(size - json.len());
        from.read_exact(&mut chunk[..wanted]).map_err(ProtocolError::Pipe)?;
        json.extend_from_slice(&chunk[..wanted]);
    }
    serde_json::from_slice(&json).map(Some).map_err(|source| ProtocolError::Decode { bytes: length, source })
}

/// Reads one event line, without or with its line feed.
pub fn parse_event(line: &[u8]) -> Result<Event, ProtocolError> {
    serde_json::from_slice(line).map_err(|source| ProtocolError::Event {
        line: String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned(),
        source,
    })
}
