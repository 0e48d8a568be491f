//! `cargo xtask demo`: a cluster and a board on this machine; a real graph is built for the board; everything ends with it.

mod cluster;
mod host;
mod jaeger;
mod summary;
mod trace;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cache::{Cache, remove};
use crate::command::{command, run as run_shown};
use crate::setup;
use cluster::{BOARD_USER, Board, CLIENT_CONFIG, Cluster, GRAPH, OTLP_PORT};
use jaeger::Jaeger;

/// Where the result is linked: in the home of the ordinary user who runs the client.
const RESULT_LINK: &str = "/home/board/result";

/// What to build, and whether to leave it running for a look.
#[derive(clap::Args)]
pub struct Request {
    /// Attribute of deploy/demo/graph.nix to build: default, small, fail or big
    #[arg(long, short = 'A', default_value = "default")]
    pub attribute: String,
    /// When done, wait for Enter before stopping: the trace can be looked at in Jaeger meanwhile
    #[arg(long)]
    pub keep: bool,
}

/// Where this run has its files; removed at the start of the next.
pub struct Place {
    /// Hosts, below it.
    pub hosts: PathBuf,
    /// Logs of all programs.
    pub logs: PathBuf,
    /// Certificates and the signing key.
    pub certificates: PathBuf,
    /// The programs that cargo built.
    pub programs: PathBuf,
}

/// Sets up, starts, builds, verifies, sums up, stops.
pub fn run(request: &Request) -> Result<()> {
    setup::run()?;
    let cache = Cache::open()?;
    let programs = programs()?;
    let place = place(&cache, programs)?;
    let started = Instant::now();
    println!("starting a board, a coordinator and executors; their logs: {}", place.logs.display());
    let board = Board::start(&cache, &place)?;
    let jaeger = Jaeger::start(&cache, &place.logs, board.outside_address(OTLP_PORT))?;
    let cluster = Cluster::start(&cache, &place, &board, jaeger.as_ref())?;

    let before = board.valid_paths()?;
    ensure!(before.is_empty(), "the board's store is not empty: {before:?}");
    let result = build_graph(request, &board, &cluster);
    let files = cluster.span_files(&board);
    let outcome = result.and_then(|built| summary::print(&board, jaeger.as_ref(), &files, &built));
    if outcome.is_err() {
        cluster.explain();
    }
    if request.keep {
        println!("press Enter to stop everything");
        std::io::stdin().read_line(&mut String::new())?;
    }
    cluster.stop()?;
    if let Some(jaeger) = jaeger {
        jaeger.service.stop(Duration::from_secs(20))?;
    }
    drop(board);
    outcome?;
    println!(
        "everything is stopped; {:.0} s since the programs were compiled",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Built by cargo, or taken from `ELSEWHERE_BIN`.
fn programs() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("ELSEWHERE_BIN") {
        return Ok(PathBuf::from(directory));
    }
    println!("compiling the programs");
    // The whole workspace, as the tests do: a part of it would ask for other features, and compile every dependency again.
    let mut build = command("cargo", &["build", "--quiet", "--workspace", "--bins"]);
    run_shown(build.current_dir(crate::repository()))?;
    Ok(crate::target_directory().join("debug"))
}

fn place(cache: &Cache, programs: PathBuf) -> Result<Place> {
    let root = cache.path("demo");
    // Held until this process ends: two demos would take each other's directory and link.
    let lock = fs::File::create(cache.path("demo.lock"))?;
    if lock.try_lock().is_err() {
        bail!("another demo is running with the cache {}", cache.path("").display());
    }
    std::mem::forget(lock);
    remove(&root)?;
    let make = |name: &str| -> Result<PathBuf> {
        let path = root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    };
    Ok(Place { hosts: make("hosts")?, logs: make("logs")?, certificates: make("certificates")?, programs })
}

/// What the client did.
pub struct Built {
    /// Paths that it printed.
    pub paths: Vec<String>,
    /// From its start to its end.
    pub took: Duration,
    /// Bytes over the board's link meanwhile: received, sent.
    pub received_bytes: u64,
    /// Sent by the board.
    pub sent_bytes: u64,
}

/// Runs the client on the board, as its ordinary user; its progress is shown, its results are read.
fn build_graph(request: &Request, board: &Board, cluster: &Cluster) -> Result<Built> {
    println!("\nboard$ elsewhere build {GRAPH} -A {} -o {RESULT_LINK}", request.attribute);
    let (received, sent) = board.traffic()?;
    let started = Instant::now();
    let environment = cluster.client_environment();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let argv = [
        "/opt/elsewhere/elsewhere",
        "--config",
        CLIENT_CONFIG,
        "build",
        GRAPH,
        "-A",
        &request.attribute,
        "-o",
        RESULT_LINK,
    ];
    let mut client = board.host.command(BOARD_USER, &environment, &argv);
    let child = client.current_dir("/").stdout(Stdio::piped()).spawn().context("start the client")?;
    let output = child.wait_with_output()?;
    let took = started.elapsed();
    let (received_after, sent_after) = board.traffic()?;
    ensure!(output.status.success(), "elsewhere build: {}", output.status);
    let paths = String::from_utf8(output.stdout).context("read the client's results")?;
    Ok(Built {
        paths: paths.lines().map(str::to_string).collect(),
        took,
        received_bytes: received_after - received,
        sent_bytes: sent_after - sent,
    })
}
