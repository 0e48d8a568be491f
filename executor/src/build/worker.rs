//! Takes a lease from its inputs to its outputs.
use super::attempt::{Attempt, sandbox_span};
use super::directory::Directory;
use super::disk::Disk;
use super::failure::{self, Around, failure};
use super::floating;
use super::inputs::{Inputs, InputsError};
use super::jail::{self, InputKind, Jail, JailInput, JailNetwork};
use super::launcher::Launchers;
use super::log::Piece;
use super::outputs::{self, Examined, OutputsError};
use super::prefetch::Prefetcher;
use super::prepare::{Prepared, prepare};
use super::process;
use super::run::{self, Ended, LogSink};
use super::verdict;
use crate::blocking::blocking;
use crate::builtin::view::View;
use crate::builtin::{self, Control, Downloader};
use crate::config::SandboxPath;
use crate::lease::{Lease, LeaseKey, Limits, Prefetch, Times};
use crate::platform::Resources;
use crate::session::desk::Builder;
use crate::session::uplink::Uplink;
use crate::slots::Slots;
use crate::store::collector::Limits as StoreLimits;
use crate::store::{Pins, Store, Unacknowledged, base_name};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use model::{BuiltOutput, ContentId, Failure, FailureClass, Outcome, PathFacts, Platform, StorePath};
use node::exit::chain;
use sandbox::binfmt::Rule;
use sandbox::cgroup::Cgroup;
use sandbox::spec::Request;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// What is the same for all builds.
#[derive(Debug)]
pub struct Settings {
    /// The launcher.
    pub launcher: PathBuf,
    /// Each build has a directory below it; on the store's file system.
    pub builds_directory: PathBuf,
    /// `NIX_BUILD_CORES`.
    pub cores: u32,
    /// Limits beside those of the lease.
    pub limits: Limits,
    /// Host files that every build sees.
    pub sandbox_paths: Vec<SandboxPath>,
    /// Size of `/dev/shm`.
    pub dev_shm_size: String,
    /// Whether `/dev/kvm` is offered.
    pub has_kvm: bool,
    /// Certificate authorities of the host, for builds with network.
    pub certificates: Option<PathBuf>,
    /// The network of fixed-output builds, or why they cannot run here.
    pub fixed_output_network: Result<JailNetwork, String>,
    /// Downloads for builtin builders.
    pub downloader: Downloader,
    /// Interpreters for emulated builds.
    pub interpreters: Vec<Rule>,
    /// What limits and measures builds.
    pub resources: Resources,
    /// What the store leaves free.
    pub store_limits: StoreLimits,
    /// What was proven: leases for anything else are refused.
    pub platforms: Vec<Platform>,
    /// The executor's own user.
    pub user_id: u32,
}

/// Builds leases.
#[derive(Debug)]
pub struct Worker {
    settings: Settings,
    store: Arc<Store>,
    inputs: Arc<Inputs>,
    slots: Slots,
    launchers: Arc<Launchers>,
    disk: Arc<Disk>,
    prefetcher: Prefetcher,
    unacknowledged: Unacknowledged,
}

impl Worker {
    /// A worker over a store.
    pub fn new(settings: Settings, store: Arc<Store>, inputs: Inputs, slots: Slots) -> Self {
        let disk = Arc::new(Disk::new(store.clone(), settings.store_limits.reserve_bytes));
        let inputs = Arc::new(inputs);
        let prefetcher = Prefetcher::new(inputs.clone(), store.clone(), settings.store_limits);
        let launchers = Launchers::new(settings.launcher.clone());
        let unacknowledged = Unacknowledged::default();
        Self { settings, store, inputs, slots, launchers, disk, prefetcher, unacknowledged }
    }

    async fn run(
        self: Arc<Self>,
        lease: Lease,
        uplink: Arc<Uplink>,
        cancel: CancellationToken,
        times: &mut Times,
        pins: &Arc<Pins>,
    ) -> Result<Vec<BuiltOutput>, Failure> {
        let prepared = self.admit(&lease)?;
        pins.add(&known_outputs(&lease, &prepared));
        if let Some(held) = self.held(&lease, &prepared) {
            return Ok(held);
        }
        let start = Instant::now();
        let span = tracing::info_span!("inputs", paths = lease.inputs.len());
        let fetched = tokio::select! {
            fetched = self.inputs.ensure(&lease.inputs).instrument(span) => fetched,
            () = cancel.cancelled() => return Err(cancelled()),
        };
        times.input_bytes_fetched = fetched.map_err(of_inputs)?;
        times.inputs_ms = milliseconds(start);
        let taken = tokio::select! {
            taken = self.slots.take() => taken,
            () = cancel.cancelled() => return Err(cancelled()),
        };
        let taken =
            taken.ok_or_else(|| failure(FailureClass::Infrastructure, "this executor has no slots"))?;
        if let Some(failed) = self.disk.refuses().and_then(|full| of_end(&lease, &full)) {
            return Err(failed);
        }
        let present = self.disk.enter();
        let has_sandbox = lease.platform != Platform::Builtin;
        let builds = &self.settings.builds_directory;
        let directory = Directory::make(builds, taken.slot, lease.key, present, has_sandbox).await?;
        let result = self.in_directory(&lease, &prepared, &directory, &uplink, &cancel, (times, pins)).await;
        directory.clean_up(self.settings.launcher.clone(), taken);
        result
    }

    fn admit(&self, lease: &Lease) -> Result<Prepared, Failure> {
        if !self.settings.platforms.contains(&lease.platform) {
            let message = format!("platform '{}' is not offered by this executor", lease.platform);
            return Err(failure(FailureClass::Infrastructure, message));
        }
        prepare(lease)
    }

    /// All outputs, when an earlier build left them here.
    fn held(&self, lease: &Lease, prepared: &Prepared) -> Option<Vec<BuiltOutput>> {
        let held = |expected: &outputs::Expected| {
            if expected.floating.is_some() {
                return None;
            }
            let id = ContentId { domain: lease.derivation.domain.clone(), path: expected.path.clone() };
            let facts = self.store.get(&id)?.as_ref().clone();
            Some(BuiltOutput { name: expected.name.clone(), path: id.path, facts })
        };
        prepared.outputs.iter().map(held).collect()
    }

    async fn in_directory(
        &self,
        lease: &Lease,
        prepared: &Prepared,
        directory: &Directory,
        uplink: &Uplink,
        cancel: &CancellationToken,
        (times, pins): (&mut Times, &Arc<Pins>),
    ) -> Result<Vec<BuiltOutput>, Failure> {
        let start = Instant::now();
        let run = if lease.platform == Platform::Builtin {
            let span = tracing::info_span!("builtin", slot = directory.slot.number);
            self.builtin(lease, prepared, directory, uplink, cancel).instrument(span).await?
        } else {
            let span = sandbox_span(directory.slot.number, &lease.platform);
            self.sandbox(lease, prepared, directory, uplink, cancel).instrument(span).await?
        };
        times.build_ms = milliseconds(start);
        times.usage = run.usage;
        let known = prepared.outputs.iter().filter(|output| output.floating.is_none());
        let paths: Vec<_> = known.map(|output| output.path.clone()).collect();
        let around = Around {
            free_bytes: self.store.free_disk_bytes(),
            processes_refused_at: run.processes_refused_at,
        };
        if let Some(failed) = failure::of_end(&lease.built, &paths, &run.ended, around) {
            return Err(failed);
        }
        if let Some((tree, path)) = run.foreign {
            let message = format!("invalid ownership on file '{}'", Path::new(&tree).join(path).display());
            return Err(failure(FailureClass::OutputRejected, message));
        }
        let start = Instant::now();
        let span = tracing::info_span!("outputs", outputs = prepared.outputs.len());
        let built = self.take_outputs(lease, prepared, directory, pins.clone()).instrument(span).await;
        times.outputs_ms = milliseconds(start);
        built.map_err(|error| failure(error.class(), chain(&error)))
    }

    /// What Nix's own builders make is made where a sandbox would have it: all that follows is the same.
    async fn builtin(
        &self,
        lease: &Lease,
        prepared: &Prepared,
        directory: &Directory,
        uplink: &Uplink,
        cancel: &CancellationToken,
    ) -> Result<Attempt, Failure> {
        let store_directory = directory.root.join("nix/store");
        let output = prepared.outputs.iter().find(|output| output.name == "out");
        let output = output.ok_or_else(|| {
            let message = format!("cannot build '{}': it has no output 'out'", lease.built);
            failure(FailureClass::InputRejected, message)
        })?;
        std::fs::create_dir_all(&store_directory).map_err(|error| {
            let message = format!("cannot make '{}': {error}", store_directory.display());
            failure(FailureClass::Infrastructure, message)
        })?;
        let trees = lease.inputs.iter().map(|input| (input.id.path.clone(), self.store.tree(&input.id)));
        let task = builtin::Task {
            derivation: prepared.derivation.clone(),
            output: store_directory.join(base_name(&output.path)),
            view: View::new(trees),
            has_network: self.settings.fixed_output_network != Ok(JailNetwork::None),
        };
        let limits = lease.limits.stricter(self.settings.limits);
        let control = Control::new(limits, cancel.clone(), uplink, lease.key);
        let ended = builtin::perform(task, &self.settings.downloader, control).await?;
        Ok(Attempt { ended, ..Attempt::default() })
    }

    async fn sandbox(
        &self,
        lease: &Lease,
        prepared: &Prepared,
        directory: &Directory,
        uplink: &Uplink,
        cancel: &CancellationToken,
    ) -> Result<Attempt, Failure> {
        let process = process::process(lease, prepared, self.settings.cores, &self.store)?;
        let network = match &self.settings.fixed_output_network {
            _ if !prepared.is_fixed => JailNetwork::None,
            Ok(network) => network.clone(),
            Err(reason) => return Err(failure(FailureClass::Infrastructure, reason)),
        };
        let cgroup = self.cgroup(directory).await?;
        let is_emulated = matches!(lease.platform, Platform::Emulated(_));
        let spec = jail::spec(Jail {
            root: &directory.root,
            scratch: &directory.scratch,
            command: process.command,
            build_files: process.files,
            inputs: self.jail_inputs(lease)?,
            outputs: prepared.outputs.iter().map(|output| base_name(&output.path).to_owned()).collect(),
            network,
            cgroup: cgroup.as_ref().map(Cgroup::path),
            system: &prepared.derivation.system,
            host_ids: directory.slot.ids,
            is_emulated,
            interpreters: if is_emulated { self.settings.interpreters.clone() } else { Vec::new() },
            sandbox_paths: &self.settings.sandbox_paths,
            dev_shm_size: &self.settings.dev_shm_size,
            has_kvm: self.settings.has_kvm,
            certificates: self.settings.certificates.as_deref(),
        });
        let shape = directory.fit(&spec).await?;
        let request = Request::Run(Box::new(spec));
        let limits = lease.limits.stricter(self.settings.limits);
        let mut log = ToUplink { uplink, key: lease.key };
        let stop = async {
            tokio::select! {
                () = cancel.cancelled() => Ended::Cancelled,
                full = directory.present.must_go() => full,
            }
        };
        let waiting = self.launchers.take(directory.slot);
        let run = run::run(self.launchers.program(), waiting, &request, limits, stop, &mut log).await;
        self.launchers.prepare(directory.slot);
        let used = cgroup.as_ref().map(Cgroup::used);
        if cgroup.is_some() {
            // The kernel may need a moment to let go of it.
            blocking(move || drop(cgroup)).await;
        }
        let run = run.map_err(|error| failure(FailureClass::Infrastructure, chain(&error)))?;
        if run.finished.is_some() {
            directory.keep(shape);
        }
        let attempt = Attempt::of(run, used.as_ref(), self.settings.resources.limits);
        attempt.record(&lease.derivation.path);
        Ok(attempt)
    }

    async fn cgroup(&self, directory: &Directory) -> Result<Option<Cgroup>, Failure> {
        if self.settings.resources.hierarchy.is_none() {
            return Ok(None);
        }
        let (resources, slot) = (self.settings.resources.clone(), directory.slot.number);
        let made = blocking(move || resources.cgroup(slot)).await;
        made.map_err(|error| failure(FailureClass::Infrastructure, chain(&error)))
    }

    fn jail_inputs(&self, lease: &Lease) -> Result<Vec<JailInput>, Failure> {
        let input = |input: &crate::lease::Input| {
            let source = self.store.tree(&input.id);
            let status = std::fs::symlink_metadata(&source)?;
            let kind = if status.is_symlink() {
                InputKind::Symlink { target: std::fs::read_link(&source)?.into_os_string().into_vec() }
            } else {
                InputKind::Mounted
            };
            Ok(JailInput { base_name: base_name(&input.id.path).to_owned(), source, kind })
        };
        let inputs: io::Result<Vec<_>> = lease.inputs.iter().map(input).collect();
        inputs
            .map_err(|error| failure(FailureClass::Infrastructure, format!("cannot read an input: {error}")))
    }

    /// Examines the outputs, checks what the derivation promises, and moves them into the store.
    async fn take_outputs(
        &self,
        lease: &Lease,
        prepared: &Prepared,
        directory: &Directory,
        pins: Arc<Pins>,
    ) -> Result<Vec<BuiltOutput>, OutputsError> {
        let derivation = lease.built.clone();
        let (expected, candidates) = (prepared.outputs.clone(), prepared.candidates.clone());
        let store_directory = directory.root.join("nix/store");
        let owner = self.settings.user_id;
        let examined = blocking({
            let derivation = derivation.clone();
            move || outputs::examine(&derivation, &expected, &candidates, &store_directory, owner)
        })
        .await?;
        let ordered = verdict::in_order(&derivation, examined).map_err(OutputsError::Rejected)?;
        let workshop = directory.root.with_file_name("rewritten");
        let ordered = blocking(move || floating::settle(ordered, &workshop)).await?;
        for output in &ordered {
            verdict::check_fixed(&derivation, output).map_err(OutputsError::Rejected)?;
        }
        process::check_outputs(lease, prepared, &ordered).map_err(OutputsError::Rejected)?;
        let (store, domain) = (self.store.clone(), lease.derivation.domain.clone());
        blocking(move || {
            let adopt = |output: &Examined| {
                let id = ContentId { domain: domain.clone(), path: output.path.clone() };
                pins.add([&id]);
                let facts = verdict::facts(&derivation, output);
                let address = facts.content_address.clone();
                let facts = store.adopt(&id, facts, &output.tree)?.as_ref().clone();
                // What was held may have come without its content address, or from another derivation.
                let content_address = facts.content_address.clone().or(address);
                let facts = PathFacts { content_address, deriver: Some(derivation.clone()), ..facts };
                Ok(BuiltOutput { name: output.expected.name.clone(), path: id.path, facts })
            };
            ordered.iter().map(adopt).collect()
        })
        .await
    }
}

impl Builder for Worker {
    fn build(
        self: Arc<Self>,
        lease: Lease,
        uplink: Arc<Uplink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, (Outcome, Times)> {
        let span = tracing::info_span!(
            "build",
            derivation = %lease.derivation.path,
            lease = %lease.key,
            platform = %lease.platform,
        );
        node::propagate::set_parent(&span, &lease.trace_context);
        // From here on they stay, those too that are still to be fetched.
        let pins = Arc::new(Pins::new(&self.store, lease.inputs.iter().map(|input| &input.id)));
        let (key, domain) = (lease.key, lease.derivation.domain.clone());
        async move {
            let mut times = Times::default();
            let outcome = match self.clone().run(lease, uplink, cancel, &mut times, &pins).await {
                Ok(outputs) => {
                    let id = |path: &StorePath| ContentId { domain: domain.clone(), path: path.clone() };
                    let ids: Vec<_> = outputs.iter().map(|output| id(&output.path)).collect();
                    self.made(key, &ids);
                    Outcome::Built(outputs)
                }
                Err(failed) => {
                    tracing::warn!(class = ?failed.class, message = failed.message, "not built");
                    Outcome::Failed(failed)
                }
            };
            (outcome, times)
        }
        .instrument(span)
        .boxed()
    }

    fn prefetch(&self, hint: Prefetch) {
        self.prefetcher.fetch(hint);
    }

    fn made(&self, key: LeaseKey, outputs: &[ContentId]) {
        self.unacknowledged.keep(key, Pins::new(&self.store, outputs));
    }

    fn acknowledged(&self, key: LeaseKey) {
        self.unacknowledged.release(key);
    }
}

/// The outputs whose paths are known before they are built.
fn known_outputs(lease: &Lease, prepared: &Prepared) -> Vec<ContentId> {
    let known = prepared.outputs.iter().filter(|output| output.floating.is_none());
    let domain = &lease.derivation.domain;
    known.map(|output| ContentId { domain: domain.clone(), path: output.path.clone() }).collect()
}

/// The failure that an end is before anything was built.
fn of_end(lease: &Lease, ended: &Ended) -> Option<Failure> {
    let around = Around { free_bytes: u64::MAX, processes_refused_at: None };
    failure::of_end(&lease.derivation.path, &[], ended, around)
}

fn cancelled() -> Failure {
    failure(FailureClass::Cancelled, "the build was cancelled")
}

fn of_inputs(error: InputsError) -> Failure {
    let (class, missing) = match &error {
        InputsError::Missing { path, .. } => (FailureClass::InputMissing, vec![path.clone()]),
        InputsError::OutOfDisk { .. } => (FailureClass::OutOfDisk, Vec::new()),
        InputsError::Store { .. } => (FailureClass::Infrastructure, Vec::new()),
    };
    Failure { missing_inputs: missing, ..failure(class, chain(&error)) }
}

fn milliseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Sends a build's log to the coordinator.
struct ToUplink<'a> {
    uplink: &'a Uplink,
    key: LeaseKey,
}

impl LogSink for ToUplink<'_> {
    async fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => self.uplink.progress(self.key, None, &text).await,
            Piece::Phase(phase) => self.uplink.progress(self.key, Some(phase), &[]).await,
        }
    }
}
