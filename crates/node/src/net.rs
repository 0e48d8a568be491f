//! Connections and listeners: the operating system's, or those of a test that has a network of its own.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Where connections come from.
pub trait Listen: Send + 'static {
    /// One connection.
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and where it comes from. May be dropped at any moment: no connection is lost.
    ///
    /// # Errors
    /// This one cannot be accepted; the next one may be.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Connection, SocketAddr)>> + Send;

    /// Where it listens.
    ///
    /// # Errors
    /// Nobody can say.
    fn address(&self) -> io::Result<SocketAddr>;
}

impl Listen for TcpListener {
    type Connection = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = TcpListener::accept(self).await?;
        // One that is gone already shows when it is read.
        let _gone = stream.set_nodelay(true);
        Ok((stream, address))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// A connection of the operating system's network.
#[cfg(not(feature = "testing"))]
pub(crate) type Connection = TcpStream;
#[cfg(not(feature = "testing"))]
pub(crate) use connect_tcp as connect;
#[cfg(feature = "testing")]
pub(crate) use simulated::connect;
#[cfg(feature = "testing")]
pub use simulated::{Connection, Dial, use_network};

/// Connects to `host:port`.
pub(crate) async fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(feature = "testing")]
mod simulated {
    use super::{AsyncRead, AsyncWrite, io};
    use std::pin::Pin;
    use std::sync::OnceLock;

    /// What a connection can do.
    pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

    impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

    /// A connection of whatever network is in use.
    pub type Connection = Box<dyn Stream>;

    /// Connects to `host:port`.
    pub type Dial = fn(String) -> Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

    static NETWORK: OnceLock<Dial> = OnceLock::new();

    /// From now on, all connections of this process are opened by `dial`. A second call does nothing.
    pub fn use_network(dial: Dial) {
        let _second = NETWORK.set(dial);
    }

    pub(crate) async fn connect(address: &str) -> io::Result<Connection> {
        match NETWORK.get() {
            Some(dial) => dial(address.to_owned()).await,
            None => Ok(Box::new(super::connect_tcp(address).await?)),
        }
    }
}
