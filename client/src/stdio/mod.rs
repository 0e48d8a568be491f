//! A store for unmodified Nix (`builders = ssh-ng://localhost?remote-program=...`): each derivation that Nix hands over is
//! built in the cluster, from its real closure in the board's store, and Nix fetches the outputs.
mod build;

use crate::board::Board;
use crate::import::{Fetch, path_info};
use crate::rpc::{CallError, Coordinator};
use crate::ui::Ui;
use anyhow::{Context, bail};
use build::Ended;
use model::StorePath;
use nix_daemon::{Reply, Request, Server};
use node::backoff::Backoff;
use proto::convert::{SignedPathInfo, store_path};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::Instant;

type Nix = Server<Receiver, Sender>;

/// How long a cluster that cannot be reached is waited for before Nix is told: longer than its coordinator takes to start again.
const REACH_PATIENCE: Duration = Duration::from_secs(20);

/// Makes a call again while the link is lost, not longer than its patience, or for ever without one.
async fn patiently<T, F: Future<Output = Result<T, CallError>>>(
    patience: Option<Duration>,
    call: impl Fn() -> F,
) -> Result<T, CallError> {
    let (started, mut backoff) = (Instant::now(), Backoff::for_connections());
    loop {
        match call().await {
            Err(error)
                if error.is_link_lost() && patience.is_none_or(|patience| started.elapsed() < patience) =>
            {
                tokio::time::sleep(backoff.next_wait()).await;
            }
            result => return result,
        }
    }
}

/// Serves one Nix until it leaves.
pub async fn serve(coordinator: &Coordinator, board: &Board, ui: &Ui) -> anyhow::Result<()> {
    // Before the greeting: a builder that cannot be reached makes Nix try the next one, or build itself.
    patiently(Some(REACH_PATIENCE), || coordinator.reach()).await?;
    let name = concat!("elsewhere ", env!("CARGO_PKG_VERSION"));
    let (input, output) =
        pipes().context("use standard input and output as pipes (Nix starts this, not people)")?;
    let mut nix = Server::greet(input, output, name).await?;
    let mut store = Store { coordinator, board, ui, infos: HashMap::new() };
    while let Some(request) = nix.request().await? {
        if !store.answer(&mut nix, request).await? {
            break;
        }
    }
    Ok(())
}

fn pipes() -> io::Result<(Receiver, Sender)> {
    let own = |stream: &dyn AsFd| stream.as_fd().try_clone_to_owned().map(File::from);
    Ok((Receiver::from_file(own(&io::stdin())?)?, Sender::from_file(own(&io::stdout())?)?))
}

struct Store<'a> {
    coordinator: &'a Coordinator,
    board: &'a Board,
    ui: &'a Ui,
    /// What Nix asked for, and fetches next.
    infos: HashMap<StorePath, SignedPathInfo>,
}

impl Store<'_> {
    /// Answers one request; false when Nix left meanwhile.
    async fn answer(&mut self, nix: &mut Nix, request: Request) -> anyhow::Result<bool> {
        match request {
            Request::SetOptions | Request::AddNothing => nix.reply(Reply::Nothing).await?,
            // The cluster keeps what a living plan needs.
            Request::Keep(_) => nix.reply(Reply::Done).await?,
            Request::QueryRealisation(_) => nix.reply(Reply::NoRealisations).await?,
            // Inputs of derivations: sources and outputs of others below them. With its real closure a derivation
            // brings all of them, each verified: Nix need not send any.
            Request::QueryValidPaths(paths) => nix.reply(Reply::Paths(paths)).await?,
            Request::IsValidPath(path) => {
                let is_valid = self.info(&path).await?.is_some();
                nix.reply(Reply::Boolean(is_valid)).await?;
            }
            Request::QueryPathInfo(path) => {
                let info = self.info(&path).await?.map(path_info);
                nix.reply(Reply::PathInfo(info)).await?;
            }
            Request::NarFromPath(path) => self.send_nar(nix, &path).await?,
            Request::BuildDerivation(request) => {
                match build::build(self.coordinator, self.board, self.ui, nix, &request).await? {
                    Ended::Built(result) => nix.reply(Reply::BuildResult(result)).await?,
                    Ended::Refused(problem) => nix.refuse(&problem).await?,
                    Ended::NixLeft => return Ok(false),
                }
            }
            Request::Other(operation) => {
                let problem = format!(
                    "Elsewhere builds derivations for Nix, and serves what they give; operation {operation} of Nix's protocol \
                     is for other stores"
                );
                nix.refuse(&problem).await?;
                bail!(problem);
            }
        }
        Ok(true)
    }

    /// What the cluster knows about a path that it holds.
    async fn info(&mut self, path: &str) -> anyhow::Result<Option<&SignedPathInfo>> {
        let Ok(path) = store_path("path", path) else { return Ok(None) };
        if !self.infos.contains_key(&path)
            && let Some(info) = patiently(None, || self.coordinator.path_info(&path)).await?
        {
            self.infos.insert(path.clone(), info);
        }
        Ok(self.infos.get(&path))
    }

    async fn send_nar(&mut self, nix: &mut Nix, path: &str) -> anyhow::Result<()> {
        let (coordinator, ui) = (self.coordinator, self.ui);
        let Some(info) = self.info(path).await? else {
            nix.refuse(&format!("the cluster does not hold '{path}'")).await?;
            return Ok(());
        };
        nix.reply(Reply::NarBegins).await?;
        let mut fetch = Fetch::new(coordinator, info, ui);
        // There is no way to take back what was sent: without the last bytes Nix registers nothing.
        while let Some(bytes) = fetch.next().await.with_context(|| format!("give '{path}' to Nix"))? {
            nix.nar(&bytes).await?;
        }
        nix.nar_ends().await?;
        Ok(())
    }
}
