//! Unmodified Nix builds in the cluster: `nix-build` on a board that has one more line in its configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Cluster, ClusterSpec, Lab, Oracle, OracleSpec, Programs, run, wait_until};

use crate::scene::{GRAPHS, PLAN_LIMIT, Scene, binds, board, sleeping};

const EVENT_LIMIT: Duration = Duration::from_secs(60);

/// A board whose Nix may build nothing itself, and knows the cluster as a builder.
fn scene(lab: &Lab) -> Result<Scene> {
    let cluster = Cluster::start(lab, ClusterSpec::default())?;
    let mut spec = board(lab, "board")?;
    spec.configuration = format!(
        "builders = ssh-ng://localhost?remote-program={}%20nix-stdio x86_64-linux,aarch64-linux - 4 1 - -\n\
         builders-use-substitutes = true\n",
        Programs::find()?.inside("elsewhere")
    );
    let board = cluster.board(spec)?;
    Ok(Scene { board, cluster })
}

#[test]
fn nix_builds_in_the_cluster_what_it_would_build_itself() {
    run("nix-stdio", |lab| {
        let scene = scene(lab)?;
        let store = scene.board.store();
        let built = store.nix(PLAN_LIMIT, &["nix-build", GRAPHS, "-A", "ordinary", "--no-out-link"])?;
        ensure!(built.stderr.contains("\nstep 2\n"), "no build log is shown:\n{}", built.stderr);
        let result = vec![built.success()?];
        store.verify(&store.closure(&result)?)?;

        let root = store.instantiate(GRAPHS, &["ordinary"], &[])?;
        let derivations = store.closure(&root)?.into_iter().filter(|path| path.ends_with(".drv"));
        let outputs: BTreeMap<String, BTreeMap<String, String>> =
            derivations.map(|path| Ok((path.clone(), store.outputs(&path)?))).collect::<Result<_>>()?;
        let paths: Vec<String> = outputs.values().flat_map(BTreeMap::values).cloned().collect();
        let ours = store.path_infos(&paths)?;
        let oracle = Oracle::start(
            lab,
            OracleSpec {
                name: "oracle".into(),
                interpreter: Some(scene.cluster.interpreter()?),
                binds: binds(lab)?,
                ..OracleSpec::default()
            },
        )?;
        oracle.store().instantiate(GRAPHS, &["ordinary"], &[])?;
        for (derivation, verdict) in oracle.build(&outputs)? {
            let tests::Verdict::Built(built) = verdict else { anyhow::bail!("{derivation}: {verdict:?}") };
            for (path, info) in built.values() {
                let own = ours.get(path).with_context(|| format!("{path} is not on the board"))?;
                ensure!(own.nar_hash == info.nar_hash, "{path} has other contents than real Nix gives");
                ensure!(own.references == info.references, "{path}: {:?}", own.references);
            }
        }
        println!("nix-stdio: {} outputs are real Nix's", paths.len());
        failing(&scene)
    });
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

#[test]
fn a_cancelled_nix_build_ends_in_the_cluster_too() {
    run("nix-stdio-cancel", |lab| {
        let mut scene = scene(lab)?;
        let client = scene.board.store();
        let argv = ["nix-build", GRAPHS, "-A", "endless", "--no-out-link"];
        let mut build = client.host.service(client.user, "nix-build", &argv, client.environment)?;
        wait_until("the build's sleep", EVENT_LIMIT, || Ok(sleeping(&mut scene)?.then_some(())))
            .with_context(|| build.log().unwrap_or_default())?;
        build.signal("INT")?;
        let end = build.wait(EVENT_LIMIT)?;
        ensure!(!end.success(), "{end}");
        wait_until("the end of the build", EVENT_LIMIT, || Ok((!sleeping(&mut scene)?).then_some(())))
    });
}
