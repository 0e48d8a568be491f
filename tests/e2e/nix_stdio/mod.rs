//! Unmodified Nix builds in the cluster: `nix-build` on a board that has one more line in its configuration.

mod floating;
mod rough;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{BoardSpec, Cluster, ClusterSpec, Lab, Oracle, OracleSpec, Programs, Release, run, wait_until};

use crate::scene::{DEMO, GRAPHS, PLAN_LIMIT, Scene, binds, board, sleeping};

const EVENT_LIMIT: Duration = Duration::from_secs(60);
/// The demo's whole graph, with its compilers, on two busy cores, one derivation after the other.
const WHOLE_LIMIT: Duration = Duration::from_secs(1800);
/// Releases of real Nix beside the one that every test has.
const OLDER: &[(&str, Release)] = &[("2-26", Release::Nix2_26), ("2-8", Release::Nix2_8)];

/// A board whose Nix may build nothing itself, and knows the cluster as a builder.
fn scene(lab: &Lab, release: Release) -> Result<Scene> {
    let cluster = Cluster::start(lab, ClusterSpec::default())?;
    let board = cluster.board(driving(lab, "board", release, "-")?)?;
    Ok(Scene { board, cluster })
}

/// A board of that kind, for derivations that require at most these features.
fn driving(lab: &Lab, name: &str, release: Release, features: &str) -> Result<BoardSpec> {
    let configuration = format!(
        "builders = ssh-ng://localhost?remote-program={}%20nix-stdio x86_64-linux,aarch64-linux - 4 1 {features} -\n\
         builders-use-substitutes = true\n",
        Programs::find()?.inside("elsewhere")
    );
    Ok(BoardSpec { release, configuration, ..board(lab, name)? })
}

#[test]
fn nix_builds_in_the_cluster_what_it_would_build_itself() {
    run("nix-stdio", |lab| builds_and_fails(lab, Release::Nix2_34));
}

#[test]
fn a_cancelled_nix_build_ends_in_the_cluster_too() {
    run("nix-stdio-cancel", |lab| cancels(lab, Release::Nix2_34));
}

#[test]
#[ignore = "tier long: needs the roots of older releases, and as much time again for each"]
fn older_nix_builds_fails_and_cancels_in_the_cluster_too() {
    for (name, release) in OLDER {
        run(&format!("nix-stdio-{name}"), |lab| builds_and_fails(lab, *release));
        run(&format!("nix-stdio-cancel-{name}"), |lab| cancels(lab, *release));
    }
}

#[test]
#[ignore = "tier long: the demo's compilers run twice for each release, once for the cluster and once for real Nix"]
fn nix_builds_the_demos_graph_in_the_cluster() {
    for (name, release) in [("2-34", Release::Nix2_34)].iter().chain(OLDER) {
        run(&format!("nix-stdio-demo-{name}"), |lab| {
            let scene = scene(lab, *release)?;
            let store = scene.board.store();
            store.nix(WHOLE_LIMIT, &["nix-build", DEMO, "-A", "default", "--no-out-link"])?.success()?;
            same_as_real_nix(lab, &scene, *release, DEMO, "default")
        });
    }
}

fn builds_and_fails(lab: &Lab, release: Release) -> Result<()> {
    let scene = scene(lab, release)?;
    let store = scene.board.store();
    let built = store.nix(PLAN_LIMIT, &["nix-build", GRAPHS, "-A", "ordinary", "--no-out-link"])?;
    ensure!(built.stderr.contains("\nstep 2\n"), "no build log is shown:\n{}", built.stderr);
    let result = vec![built.success()?];
    store.verify(&store.closure(&result)?)?;
    same_as_real_nix(lab, &scene, release, GRAPHS, "ordinary")?;
    failing(&scene)
}

/// Everything that the board's Nix had built is what real Nix of the same release builds by itself.
fn same_as_real_nix(lab: &Lab, scene: &Scene, release: Release, file: &str, attribute: &str) -> Result<()> {
    let store = scene.board.store();
    let root = store.instantiate(file, &[attribute], &[])?;
    let derivations = store.closure(&root)?.into_iter().filter(|path| path.ends_with(".drv"));
    let outputs: BTreeMap<String, BTreeMap<String, String>> =
        derivations.map(|path| Ok((path.clone(), store.outputs(&path)?))).collect::<Result<_>>()?;
    let paths: Vec<String> = outputs.values().flat_map(BTreeMap::values).cloned().collect();
    let ours = store.path_infos(&paths)?;
    let oracle = Oracle::start(
        lab,
        OracleSpec {
            name: "oracle".into(),
            release,
            interpreters: scene.cluster.interpreters()?,
            binds: binds(lab)?,
            ..OracleSpec::default()
        },
    )?;
    oracle.store().instantiate(file, &[attribute], &[])?;
    for (derivation, verdict) in oracle.build(&outputs)? {
        let tests::Verdict::Built(built) = verdict else { anyhow::bail!("{derivation}: {verdict:?}") };
        for (path, info) in built.values() {
            let own = ours.get(path).with_context(|| format!("{path} is not on the board"))?;
            ensure!(own.nar_hash == info.nar_hash, "{path} has other contents than real Nix gives");
            ensure!(own.references == info.references, "{path}: {:?}", own.references);
        }
    }
    println!("nix-stdio, Nix {}: {} outputs are real Nix's", oracle.version(), paths.len());
    Ok(())
}

fn failing(scene: &Scene) -> Result<()> {
    let store = scene.board.store();
    let failed =
        store.nix(PLAN_LIMIT, &["nix-build", GRAPHS, "-A", "failing", "--no-out-link", "--keep-going"])?;
    ensure!(!failed.status.success(), "it cannot have been built: {}", failed.stdout);
    for words in ["builder failed with exit code 3", "> it breaks here", "-breaks.drv"] {
        ensure!(failed.stderr.contains(words), "nothing says {words:?}:\n{}", failed.stderr);
    }
    let independent = store.instantiate(GRAPHS, &["failing"], &[])?;
    let all = store.closure(&independent)?;
    let independent = all.iter().find(|path| path.ends_with("-independent-2.drv")).context("no such step")?;
    let outputs: Vec<String> = store.outputs(independent)?.into_values().collect();
    ensure!(store.valid(&outputs)? == outputs, "what does not depend on the failure is not there");
    Ok(())
}

fn cancels(lab: &Lab, release: Release) -> Result<()> {
    let mut scene = scene(lab, release)?;
    let client = scene.board.store();
    let argv = ["nix-build", GRAPHS, "-A", "endless", "--no-out-link"];
    let mut build = client.host.service(client.user, "nix-build", &argv, client.environment)?;
    wait_until("the build's sleep", EVENT_LIMIT, || Ok(sleeping(&mut scene)?.then_some(())))
        .with_context(|| build.log().unwrap_or_default())?;
    build.signal("INT")?;
    let end = build.wait(EVENT_LIMIT)?;
    ensure!(!end.success(), "{end}");
    wait_until("the end of the build", EVENT_LIMIT, || Ok((!sleeping(&mut scene)?).then_some(())))
}
