//! Outputs addressed by their content, built for unmodified Nix: it resolves derivations itself, and hands over what they come to.

use anyhow::{Result, ensure};
use tests::{Board, BoardSpec, Cluster, ClusterSpec, Lab, NixStore, Oracle, OracleSpec, Release, User, run};

use super::driving;
use crate::floating::GRAPH;
use crate::scene::{PLAN_LIMIT, binds};

const FEATURE: &str = "experimental-features = ca-derivations\n";

#[test]
fn nix_builds_floating_outputs_in_the_cluster() {
    run("nix-stdio-floating", |lab| floating(lab, Release::Nix2_34));
}

#[test]
#[ignore = "tier long: needs the root of an older release"]
fn older_nix_builds_floating_outputs_in_the_cluster_too() {
    run("nix-stdio-floating-2-26", |lab| floating(lab, Release::Nix2_26));
}

fn floating(lab: &Lab, release: Release) -> Result<()> {
    let mut spec = ClusterSpec::default();
    spec.executors.iter_mut().for_each(|executor| executor.has_shell = true);
    let cluster = Cluster::start(lab, spec)?;
    let capable = |name| {
        let spec = driving(lab, name, release, "ca-derivations")?;
        cluster.board(BoardSpec { configuration: spec.configuration.clone() + FEATURE, ..spec })
    };
    let board = capable("board")?;
    let build = ["nix-build", GRAPH, "-A", "quick", "--no-out-link"];
    let store = board.store();
    let result = store.nix(PLAN_LIMIT, &build)?.success()?;
    store.verify(&store.closure(std::slice::from_ref(&result))?)?;
    let oracle = Oracle::start(
        lab,
        OracleSpec {
            name: "oracle".into(),
            release,
            binds: binds(lab)?,
            has_shell: true,
            configuration: FEATURE.into(),
            ..OracleSpec::default()
        },
    )?;
    let real = oracle.store().nix(PLAN_LIMIT, &build)?.success()?;
    ensure!(result == real, "{result}, where real Nix {} builds {real}", oracle.version());
    let infos = |store: tests::NixStore<'_>| store.path_infos(&store.closure(std::slice::from_ref(&real))?);
    let (ours, theirs) = (infos(store)?, infos(oracle.store())?);
    ensure!(ours == theirs, "{ours:#?}\n--- real Nix\n{theirs:#?}");
    // Nix knows what each derivation came to: it asks nobody again.
    let again = store.nix(PLAN_LIMIT, &build)?;
    ensure!(!again.stderr.contains("building '"), "built again:\n{}", again.stderr);
    ensure!(again.success()? == result, "another path the second time");
    // What was built for Nix is there for `elsewhere build`, and the other way round.
    let other = capable("board2")?;
    let held = cluster.client(&other).run(PLAN_LIMIT, &["build", GRAPH, "-A", "quick", "--no-out-link"])?;
    ensure!(held.success()? == result, "another path for a plan of its own");
    own_input(&other, &oracle)?;
    println!("nix-stdio, Nix {}: {} floating outputs are real Nix's", oracle.version(), ours.len());
    Ok(())
}

/// An input that the board has built itself, and nobody can verify: it goes up, and what is made of it is this board's alone.
fn own_input(board: &Board, oracle: &Oracle) -> Result<()> {
    let administrator = NixStore { user: User::Root, ..board.store() };
    // Without its sandbox, for it has no shell to show there.
    let itself = ["--max-jobs", "1", "--builders", "", "--option", "sandbox", "false"];
    let lower = ["nix-build", GRAPH, "-A", "lower", "--no-out-link"];
    administrator.nix(PLAN_LIMIT, &[&lower[..], &itself].concat())?.success()?;
    let mixed = ["nix-build", GRAPH, "-A", "mixed", "--no-out-link"];
    let built = board.store().nix(PLAN_LIMIT, &mixed)?;
    ensure!(!built.stderr.contains("-lower.drv'"), "the input was built again:\n{}", built.stderr);
    let (ours, real) = (built.success()?, oracle.store().nix(PLAN_LIMIT, &mixed)?.success()?);
    ensure!(ours == real, "{ours}, where real Nix builds {real}");
    board.store().verify(&[ours])
}
