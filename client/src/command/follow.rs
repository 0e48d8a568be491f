//! Following a plan to its end: events are shown, results imported as soon as they are there, signals obeyed.
use super::dependents::{self, Dependent};
use super::session::Session;
use crate::event::{Root, TaskState};
use crate::exit::ExitBits;
use crate::import::{self, Importer};
use crate::interrupt::{Interrupts, Wish};
use crate::progress::Progress;
use crate::remember::Remembered;
use crate::ui::text;
use crate::wanted::Item;
use crate::watch::{News, Watch};
use anyhow::Context;
use model::StorePath;
use std::pin::Pin;
use std::time::Duration;
use thiserror::Error;
use tracing::Instrument;

/// How following ended.
pub(super) enum Ended {
    /// The cluster does not know the plan.
    Unknown,
    /// The user left; the plan goes on.
    Detached,
    /// The plan was cancelled.
    Cancelled,
    /// Something failed; the exit code.
    Failed(u8),
    /// Everything wanted is valid here, and protected as long as the importer lives.
    Imported(Box<Importer>, Vec<StorePath>),
}

/// What nix-build says when it is interrupted.
#[derive(Debug, Error)]
#[error("interrupted by the user")]
pub(super) struct Interrupted;

/// Dependents of failures that are listed one by one.
const DEPENDENTS_SHOWN_MAX: usize = 20;
/// How long a cancellation at Ctrl-C waits for the cluster.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

type Importing<'a> = Pin<Box<dyn Future<Output = (Importer, Result<(), import::Error>)> + 'a>>;

/// Follows a plan.
pub(super) async fn follow(session: &Session, remembered: &Remembered, log: bool) -> anyhow::Result<Ended> {
    let span = tracing::info_span!("watch", plan = %remembered.plan);
    Follower::new(session, remembered).run(log).instrument(span).await
}

/// Whether what is available is what was wanted.
fn is_of(root: &Root, item: &Item) -> bool {
    root.derivation == item.derivation && root.output == item.output
}

struct Follower<'a> {
    session: &'a Session,
    remembered: &'a Remembered,
    progress: Progress,
    /// Wanted outputs that are available and not imported.
    pending: Vec<StorePath>,
    roots_seen: usize,
    idle: Option<Importer>,
    importing: Option<Importing<'a>>,
}

impl<'a> Follower<'a> {
    fn new(session: &'a Session, remembered: &'a Remembered) -> Self {
        let importer = Importer::new(session.coordinator.clone(), session.board.clone());
        Self {
            session,
            remembered,
            progress: Progress::default(),
            pending: Vec::new(),
            roots_seen: 0,
            idle: Some(importer),
            importing: None,
        }
    }

    async fn run(mut self, log: bool) -> anyhow::Result<Ended> {
        let Self { session, remembered, .. } = self;
        let mut interrupts = Interrupts::listen()?;
        let mut watch = Watch::new(session.coordinator.clone(), remembered.plan, log);
        loop {
            self.begin_import();
            if self.progress.finished.is_some() && self.importing.is_none() {
                return self.ended().await;
            }
            let is_over = self.progress.finished.is_some();
            let importing = &mut self.importing;
            let imported = async {
                match importing {
                    Some(importing) => importing.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                wish = interrupts.wish(&session.ui) => return self.obey(wish).await,
                (importer, result) = imported => {
                    self.importing = None;
                    self.idle = Some(importer);
                    result?;
                }
                news = watch.next(), if !is_over => match news {
                    Ok(news) => self.take(&news),
                    Err(error) if error.is_not_found() => return Ok(Ended::Unknown),
                    Err(error) => return Err(error.into()),
                },
            }
        }
    }

    fn take(&mut self, news: &News) {
        let ui = &self.session.ui;
        match news {
            News::LinkLost(error) => ui.link_lost(error),
            News::LinkBack => ui.link_back(),
            News::LogMissed => ui.log_missed(),
            News::Event(event) => {
                ui.link_back();
                self.progress.apply(event);
                ui.event(event, &self.progress);
            }
        }
        let news = self.progress.roots[self.roots_seen..].iter();
        let wanted = news.filter(|root| self.remembered.wanted.iter().any(|item| is_of(root, item)));
        self.pending.extend(wanted.map(|root| root.path.clone()));
        self.roots_seen = self.progress.roots.len();
    }

    /// One import at a time, of all that is available: it has transfers enough in itself.
    fn begin_import(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        if let Some(mut importer) = self.idle.take() {
            let paths = std::mem::take(&mut self.pending);
            let ui = self.session.ui.clone();
            self.importing = Some(Box::pin(async move {
                let result = importer.import(&paths, &ui).await;
                (importer, result)
            }));
        }
    }

    async fn ended(mut self) -> anyhow::Result<Ended> {
        let finished = self.progress.finished.unwrap_or_default();
        if finished.cancelled {
            return Ok(Ended::Cancelled);
        }
        if !finished.succeeded {
            return Ok(Ended::Failed(self.report_failures().await));
        }
        let Some(mut importer) = self.idle.take() else { anyhow::bail!("an import is still under way") };
        // What was announced is imported; a plan that succeeded has everything.
        let mut paths = Vec::with_capacity(self.remembered.wanted.len());
        for item in &self.remembered.wanted {
            let root = self.progress.roots.iter().find(|root| is_of(root, item));
            let path = item.path.as_ref().or(root.map(|root| &root.path));
            paths.push(path.cloned().with_context(|| {
                format!(
                    "the cluster built `{}` of {}, and does not say its path",
                    item.output, item.derivation
                )
            })?);
        }
        importer.import(&paths, &self.session.ui).await?;
        self.register_realisations().await?;
        Ok(Ended::Imported(Box::new(importer), paths))
    }

    /// Tells the board's Nix which paths outputs have that their derivations leave open.
    async fn register_realisations(&self) -> anyhow::Result<()> {
        let wanted = |root: &&Root| self.remembered.wanted.iter().any(|item| is_of(root, item));
        let mut daemon = None;
        for root in self.progress.roots.iter().filter(wanted) {
            let Some(id) = &root.realisation else { continue };
            let daemon = match &mut daemon {
                Some(daemon) => daemon,
                empty => empty.insert(self.session.board.connect().await?),
            };
            match daemon.register_realisation(id, root.base_name()).await {
                Ok(()) => {}
                Err(nix_daemon::Error::Refused { message, .. }) => {
                    self.session.ui.note(&format!(
                        "{} is here, and nix-daemon does not take note that it is output `{}` of {}: {message}. With \
                         `experimental-features = ca-derivations` in nix.conf it would not build it again",
                        root.path, root.output, root.derivation
                    ));
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Lists what was not tried because of the failures, and gives the exit code.
    async fn report_failures(&self) -> u8 {
        let mut bits = ExitBits::default();
        let mut waiting = Vec::new();
        for task in &self.progress.failures {
            // A derivation that was collected meanwhile counts as an ordinary one.
            let derivation = self.session.board.derivation(&task.derivation).await.ok();
            if let Some(failure) = &task.failure {
                let is_fixed = derivation.as_ref().is_some_and(|known| known.fixed_output().is_some());
                bits.add(failure, is_fixed);
            }
            if task.state == TaskState::DependencyFailed {
                waiting.push(Dependent::of(&task.derivation, derivation.as_ref()));
            }
        }
        let failures = &self.progress.failures;
        for dependent in dependents::in_order(waiting).iter().take(DEPENDENTS_SHOWN_MAX) {
            let failed = failures.iter().filter(|task| dependent.inputs.contains(&task.derivation)).count();
            let message = text::dependency_failed(&dependent.derivation, failed, &dependent.outputs);
            self.session.ui.failed_dependent(&message);
        }
        bits.code()
    }

    async fn obey(self, wish: Wish) -> anyhow::Result<Ended> {
        let Self { session, remembered, importing, .. } = self;
        // Whatever is on its way in is dropped: the daemon registers nothing of it.
        drop(importing);
        if wish == Wish::Detach {
            return Ok(Ended::Detached);
        }
        let cancelling = session.coordinator.cancel(remembered.plan);
        match tokio::time::timeout(CANCEL_TIMEOUT, cancelling).await {
            Ok(Ok(_was_running)) => Ok(Ended::Cancelled),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => anyhow::bail!(
                "the cluster does not answer: plan {} is not cancelled; `elsewhere cancel {0}` does it later",
                remembered.plan
            ),
        }
    }
}
