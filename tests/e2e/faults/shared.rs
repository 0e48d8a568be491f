//! What executors share goes from one to the other, each path once to each, and not through the coordinator; what comes next, ahead.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{ClusterSpec, ExecutorSpec, Lab, SPANS, run};

use crate::scene::{GRAPHS, Scene};

const EXECUTORS: [&str; 2] = ["executor1", "executor2"];
/// Paths that all readers read.
const INPUTS: usize = 10;
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn a_hundred_megabytes_pass_the_coordinator_by() {
    run("shared-100", |lab| shared(lab, 10));
}

#[test]
#[ignore = "tier long: a gigabyte is made, sent and read"]
fn a_gigabyte_passes_the_coordinator_by() {
    run("shared-1000", |lab| shared(lab, 100));
}

fn shared(lab: &Lab, megabytes: u64) -> Result<()> {
    let executors = EXECUTORS.map(ExecutorSpec::native).into();
    let mut scene = Scene::start(lab, ClusterSpec { executors, spans: true, ..ClusterSpec::default() })?;
    let before = scene.cluster.coordinator_host().traffic()?;
    let size = megabytes.to_string();
    let arguments = ["build", GRAPHS, "-A", "readers", "--no-out-link", "--argstr", "megabytes", &size];
    let built = scene.client().run(LIMIT, &arguments)?;
    let said = built.stderr.clone();
    built.success()?;
    let after = scene.cluster.coordinator_host().traffic()?;
    let through = after.received_bytes - before.received_bytes + after.sent_bytes - before.sent_bytes;
    // The shell that all steps run with comes from the board, through the coordinator: no input that the cluster made.
    let shell = std::fs::metadata(lab.cache().product("busybox-amd64")?)?.len();
    let sources = shell * (1 + EXECUTORS.len() as u64);
    let made = INPUTS as u64 * megabytes * 1_000_000;
    let beyond = through.saturating_sub(sources);

    let mut readers: BTreeMap<&str, usize> = BTreeMap::new();
    for (executor, fetched) in fetches(&mut scene)? {
        let twice: Vec<_> = fetched.iter().filter(|(_, count)| **count > 1).collect();
        ensure!(twice.is_empty(), "{executor} fetched more than once: {twice:?}");
        readers.insert(executor, fetched.len());
    }
    for executor in EXECUTORS {
        let own = super::starts(&said)
            .iter()
            .filter(|(name, on)| name.starts_with("reader-") && on == executor)
            .count();
        ensure!(own > 0, "{executor} read nothing: the test shows nothing\n{said}");
    }
    let total: usize = readers.values().sum();
    ensure!(total >= INPUTS, "{total} inputs were fetched by both: it is counted wrongly");
    println!(
        "shared inputs: {made} B, each executor fetched {readers:?} of {INPUTS} once; through the coordinator {through} B, \
         {sources} B of that the builders' shell, the rest {:.3} % of the inputs",
        100.0 * beyond as f64 / made as f64
    );
    ensure!(beyond < made / 100, "{beyond} B passed through the coordinator");
    Ok(())
}

#[test]
fn a_busy_executor_fetches_what_comes_next() {
    run("ahead", |lab| {
        let executors = vec![ExecutorSpec::native(EXECUTORS[0])];
        let mut scene = Scene::start(lab, ClusterSpec { executors, spans: true, ..ClusterSpec::default() })?;
        let said = scene.build("ahead")?;
        let order = super::starts(&said.stderr);
        said.success()?;
        ensure!(
            order.first().is_some_and(|(name, _)| name.starts_with("busy-")),
            "nothing was ahead: {order:?}"
        );
        let spans = spans(&mut scene, EXECUTORS[0])?;
        let of_data = |span: &&serde_json::Value| {
            span["name"] == "fetch"
                && span["attributes"]["path"].as_str().is_some_and(|path| path.ends_with("-data"))
        };
        let fetched: Vec<_> = spans.iter().filter(of_data).collect();
        let [fetch] = fetched.as_slice() else { anyhow::bail!("fetched {} times", fetched.len()) };
        let parent = spans.iter().find(|span| span["span"] == fetch["parent"]).context("no parent")?;
        ensure!(parent["name"] == "prefetch", "fetched when it was needed, in {parent}");
        Ok(())
    });
}

/// How often each executor fetched each input, by its own spans.
fn fetches(scene: &mut Scene) -> Result<Vec<(&'static str, BTreeMap<String, usize>)>> {
    let mut all = Vec::new();
    for executor in EXECUTORS {
        let mut counts = BTreeMap::new();
        for span in spans(scene, executor)? {
            let path = span["attributes"]["path"].as_str().unwrap_or_default();
            if span["name"] == "fetch" && path.contains("-noise-") {
                *counts.entry(path.to_owned()).or_insert(0) += 1;
            }
        }
        all.push((executor, counts));
    }
    Ok(all)
}

fn spans(scene: &mut Scene, executor: &str) -> Result<Vec<serde_json::Value>> {
    // They are written once a second.
    std::thread::sleep(Duration::from_secs(2));
    let file = scene.cluster.executor(executor)?.host.outside(SPANS);
    let spans = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    spans.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
