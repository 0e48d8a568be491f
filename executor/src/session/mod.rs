//! The session with the coordinator: what is leased, what is reported, one connection after another.

pub mod connection;
pub mod desk;
pub mod ledger;
pub mod uplink;

use crate::store::Store;
use crate::store::collector::Collector;
use connection::{Identity, converse};
use desk::Desk;
use node::backoff::Backoff;
use node::exit::chain;
use node::tls::{ChannelSettings, ExpectedPeer, Role, TlsFiles, client_channel};
use std::sync::Arc;

/// Keeps a session with the coordinator, connecting again for ever, until the executor has drained and may leave.
///
/// Builds go on while there is no connection.
pub async fn run(
    coordinator: &str,
    files: &TlsFiles,
    desk: &Arc<Desk>,
    store: &Arc<Store>,
    collector: &Arc<Collector>,
    identity: &Identity,
) {
    let mut backoff = Backoff::for_connections();
    loop {
        let mut established = false;
        let expected = ExpectedPeer { role: Role::Coordinator, name: None };
        let mut is_refused = false;
        let problem = match client_channel(coordinator, files, expected, ChannelSettings::session()).await {
            Ok(channel) => {
                match converse(channel, desk, store, collector, identity, &mut established).await {
                    Ok(()) => return,
                    Err(error) => {
                        is_refused = error.is_refusal();
                        chain(&error)
                    }
                }
            }
            Err(error) => chain(&error),
        };
        if established && !is_refused {
            backoff.reset();
        }
        let wait = backoff.next_wait();
        tracing::warn!(coordinator, problem, retry_ms = wait.as_millis(), "no session with the coordinator");
        tokio::time::sleep(wait).await;
    }
}
