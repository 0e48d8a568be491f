//! What executors share goes from one to the other, each path once to each, and not through the coordinator.

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

/// How often each executor fetched each input, by its own spans.
fn fetches(scene: &mut Scene) -> Result<Vec<(&'static str, BTreeMap<String, usize>)>> {
    // Spans are written once a second.
    std::thread::sleep(Duration::from_secs(2));
    let mut all = Vec::new();
    for executor in EXECUTORS {
        let file = scene.cluster.executor(executor)?.host.outside(SPANS);
        let spans = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let mut counts = BTreeMap::new();
        for line in spans.lines() {
            let span: serde_json::Value = serde_json::from_str(line)?;
            let path = span["attributes"]["path"].as_str().unwrap_or_default();
            if span["name"] == "fetch" && path.contains("-noise-") {
                *counts.entry(path.to_owned()).or_insert(0) += 1;
            }
        }
        all.push((executor, counts));
    }
    Ok(all)
}
