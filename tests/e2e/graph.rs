//! A graph of native, crossed and emulated steps is built on hosts that are apart, and is what real Nix makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{ClusterSpec, Host, Lab, Oracle, OracleSpec, User, Verdict, run};

use crate::scene::{DEMO, PLAN_LIMIT, Scene, binds};

/// The demo's whole graph, with its compilers, on two busy cores.
const WHOLE_LIMIT: Duration = Duration::from_secs(1500);

#[test]
fn a_graph_on_separate_hosts_is_what_real_nix_makes_of_it() {
    run("graph", |lab| {
        let mut scene = Scene::start(lab, ClusterSpec::default())?;
        hosts_are_apart(&mut scene)?;
        same_as_real_nix(lab, &scene, "small", PLAN_LIMIT)
    });
}

#[test]
#[ignore = "tier long: the demo's compilers run twice, once for the cluster and once for real Nix"]
fn the_demos_whole_graph_is_what_real_nix_makes_of_it() {
    run("whole-graph", |lab| {
        let scene = Scene::start(lab, ClusterSpec::default())?;
        same_as_real_nix(lab, &scene, "default", WHOLE_LIMIT)
    });
}

/// Executors: an ordinary user, no Nix; everyone: a network of their own.
fn hosts_are_apart(scene: &mut Scene) -> Result<()> {
    let mut networks =
        BTreeSet::from([network(&scene.board.host)?, network(&scene.cluster.coordinator().host)?]);
    for name in ["executor1", "executor2"] {
        let node = scene.cluster.executor(name)?;
        networks.insert(network(&node.host)?);
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.process.pid()?))?;
        let fact = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        ensure!(fact("Uid:") == Some("990\t990\t990\t990"), "{name} runs as {:?}", fact("Uid:"));
        ensure!(fact("CapEff:") == Some("0000000000000000"), "{name} has capabilities");
        let nix =
            "command -v nix nix-store nix-daemon; find /nix /usr -iname '*nix-store*' -o -iname 'libnix*'";
        let found = node.host.exec(User::Root, &["sh", "-c", nix], &[])?;
        ensure!(found.stdout.is_empty(), "Nix on {name}: {}", found.stdout);
    }
    ensure!(networks.len() == 4, "hosts share a network: {networks:?}");
    Ok(())
}

fn network(host: &Host) -> Result<String> {
    host.exec(User::Root, &["readlink", "/proc/self/ns/net"], &[])?.success()
}

fn same_as_real_nix(lab: &Lab, scene: &Scene, attribute: &str, limit: Duration) -> Result<()> {
    let store = scene.board.store();
    let built = scene.client().run(limit, &["build", DEMO, "-A", attribute, "--no-out-link"])?.success()?;
    let result = vec![built];
    store.verify(&store.closure(&result)?)?;
    // Intermediates never touched the board.
    let closure: BTreeSet<String> = store.closure(&result)?.into_iter().collect();
    let strangers: Vec<String> = scene.results()?.difference(&closure).cloned().collect();
    ensure!(strangers.is_empty(), "more than the result's closure is on the board: {strangers:?}");

    // Now everything else is fetched too, only to be compared.
    let root = store.instantiate(DEMO, &[attribute], &[])?;
    let outputs = outputs(scene, &root)?;
    let wanted: Vec<String> = outputs.keys().map(|derivation| format!("{derivation}^*")).collect();
    let mut arguments = vec!["build", "--no-out-link"];
    arguments.extend(wanted.iter().map(String::as_str));
    scene.client().run(limit, &arguments)?.success()?;
    let paths: Vec<String> = outputs.values().flat_map(BTreeMap::values).cloned().collect();
    let ours = store.path_infos(&paths)?;

    let interpreters = scene.cluster.interpreters()?;
    let oracle = Oracle::start(
        lab,
        OracleSpec { name: "oracle".into(), interpreters, binds: binds(lab)?, ..OracleSpec::default() },
    )?;
    ensure!(
        oracle.store().instantiate(DEMO, &[attribute], &[])? == root,
        "real Nix instantiates another graph"
    );
    let verdicts = oracle.build(&outputs)?;
    for (derivation, verdict) in &verdicts {
        let Verdict::Built(built) = verdict else { anyhow::bail!("real Nix cannot build it: {verdict:?}") };
        for (path, info) in built.values() {
            let own = ours.get(path).with_context(|| format!("{path} is not on the board"))?;
            ensure!(
                own.nar_hash == info.nar_hash,
                "{path} of {derivation} has other contents than real Nix gives"
            );
            ensure!(
                own.references == info.references,
                "{path}: {:?}, not {:?}",
                own.references,
                info.references
            );
        }
    }
    println!("{attribute}: {} outputs of {} derivations are real Nix's", paths.len(), verdicts.len());
    Ok(())
}

/// Outputs by name of every derivation below a root.
fn outputs(scene: &Scene, root: &[String]) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let store = scene.board.store();
    let derivations = store.closure(root)?.into_iter().filter(|path| path.ends_with(".drv"));
    let mut outputs = BTreeMap::new();
    for derivation in derivations {
        outputs.insert(derivation.clone(), store.outputs(&derivation)?);
    }
    Ok(outputs)
}
