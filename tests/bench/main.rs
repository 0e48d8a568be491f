//! Times a cluster of one executor against real Nix on the same derivations, in one run: `cargo xtask bench` calls it.
//!
//! Prints a line for each benchmark: name, our median, the peer's, the largest ratio that is promised.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark talks to the person that started it"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::{Bind, Board, BoardSpec, Cluster, ClusterSpec, ExecutorSpec, Lab, Oracle, OracleSpec};

const GRAPHS: &str = "/graphs/graphs.nix";
/// Interleaved runs of which the median counts.
const RUNS: usize = 5;
const LIMIT: Duration = Duration::from_secs(300);
/// As many as real Nix has jobs.
const SLOTS: u32 = 2;

/// What is timed, and the largest ratio to real Nix that is promised.
const BENCHMARKS: &[(&str, &str, f64)] = &[
    ("200 small derivations, against nix-store --realise", "trivial", 1.0 / 3.0),
    // Nothing can be done side by side.
    ("a chain of 100 small derivations, against nix-store --realise", "chain", 1.0),
    // No slower; both vary by more than this.
    ("4 emulated derivations, against nix-store with the same interpreter", "emulated", 1.05),
];

fn main() -> Result<()> {
    let lab = Lab::new("bench")?;
    let bench = Bench::start(&lab)?;
    // `cargo bench --workspace --bench cluster -- chain` runs that one alone.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |attribute: &str| wanted.is_empty() || wanted.iter().any(|word| word == attribute);
    for (name, attribute, ratio_max) in BENCHMARKS.iter().filter(|(_, attribute, _)| is_wanted(attribute)) {
        // The first run of each fetches sources and fills caches.
        bench.ours(attribute, 0)?;
        bench.peers(attribute, 0)?;
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        for run in 1..=RUNS {
            ours.push(bench.ours(attribute, run)?);
            peers.push(bench.peers(attribute, run)?);
        }
        ours.sort_by(f64::total_cmp);
        peers.sort_by(f64::total_cmp);
        eprintln!("{name}: ours {ours:.3?} s, peer {peers:.3?} s");
        println!("{name}\t{}\t{}\t{ratio_max}", ours[RUNS / 2], peers[RUNS / 2]);
        if *attribute == "chain" {
            let step_s = ours[RUNS / 2] / 100.0;
            println!(
                "a step of that chain, with its part of the client's time (peer: the goal)\t{step_s}\t0.01\t1"
            );
        }
    }
    Ok(())
}

/// Real Nix, and a cluster with a board. The board ends first.
struct Bench {
    board: Board,
    cluster: Cluster,
    oracle: Oracle,
}

impl Bench {
    fn start(lab: &Lab) -> Result<Self> {
        let executor = ExecutorSpec { slots: SLOTS, ..ExecutorSpec::new("executor") };
        let cluster =
            Cluster::start(lab, ClusterSpec { executors: vec![executor], ..ClusterSpec::default() })?;
        let board =
            cluster.board(BoardSpec { name: "board".into(), binds: binds(lab)?, ..BoardSpec::default() })?;
        let oracle = Oracle::start(
            lab,
            OracleSpec {
                name: "oracle".into(),
                interpreters: cluster.interpreters()?,
                binds: binds(lab)?,
                ..OracleSpec::default()
            },
        )?;
        Ok(Self { board, cluster, oracle })
    }

    /// Seconds from the client's start to the imported result.
    fn ours(&self, attribute: &str, run: usize) -> Result<f64> {
        let derivations =
            self.board.store().instantiate(GRAPHS, &[attribute], &["--argstr", "run", &run.to_string()])?;
        let root = derivations.first().context("no derivation")?;
        let started = Instant::now();
        self.cluster.client(&self.board).run(LIMIT, &["build", root, "--no-out-link"])?.success()?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Seconds that `nix-store --realise` takes.
    fn peers(&self, attribute: &str, run: usize) -> Result<f64> {
        let store = self.oracle.store();
        let derivations = store.instantiate(GRAPHS, &[attribute], &["--argstr", "run", &run.to_string()])?;
        let started = Instant::now();
        store.realise(LIMIT, &derivations)?.success()?;
        Ok(started.elapsed().as_secs_f64())
    }
}

fn binds(lab: &Lab) -> Result<Vec<Bind>> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bind = |source: PathBuf, target: &str| Bind { source, target: target.into(), writable: false };
    Ok(vec![
        bind(own.join("bench"), "/graphs"),
        bind(lab.cache().product("sources")?, "/var/cache/elsewhere/sources"),
    ])
}
