//! The greeting: versions, features, trust.
use crate::incoming::{Incoming, ReadError};
use crate::wire::{Put, malformed};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

pub(crate) const CLIENT_MAGIC: u64 = 0x6e69_7863;
pub(crate) const SERVER_MAGIC: u64 = 0x6478_696f;
/// Newest version that this client speaks: 1.38.
pub(crate) const VERSION_MAX: u64 = 0x126;
/// Oldest version that this client speaks: 1.34 (Nix 2.8).
pub(crate) const VERSION_MIN: u64 = 0x122;

/// Whether the daemon trusts this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The daemon did not say (before 1.35, or it forwards to another store).
    Unknown,
    /// It takes settings and unsigned paths from this user.
    Trusted,
    /// It does not.
    NotTrusted,
}

/// What was agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: u64,
    pub(crate) nix_version: String,
    pub(crate) trust: Trust,
}

/// Shakes hands up to the stderr loop that ends the greeting, which is the caller's.
pub(crate) async fn greet<R, W>(incoming: &mut Incoming<R>, writer: &mut W) -> Result<Greeting, ReadError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut hello = BytesMut::new();
    hello.put_number(CLIENT_MAGIC);
    hello.put_number(VERSION_MAX);
    send(writer, &hello).await?;
    let server = incoming
        .take(|cursor| match cursor.number()? {
            SERVER_MAGIC => cursor.number(),
            other => malformed(format!("the greeting begins with {other:#x}: this is not nix-daemon")),
        })
        .await?;
    if server >> 8 != 1 || server < VERSION_MIN {
        let (major, minor) = (server >> 8, server & 0xff);
        let problem = format!("protocol {major}.{minor}, where 1.34 or later is needed (Nix 2.8)");
        return Err(ReadError::Malformed(problem));
    }
    let version = server.min(VERSION_MAX);
    let mut rest = BytesMut::new();
    if version >= 0x126 {
        // Of the features none is needed here, and some change the form of results.
        rest.put_number(0);
    }
    rest.put_number(0); // no processor affinity
    rest.put_number(0); // no reserved space
    send(writer, &rest).await?;
    if version >= 0x126 {
        incoming.take(|cursor| cursor.list("features", |cursor| cursor.word("feature"))).await?;
    }
    let nix_version = incoming.take(|cursor| cursor.word("version of Nix")).await?;
    let trust = if version < 0x123 {
        Trust::Unknown
    } else {
        match incoming.take(|cursor| cursor.number()).await? {
            1 => Trust::Trusted,
            2 => Trust::NotTrusted,
            _ => Trust::Unknown,
        }
    };
    Ok(Greeting { version, nix_version, trust })
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> Result<(), ReadError> {
    writer.write_all(bytes).await.map_err(ReadError::Stream)?;
    writer.flush().await.map_err(ReadError::Stream)
}
