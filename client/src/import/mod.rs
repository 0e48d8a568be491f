//! Bringing wanted outputs into the board's store: the closure's missing paths, references first, each once.

mod fetch;
mod order;
mod transfer;
mod verify;

pub use fetch::Fetch;
pub use transfer::path_info;
pub use verify::Mismatch;

use crate::board::{Board, Daemon};
use crate::rpc::{CallError, Coordinator};
use crate::ui::Ui;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use model::StorePath;
use node::backoff::Backoff;
use order::Order;
use proto::convert::SignedPathInfo;
use std::collections::HashSet;
use thiserror::Error;

/// Transfers at once: enough to hide the round trips of small paths, few enough for a small board.
const TRANSFERS_MAX: usize = 4;
/// Paths that are asked about in one request to the daemon.
const PATHS_PER_QUERY_MAX: usize = 500;

/// Why a wanted output is not in the board's store.
#[derive(Debug, Error)]
pub enum Error {
    /// The coordinator refused.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The board's daemon refused.
    #[error(transparent)]
    Daemon(#[from] nix_daemon::Error),
    /// The daemon trusts none of the signatures.
    #[error(
        "this board does not trust the cluster: nix-daemon refused {path}, signed by {}. Add the cluster's public key \
         (it begins with `{}:`) to `trusted-public-keys` in /etc/nix/nix.conf and restart nix-daemon",
        keys.join(", "), keys.first().map_or("its name", String::as_str)
    )]
    NotTrusted {
        /// The path.
        path: StorePath,
        /// Names of the keys that signed it.
        keys: Vec<String>,
        /// The daemon's words.
        source: nix_daemon::Error,
    },
    /// The bytes that came are not those that were announced. Nothing was registered.
    #[error("download {path}: {mismatch}; nothing of it was imported")]
    Mismatch {
        /// The path.
        path: StorePath,
        /// How they differ.
        mismatch: Mismatch,
    },
    /// The closure cannot be brought into an order.
    #[error("the coordinator sent a closure in which {path} refers to itself through others")]
    Cycle {
        /// One of them.
        path: StorePath,
    },
}

/// Imports closures into one board's store. What it has seen valid stays valid as long as it lives.
pub struct Importer {
    coordinator: Coordinator,
    board: Board,
    /// Keeps the temporary roots: they last as long as the connection.
    keeper: Option<Daemon>,
    idle: Vec<Daemon>,
    valid: HashSet<StorePath>,
}

impl Importer {
    /// From a cluster to a board.
    pub fn new(coordinator: Coordinator, board: Board) -> Self {
        Self { coordinator, board, keeper: None, idle: Vec::new(), valid: HashSet::new() }
    }

    /// Makes these paths valid, with all that they refer to.
    pub async fn import(&mut self, paths: &[StorePath], ui: &Ui) -> Result<(), Error> {
        let missing = self.missing(paths, ui).await?;
        let bytes = missing.iter().map(|info| info.facts.nar_size).sum();
        ui.import_begins(missing.len(), bytes);
        let mut order = Order::new(missing.iter().map(|info| {
            let references = info.facts.references.clone();
            (info.id.path.clone(), references)
        }));
        let coordinator = &self.coordinator;
        let board = &self.board;
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < TRANSFERS_MAX
                && let Some(index) = order.next_ready()
            {
                let info = &missing[index];
                let idle = self.idle.pop();
                running.push(async move {
                    let mut daemon = match idle {
                        Some(daemon) => daemon,
                        None => board.connect().await?,
                    };
                    transfer::transfer(coordinator, &mut daemon, info, ui).await?;
                    Ok::<_, Error>((index, daemon))
                });
            }
            let Some(ended) = running.next().await else { break };
            let (index, daemon) = ended?;
            self.idle.push(daemon);
            self.valid.insert(missing[index].id.path.clone());
            order.done(index);
        }
        match order.first_blocked() {
            Some(index) => Err(Error::Cycle { path: missing[index].id.path.clone() }),
            None => Ok(()),
        }
    }

    /// What the board lacks of a closure. All of the closure is protected from garbage collection first.
    async fn missing(&mut self, paths: &[StorePath], ui: &Ui) -> Result<Vec<SignedPathInfo>, Error> {
        let mut backoff = Backoff::for_connections();
        loop {
            match self.missing_once(paths).await {
                Err(Error::Call(error)) if error.is_link_lost() => ui.link_lost(&error),
                result => return result,
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn missing_once(&mut self, paths: &[StorePath]) -> Result<Vec<SignedPathInfo>, Error> {
        let keeper = match &mut self.keeper {
            Some(keeper) if keeper.is_usable() => keeper,
            keeper => keeper.insert(self.board.connect().await?),
        };
        let mut missing: Vec<SignedPathInfo> = Vec::new();
        let mut seen = HashSet::new();
        let mut closure = self.coordinator.closure(paths).await?;
        while let Some(mut infos) = closure.next().await? {
            infos.retain(|info| !self.valid.contains(&info.id.path) && seen.insert(info.id.path.clone()));
            for part in infos.chunks(PATHS_PER_QUERY_MAX) {
                let asked: Vec<&str> = part.iter().map(|info| info.id.path.as_str()).collect();
                for path in &asked {
                    keeper.add_temp_root(path).await?;
                }
                let valid: HashSet<String> = keeper.query_valid_paths(&asked).await?.into_iter().collect();
                for info in part {
                    if valid.contains(info.id.path.as_str()) {
                        self.valid.insert(info.id.path.clone());
                    } else {
                        missing.push(info.clone());
                    }
                }
            }
        }
        Ok(missing)
    }
}
