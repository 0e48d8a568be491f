//! The acceptor: connections from a listener through a handshake that cannot hold up the others.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::{Peer, PeerIdentity, ServerTls};
use crate::net::Listen;

/// Limits of the acceptor.
#[derive(Clone, Copy, Debug)]
pub struct AcceptSettings {
    /// Handshakes at once; further connections wait in the kernel's queue.
    pub handshakes_max: usize,
    /// After that a handshake is given up.
    pub handshake_timeout: Duration,
}

impl Default for AcceptSettings {
    fn default() -> Self {
        Self { handshakes_max: 256, handshake_timeout: Duration::from_secs(10) }
    }
}

/// A connection whose peer is verified.
#[derive(Debug)]
pub struct PeerStream<S = TcpStream> {
    stream: TlsStream<S>,
    peer: Peer,
}

impl<S> PeerStream<S> {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// Accepts with the usual limits, for tonic's `serve_with_incoming`. Ends when the stream is dropped.
pub fn incoming<L: Listen>(
    listener: L,
    tls: Arc<ServerTls>,
) -> impl Stream<Item = io::Result<PeerStream<L::Connection>>> + Send + Unpin + 'static {
    incoming_with(listener, tls, AcceptSettings::default())
}

/// As [`incoming`], with limits.
pub fn incoming_with<L: Listen>(
    listener: L,
    tls: Arc<ServerTls>,
    settings: AcceptSettings,
) -> impl Stream<Item = io::Result<PeerStream<L::Connection>>> + Send + Unpin + 'static {
    let (sender, receiver) = mpsc::channel(16);
    crate::task::spawn("accept", accept(listener, tls, settings, sender));
    ReceiverStream::new(receiver)
}

async fn accept<L: Listen>(
    mut listener: L,
    tls: Arc<ServerTls>,
    settings: AcceptSettings,
    accepted: mpsc::Sender<io::Result<PeerStream<L::Connection>>>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            () = accepted.closed() => return,
            Some(_) = handshakes.join_next(), if !handshakes.is_empty() => {}
            connection = listener.accept(), if handshakes.len() < settings.handshakes_max => {
                match connection {
                    Ok((stream, address)) => {
                        let (tls, accepted) = (tls.clone(), accepted.clone());
                        start(&mut handshakes, async move {
                            let done = handshake(stream, address, &tls);
                            match tokio::time::timeout(settings.handshake_timeout, done).await {
                                Ok(Ok(stream)) => drop(accepted.send(Ok(stream)).await),
                                Ok(Err(error)) => tracing::info!(%address, %error, "connection refused"),
                                Err(_) => tracing::info!(%address, "connection refused: no handshake in time"),
                            }
                        });
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: others must end first.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    }
}

fn start(handshakes: &mut JoinSet<()>, handshake: impl Future<Output = ()> + Send + 'static) {
    handshakes.spawn(handshake);
}

async fn handshake<S>(stream: S, address: SocketAddr, tls: &ServerTls) -> io::Result<PeerStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = TlsAcceptor::from(tls.current()).accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.ok_or_else(|| io::Error::other("no client certificate"))?;
    let identity = PeerIdentity::from_certificate(certificate).map_err(io::Error::other)?;
    Ok(PeerStream { stream, peer: Peer { identity, address } })
}

impl<S> Connected for PeerStream<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PeerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for PeerStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
