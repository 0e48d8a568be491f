//! Executors' stores that are too small for what is built, and a disk that is full where there is no other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tests::{ClusterSpec, ExecutorSpec, Lab, Oracle, OracleSpec, STATE_DIRECTORY, run, wait_for_words};

use super::{EVENT_LIMIT, EXECUTORS, Fault, NO_SPECULATION, builders_ended, by_default, starts, touched};
use crate::scene::{GRAPHS, PLAN_LIMIT, Scene, binds};

/// What a store keeps.
const STORE_MB: u32 = 16;
/// Of archives, that one build of the graph `piles` takes and makes: 4 of 2 and one more.
const BUILD_MB: u64 = 10;
/// Of archives, that may be on their way ahead of a lease: 2 of 2.
const AHEAD_MB: u64 = 4;
/// Of archives, that one plan makes: 13 of 2.
const PLAN_MB: u64 = 26;
const SALTS: [&str; 3] = ["one", "two", "three"];

#[test]
fn small_stores_hold_what_is_needed_and_no_more() {
    run("fault-small-stores", |lab| {
        let executors = EXECUTORS[..2].iter();
        let executor = |name: &&str| ExecutorSpec { store_mb: Some(STORE_MB), ..ExecutorSpec::native(name) };
        let executors = executors.map(executor).collect();
        let spec =
            ClusterSpec { executors, coordinator_lines: NO_SPECULATION.into(), ..ClusterSpec::default() };
        let mut scene = Scene::start(lab, spec)?;
        let stores: Result<Vec<PathBuf>> = EXECUTORS[..2]
            .iter()
            .map(|name| Ok(scene.cluster.executor(name)?.host.outside(STATE_DIRECTORY).join("store")))
            .collect();
        let watch = Watch::start(stores?);
        let oracle = oracle(lab)?;
        for salt in SALTS {
            let hash = build(&scene, salt, "piles")?;
            ensure!(hash == built_by_nix(&oracle, salt, "piles")?, "{salt}: the result is not real Nix's");
        }
        let built = builders_ended(&mut scene, &EXECUTORS[..2])?;
        let twice: Vec<_> = built.iter().filter(|(_, count)| **count > 1).collect();
        ensure!(twice.is_empty(), "built again, though a plan still needed them: {twice:?}");
        // What the first plan made in between is long gone, and wanted after all.
        let hash = build(&scene, SALTS[0], "pilesAgain")?;
        ensure!(hash == built_by_nix(&oracle, SALTS[0], "pilesAgain")?, "the result is not real Nix's");
        let again = builders_ended(&mut scene, &EXECUTORS[..2])?.values().filter(|count| **count > 1).count();
        ensure!(again > 0, "nothing was built again: the stores kept all of it, and the test shows nothing");
        let most = watch.end()?;
        println!(
            "small stores: {STORE_MB} MB each, {} plans of {PLAN_MB} MB; at most {:.1?} MB in them; {again} built again for a plan that came later",
            SALTS.len(),
            most.iter().map(|bytes| *bytes as f64 / 1e6).collect::<Vec<_>>()
        );
        // From nine tenths on nothing is fetched ahead.
        let begun = (u64::from(STORE_MB) << 20) / 10 * 9 + (AHEAD_MB << 20);
        let limit = begun + (BUILD_MB << 20);
        ensure!(most.iter().all(|bytes| *bytes <= limit), "more than {limit} B in a store: {most:?}");
        Ok(())
    });
}

#[test]
fn the_only_executors_disk_fills() {
    run("fault-only-disk", |lab| {
        let mut spec = by_default();
        spec.executors =
            vec![ExecutorSpec { disk_mb: Some((128, 64)), ..ExecutorSpec::native(EXECUTORS[0]) }];
        let mut fault = Fault::begin(lab, "only executor's disk full for a while", spec)?;
        fault.executors.truncate(1);
        let full = EXECUTORS[0];
        fault.scene.cluster.executor(full)?.host.fill_disk(STATE_DIRECTORY, 32 << 10)?;
        let told = format!("no room on the disk of {full}");
        wait_for_words(&mut fault.build, EVENT_LIMIT, &told)
            .with_context(|| fault.said().unwrap_or_default())?;
        // Longer than it takes to use up the attempts of a task that has three.
        let begun = starts(&fault.said()?).len();
        std::thread::sleep(Duration::from_secs(12));
        ensure!(
            starts(&fault.said()?).len() == begun,
            "something began where there is no room:\n{}",
            fault.said()?
        );
        let touched = touched(&fault.said()?, &[full]);
        fault.scene.cluster.executor(full)?.host.free_disk(STATE_DIRECTORY)?;
        fault.end(lab, None, &touched).map(drop)
    });
}

/// Builds an attribute of the graphs; gives the hash of what the board received.
fn build(scene: &Scene, salt: &str, attribute: &str) -> Result<String> {
    let arguments = ["build", GRAPHS, "-A", attribute, "--no-out-link", "--argstr", "salt", salt];
    let built = scene.client().run(PLAN_LIMIT, &arguments)?;
    let said = built.stderr.clone();
    let path = built.success()?.trim().to_owned();
    let infos = scene.board.store().path_infos(std::slice::from_ref(&path))?;
    Ok(infos.get(&path).with_context(|| format!("the result is not valid:\n{said}"))?.nar_hash.clone())
}

fn oracle(lab: &Lab) -> Result<Oracle> {
    Oracle::start(lab, OracleSpec { name: "oracle".into(), binds: binds(lab)?, ..OracleSpec::default() })
}

fn built_by_nix(oracle: &Oracle, salt: &str, attribute: &str) -> Result<String> {
    let root = oracle.store().instantiate(GRAPHS, &[attribute], &["--argstr", "salt", salt])?;
    let path = oracle.store().realise(PLAN_LIMIT, &root)?.success()?.trim().to_owned();
    let infos = oracle.store().path_infos(std::slice::from_ref(&path))?;
    Ok(infos.get(&path).context("real Nix has no result")?.nar_hash.clone())
}

/// Watches how much directories hold.
struct Watch {
    is_over: Arc<AtomicBool>,
    most: JoinHandle<Vec<u64>>,
}

impl Watch {
    fn start(directories: Vec<PathBuf>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let until = is_over.clone();
        let most = std::thread::spawn(move || {
            let mut most = vec![0; directories.len()];
            while !until.load(Ordering::Relaxed) {
                for (most, directory) in most.iter_mut().zip(&directories) {
                    *most = (*most).max(size(directory));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            most
        });
        Self { is_over, most }
    }

    /// The most bytes that each has held.
    fn end(self) -> Result<Vec<u64>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.most.join().map_err(|_| anyhow!("the watch broke off"))
    }
}

/// Bytes of all files below a directory, of which some go meanwhile.
fn size(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(status) if status.is_dir() => size(&entry.path()),
        Ok(status) => status.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
