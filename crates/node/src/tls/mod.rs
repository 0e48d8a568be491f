//! Mutual TLS 1.3 with ring: files, identities in certificates, the acceptor of servers, the channels of clients.

mod accept;
mod channel;
mod client;
mod files;
mod identity;
mod server;

pub use accept::{AcceptSettings, PeerStream, incoming, incoming_with};
pub use channel::{ChannelSettings, ConnectError, ServerWindows, client_channel, client_channel_lazy};
pub use client::{ExpectedPeer, client_config};
pub use files::{TlsError, TlsFiles};
pub use identity::{IdentityError, Peer, PeerIdentity, Role};
pub use server::ServerTls;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};

/// TLS 1.3 suites of ring; ChaCha20 first where AES is computed in software (Raspberry Pi 3 and 4).
fn provider() -> Arc<CryptoProvider> {
    let (aes_256, aes_128, chacha) = (
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    );
    let cipher_suites =
        if has_aes() { vec![aes_128, aes_256, chacha] } else { vec![chacha, aes_128, aes_256] };
    Arc::new(CryptoProvider { cipher_suites, ..default_provider() })
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}
