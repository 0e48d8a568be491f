//! Connections over the simulated network, frozen when a fault says so.
use node::net::{Connection, Listen};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// What is known of a host's connections.
#[derive(Default)]
struct Host {
    is_frozen: bool,
    waiting: Vec<Waker>,
}

static HOSTS: Mutex<Option<HashMap<String, Host>>> = Mutex::new(None);

fn with<T>(host: &str, work: impl FnOnce(&mut Host) -> T) -> T {
    let mut hosts = HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
    work(hosts.get_or_insert_default().entry(host.to_owned()).or_default())
}

/// From now on a host's programs read nothing, or read again.
pub fn freeze(host: &str, is_frozen: bool) {
    let waiting = with(host, |host| {
        host.is_frozen = is_frozen;
        if is_frozen { Vec::new() } else { std::mem::take(&mut host.waiting) }
    });
    waiting.into_iter().for_each(Waker::wake);
}

/// Opens all connections of this process over the simulated network.
pub fn install() {
    node::net::use_network(|address| {
        Box::pin(async move {
            let stream = TcpStream::connect(address.as_str()).await?;
            Ok(Box::new(Wire::new(stream)) as Connection)
        })
    });
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    host: String,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        let host = stream.local_addr().ok().and_then(|address| turmoil::reverse_lookup(address.ip()));
        Self { stream, host: host.unwrap_or_default() }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let is_frozen = with(&self.host, |host| {
            if host.is_frozen {
                host.waiting.push(context.waker().clone());
            }
            host.is_frozen
        });
        if is_frozen {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A listener of the simulated network.
pub struct Listener(TcpListener);

impl Listener {
    /// Listens on a port of the calling host.
    pub async fn bind(port: u16) -> io::Result<Self> {
        TcpListener::bind(("0.0.0.0", port)).await.map(Self)
    }
}

impl Listen for Listener {
    type Connection = Wire;

    async fn accept(&mut self) -> io::Result<(Wire, SocketAddr)> {
        let (stream, address) = self.0.accept().await?;
        Ok((Wire::new(stream), address))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
