//! A wire between client and cluster that can be cut after so many bytes, and joined again.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A wire.
pub struct Wire {
    /// Where the client connects.
    pub address: SocketAddr,
    /// Times that it was cut.
    pub cuts: Arc<AtomicUsize>,
}

impl Wire {
    /// To a cluster; all connections break each time so many bytes have come down, for so many times.
    pub async fn to(upstream: SocketAddr, cut_every_bytes: u64, cuts_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let meter = Arc::new(Meter {
            left: AtomicU64::new(cut_every_bytes),
            cut_every_bytes,
            cuts: cuts.clone(),
            cuts_max,
            generation: watch::Sender::new(0),
        });
        node::task::spawn("wire", async move {
            loop {
                let Ok((near, _)) = listener.accept().await else { return };
                let meter = meter.clone();
                node::task::spawn("connection", async move {
                    let Ok(far) = TcpStream::connect(upstream).await else { return };
                    let mut broken = meter.generation.subscribe();
                    let (near_read, near_write) = near.into_split();
                    let (far_read, far_write) = far.into_split();
                    tokio::select! {
                        () = copy(near_read, far_write, None) => {}
                        () = copy(far_read, near_write, Some(&meter)) => {}
                        _ = broken.changed() => {}
                    }
                });
            }
        });
        Self { address, cuts }
    }
}

struct Meter {
    left: AtomicU64,
    cut_every_bytes: u64,
    cuts: Arc<AtomicUsize>,
    cuts_max: usize,
    generation: watch::Sender<u64>,
}

impl Meter {
    /// Counts bytes; true when the wire breaks now.
    fn breaks(&self, bytes: u64) -> bool {
        let left = self.left.load(Ordering::SeqCst).saturating_sub(bytes);
        self.left.store(left, Ordering::SeqCst);
        if left > 0 || self.cuts.load(Ordering::SeqCst) >= self.cuts_max {
            return false;
        }
        self.cuts.fetch_add(1, Ordering::SeqCst);
        self.left.store(self.cut_every_bytes, Ordering::SeqCst);
        self.generation.send_modify(|generation| *generation += 1);
        true
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, meter: Option<&Meter>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count) = from.read(&mut buffer).await {
        let is_broken = meter.is_some_and(|meter| meter.breaks(count as u64));
        if count == 0 || is_broken || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
