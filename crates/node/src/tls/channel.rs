//! gRPC channels over mutual TLS, and the HTTP/2 windows of both ends.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::{ExpectedPeer, TlsError, TlsFiles, client_config};
use crate::net::{Connection, connect};

/// HTTP/2 settings of a channel. Control messages and NAR bytes use two channels: one connection's window is shared.
#[derive(Clone, Copy, Debug)]
pub struct ChannelSettings {
    /// Bytes that a peer may send ahead on one call.
    pub stream_window_bytes: u32,
    /// Bytes that a peer may send ahead on all calls.
    pub connection_window_bytes: u32,
    /// Dialling and handshake together.
    pub connect_timeout: Duration,
    /// How long a connection may be silent before it is pinged.
    pub keepalive_interval: Duration,
    /// How long the answer may take before the connection counts as lost.
    pub keepalive_timeout: Duration,
}

impl ChannelSettings {
    /// Small messages, noticed soon when lost.
    #[must_use]
    pub fn control() -> Self {
        Self {
            stream_window_bytes: 256 << 10,
            connection_window_bytes: 1 << 20,
            connect_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(10),
        }
    }

    /// An executor's session: a connection that somebody on its way forgot is opened anew before its executor counts as lost,
    /// and a slow link is not taken for such a one.
    #[must_use]
    pub fn session() -> Self {
        Self {
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(6),
            ..Self::control()
        }
    }

    /// NARs between machines with memory to spare; one that is dead keeps nobody waiting for long.
    #[must_use]
    pub fn bulk() -> Self {
        Self {
            stream_window_bytes: 4 << 20,
            connection_window_bytes: 8 << 20,
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(5),
        }
    }

    /// NARs to a board.
    #[must_use]
    pub fn board_bulk() -> Self {
        Self { stream_window_bytes: 1 << 20, connection_window_bytes: 2 << 20, ..Self::control() }
    }
}

/// HTTP/2 settings of a server, applied to tonic's builder.
#[derive(Clone, Copy, Debug)]
pub struct ServerWindows {
    /// Bytes that a peer may send ahead on one call.
    pub stream_window_bytes: u32,
    /// Bytes that a peer may send ahead on all calls of a connection.
    pub connection_window_bytes: u32,
    /// Calls at once on one connection.
    pub streams_max: u32,
}

impl Default for ServerWindows {
    fn default() -> Self {
        Self { stream_window_bytes: 1 << 20, connection_window_bytes: 4 << 20, streams_max: 256 }
    }
}

impl ServerWindows {
    /// Sets windows, limits and keepalive.
    #[must_use]
    pub fn apply<L>(self, server: tonic::transport::Server<L>) -> tonic::transport::Server<L>
    where
        L: Clone,
    {
        server
            .initial_stream_window_size(self.stream_window_bytes)
            .initial_connection_window_size(self.connection_window_bytes)
            .max_concurrent_streams(self.streams_max)
            .max_frame_size(256 << 10)
            .http2_max_header_list_size(16 << 10)
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
    }
}

/// A channel that cannot be opened.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("use {address:?} as an address: it must be host:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// The files cannot be used.
    #[error("set up TLS")]
    Tls(#[from] TlsError),
    /// Nobody, or someone else, is there.
    #[error("connect to {address}")]
    Connect {
        /// `host:port`.
        address: String,
        /// Why not.
        source: tonic::transport::Error,
    },
}

/// Connects to `host:port`; the channel reconnects by itself later, reading the files again.
///
/// # Errors
/// The address or the files cannot be used, nobody answers, or the server is not the expected one.
pub async fn client_channel(
    address: &str,
    files: &TlsFiles,
    expected: ExpectedPeer,
    settings: ChannelSettings,
) -> Result<Channel, ConnectError> {
    let endpoint = endpoint(address, settings)?;
    client_config(files, expected.clone())?;
    endpoint
        .connect_with_connector(connector(address, files, expected, settings.connect_timeout))
        .await
        .map_err(|source| ConnectError::Connect { address: address.to_owned(), source })
}

/// As [`client_channel`], but connects with the first call. Must be called inside a runtime.
///
/// # Errors
/// The address or the files cannot be used.
pub fn client_channel_lazy(
    address: &str,
    files: &TlsFiles,
    expected: ExpectedPeer,
    settings: ChannelSettings,
) -> Result<Channel, ConnectError> {
    let endpoint = endpoint(address, settings)?;
    client_config(files, expected.clone())?;
    let connector = connector(address, files, expected, settings.connect_timeout);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

fn endpoint(address: &str, settings: ChannelSettings) -> Result<Endpoint, ConnectError> {
    let wrong = || ConnectError::Address { address: address.to_owned() };
    let has_port = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok() && (!host.contains(':') || host.starts_with('['))
    });
    // TLS is the connector's work: for tonic this is a plain connection.
    let uri: Uri = format!("http://{address}").parse().map_err(|_| wrong())?;
    if !has_port || uri.path() != "/" {
        return Err(wrong());
    }
    Ok(Endpoint::from(uri)
        .initial_stream_window_size(settings.stream_window_bytes)
        .initial_connection_window_size(settings.connection_window_bytes)
        .http2_keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .keep_alive_while_idle(true))
}

fn connector(
    address: &str,
    files: &TlsFiles,
    expected: ExpectedPeer,
    timeout: Duration,
) -> impl tower::Service<
    Uri,
    Response = TokioIo<TlsStream<Connection>>,
    Error = io::Error,
    Future = impl Future<Output = io::Result<TokioIo<TlsStream<Connection>>>> + Send,
> + Send
+ 'static {
    let (address, files): (Arc<str>, TlsFiles) = (address.into(), files.clone());
    tower::service_fn(move |_: Uri| {
        let (address, files, expected) = (address.clone(), files.clone(), expected.clone());
        async move {
            let dialled = tokio::time::timeout(timeout, dial(&address, &files, expected)).await;
            dialled
                .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "nobody answered in time")))
        }
    })
}

async fn dial(
    address: &str,
    files: &TlsFiles,
    expected: ExpectedPeer,
) -> io::Result<TokioIo<TlsStream<Connection>>> {
    let config = client_config(files, expected).map_err(io::Error::other)?;
    let stream = connect(address).await?;
    // Never used: the verifier looks at role and name.
    let name = ServerName::IpAddress(IpAddr::from(Ipv4Addr::UNSPECIFIED).into());
    Ok(TokioIo::new(TlsConnector::from(config).connect(name, stream).await?))
}
