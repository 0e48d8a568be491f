//! Every fault in the book, against the real programs: one test and one table row each.

mod boards;
mod clocks;
mod coordinators;
mod disks;
mod executors;
mod gone;
mod links;
mod logs;
mod shared;
mod stores;
mod stragglers;
mod twins;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tests::{ClusterSpec, ExecutorSpec, Lab, Oracle, OracleSpec, Process, wait_for_words, wait_until};

use crate::scene::{GRAPHS, PLAN_LIMIT, Scene, binds};

/// How long something may take that is sure to come.
const EVENT_LIMIT: Duration = Duration::from_secs(60);
/// By default settings nothing may be dead for longer before it is noticed.
const DETECTION_MAX: Duration = Duration::from_secs(15);
/// The graph that most faults happen to.
const FAULTY: &str = "faulty";
/// Steps of each of its two rows; one more takes all together.
const ROW: usize = 6;
/// All its steps.
const TASKS: usize = 2 * ROW + 1;
const EXECUTORS: [&str; 3] = ["executor1", "executor2", "executor3"];

/// What is built again here is built again for the fault's sake: nothing is by speculation.
const NO_SPECULATION: &str = "speculation = false\n";

/// Three executors with one slot each, by default settings.
fn by_default() -> ClusterSpec {
    ClusterSpec {
        executors: EXECUTORS.map(ExecutorSpec::native).into(),
        coordinator_lines: NO_SPECULATION.into(),
        ..ClusterSpec::default()
    }
}

/// An executor that says nothing for two seconds is lost.
fn quick() -> ClusterSpec {
    let coordinator_lines =
        format!("{NO_SPECULATION}heartbeat_interval_ms = 200\neviction_after_ms = 2000\n");
    ClusterSpec { coordinator_lines, ..by_default() }
}

/// A cluster, and a board that builds [`FAULTY`].
struct Fault {
    what: &'static str,
    scene: Scene,
    /// Whose logs are looked at.
    executors: Vec<&'static str>,
    build: Process,
    /// What an earlier client has said.
    before: String,
    /// Steps whose builders were killed with their executor.
    cut_off: BTreeSet<String>,
}

impl Fault {
    /// Begins the build, and waits until its first step is there: every executor is busy then.
    fn begin(lab: &Lab, what: &'static str, spec: ClusterSpec) -> Result<Self> {
        let scene = Scene::start(lab, spec)?;
        let mut build = scene.start_build(FAULTY)?;
        wait_for_words(&mut build, EVENT_LIMIT, "\nbuilt '")?;
        let executors = EXECUTORS.to_vec();
        Ok(Self { what, scene, executors, build, before: String::new(), cut_off: BTreeSet::new() })
    }

    /// What the client has said.
    fn said(&self) -> Result<String> {
        Ok(self.before.clone() + &self.build.log()?)
    }

    /// The executor that began the newest step, and the steps that it began.
    fn victim(&self) -> Result<String> {
        let said = self.said()?;
        Ok(starts(&said).last().context("nothing was begun")?.1.clone())
    }

    /// Waits until the coordinator counts an executor as lost; says how long that took since the fault.
    fn lost(&mut self, executor: &str, since: Instant) -> Result<Duration> {
        let coordinator = self.scene.cluster.coordinator();
        let found = wait_until(&format!("the loss of {executor}"), EVENT_LIMIT, || {
            Ok(is_lost(&coordinator.process.log()?, executor).then(|| since.elapsed()))
        });
        found.with_context(|| self.said().unwrap_or_default())
    }

    /// The steps whose builders end with an executor that is killed now: its log will not tell.
    fn kill_with(&mut self, steps: BTreeSet<String>) {
        self.cut_off.extend(steps);
    }

    /// How often each step was built beyond the first time, by the executors' own logs.
    fn reruns(&mut self) -> Result<BTreeMap<String, usize>> {
        let mut counts = builders_ended(&mut self.scene, &self.executors)?;
        for step in &self.cut_off {
            *counts.entry(step.clone()).or_insert(0) += 1;
        }
        counts.retain(|_, count| {
            *count -= 1;
            *count > 0
        });
        Ok(counts)
    }

    /// Waits for the end. The plan must succeed with what real Nix makes; only what `touched` names may be built twice.
    fn end(mut self, lab: &Lab, detected: Option<Duration>, touched: &BTreeSet<String>) -> Result<Scene> {
        let end = self.build.wait(PLAN_LIMIT).with_context(|| self.said().unwrap_or_default())?;
        let said = self.said()?;
        ensure!(end.success(), "{end}\n{said}");
        let again = self.reruns()?;
        let built = builders_ended(&mut self.scene, &self.executors)?;
        let lost = steps().iter().filter(|step| !built.contains_key(*step)).count();
        let strangers: Vec<_> = again.keys().filter(|name| !touched.contains(*name)).collect();
        ensure!(
            strangers.is_empty(),
            "{strangers:?} was built again, and nothing had happened to them:\n{said}"
        );
        let hash = result_hash(&self.scene, &said)?;
        row(self.what, detected, again.values().sum(), lost, hash == real_hash(lab)?);
        ensure!(lost == 0, "{lost} steps were never built:\n{said}");
        ensure!(hash == real_hash(lab)?, "the result is not what real Nix makes: {hash}");
        Ok(self.scene)
    }
}

/// The table: what happened, when it was noticed, what it cost.
fn row(what: &str, detected: Option<Duration>, reruns: usize, lost: usize, is_equal: bool) {
    let detected = detected.map_or_else(|| "-".to_owned(), |after| format!("{:.1}", after.as_secs_f64()));
    let equal = if is_equal { "yes" } else { "NO" };
    println!(
        "fault: {what} | detected after {detected} s | {reruns} rerun | {lost} lost | hash equal: {equal}"
    );
}

/// The steps of [`FAULTY`].
fn steps() -> BTreeSet<String> {
    let of_rows = (0..ROW).flat_map(|number| [format!("part-{number}"), format!("pair-{number}")]);
    of_rows.chain(["whole".to_owned()]).collect()
}

/// The steps that began, and where, in order; from the client's `building` lines.
fn starts(said: &str) -> Vec<(String, String)> {
    let start = |line: &str| {
        let (derivation, rest) = line.strip_prefix("building '")?.split_once("' on ")?;
        Some((step(derivation)?, rest.split(' ').next()?.to_owned()))
    };
    said.lines().filter_map(start).collect()
}

/// The steps that ended, from the client's `built` lines.
fn done(said: &str) -> BTreeSet<String> {
    said.lines().filter_map(|line| step(line.strip_prefix("built '")?.split('\'').next()?)).collect()
}

/// `part-1` of `/nix/store/HASH-part-1.drv`.
fn step(derivation: &str) -> Option<String> {
    Some(derivation.get("/nix/store/".len() + 33..)?.strip_suffix(".drv")?.to_owned())
}

/// Steps that some executors began: what they run, and what they alone may hold.
fn touched(said: &str, executors: &[&str]) -> BTreeSet<String> {
    starts(said)
        .into_iter()
        .filter(|(_, on)| executors.contains(&on.as_str()))
        .map(|(name, _)| name)
        .collect()
}

/// Of those, the ones that have not ended.
fn running(said: &str, executors: &[&str]) -> BTreeSet<String> {
    touched(said, executors).difference(&done(said)).cloned().collect()
}

fn is_lost(log: &str, executor: &str) -> bool {
    log.lines().any(|line| line.contains("executor lost") && line.contains(&format!("\"{executor}\"")))
}

/// The hash of what the board received, which its own Nix finds whole.
fn result_hash(scene: &Scene, said: &str) -> Result<String> {
    let path = said.lines().find(|line| line.starts_with("/nix/store/")).context("no result")?.to_owned();
    let store = scene.board.store();
    store.verify(std::slice::from_ref(&path))?;
    let infos = store.path_infos(std::slice::from_ref(&path))?;
    Ok(infos.get(&path).context("the result is not valid")?.nar_hash.clone())
}

/// The hash of what real Nix makes of [`FAULTY`].
fn real_hash(lab: &Lab) -> Result<String> {
    static HASH: OnceLock<Result<String, String>> = OnceLock::new();
    let hash = HASH.get_or_init(|| built_by_nix(lab).map_err(|error| format!("{error:#}")));
    hash.clone().map_err(|error| anyhow!(error))
}

fn built_by_nix(lab: &Lab) -> Result<String> {
    let configuration = "max-jobs = 12\n".into();
    let spec =
        OracleSpec { name: "oracle".into(), binds: binds(lab)?, configuration, ..OracleSpec::default() };
    let oracle = Oracle::start(lab, spec)?;
    let root = oracle.store().instantiate(GRAPHS, &[FAULTY], &[])?;
    let path = oracle.store().realise(PLAN_LIMIT, &root)?.success()?;
    let infos = oracle.store().path_infos(std::slice::from_ref(&path))?;
    Ok(infos.get(&path).context("real Nix has no result")?.nar_hash.clone())
}

/// How often each step's builder ended, by the logs of the executors themselves.
fn builders_ended(scene: &mut Scene, executors: &[&str]) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for executor in executors {
        let log = scene.cluster.executor(executor)?.process.log()?;
        for line in log.lines().filter(|line| line.contains("the builder ended")) {
            let derivation = line.split("\"derivation\":\"").nth(1).and_then(|rest| rest.split('"').next());
            let name = derivation.and_then(step).with_context(|| format!("no derivation in {line}"))?;
            *counts.entry(name).or_insert(0) += 1;
        }
    }
    Ok(counts)
}
