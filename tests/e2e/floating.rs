//! Outputs addressed by their content: built on two executors, imported by an ordinary user, known to the board's own Nix, shared
//! between derivations that come to the same, and not forgotten by a coordinator that is killed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{BoardSpec, Client, ClusterSpec, Finished, Lab, run, wait_for_words};

use crate::scene::{PLAN_LIMIT, Scene, board};

/// The graph of floating outputs.
pub const GRAPH: &str = "/graphs/floating.nix";
const EVENT_LIMIT: Duration = Duration::from_secs(60);
/// Derivations of each chain, with the one above it.
const STEPS: usize = 6;

fn scene(lab: &Lab, coordinator_lines: &str) -> Result<Scene> {
    let mut spec = ClusterSpec { coordinator_lines: coordinator_lines.into(), ..ClusterSpec::default() };
    spec.executors.iter_mut().for_each(|executor| executor.has_shell = true);
    let cluster = tests::Cluster::start(lab, spec)?;
    let board = cluster.board(capable(lab, "board")?)?;
    Ok(Scene { board, cluster })
}

/// A board whose Nix has the feature.
fn capable(lab: &Lab, name: &str) -> Result<BoardSpec> {
    Ok(BoardSpec { configuration: "experimental-features = ca-derivations\n".into(), ..board(lab, name)? })
}

fn build(client: &Client<'_>, attribute: &str) -> Result<Finished> {
    client.run(PLAN_LIMIT, &["build", GRAPH, "-A", attribute, "--no-out-link"])
}

#[test]
fn floating_outputs_reach_the_board_and_what_is_the_same_is_built_once() {
    run("floating-outputs", |lab| {
        let scene = scene(lab, "")?;
        let store = scene.board.store();
        let first = build(&scene.client(), "quick")?;
        let said = first.stderr.clone();
        let result = first.success()?;
        ensure!(said.matches("building '").count() == STEPS, "not {STEPS} builds:\n{said}");
        store.verify(&store.closure(std::slice::from_ref(&result))?)?;
        // The board's Nix builds nothing itself, and knows what the derivation comes to.
        let derivation = store.instantiate(GRAPH, &["quick"], &[])?;
        let known = store.realise(EVENT_LIMIT, &derivation)?.success()?;
        ensure!(known == result, "{known}, not {result}");
        let again = build(&scene.client(), "quick")?;
        ensure!(!again.stderr.contains("plan "), "handed over again:\n{}", again.stderr);
        ensure!(again.success()? == result, "another path the second time");

        // Another board: nothing is built, the same comes.
        let second = scene.cluster.board(capable(lab, "board2")?)?;
        let client = scene.cluster.client(&second);
        let held = build(&client, "quick")?;
        ensure!(held.stderr.contains(" 0 to build"), "something is built again:\n{}", held.stderr);
        ensure!(held.success()? == result, "another board gets another path");
        // What a derivation says otherwise, and what comes to the same, make one build: the first step's.
        let twin = build(&client, "twin")?;
        ensure!(twin.stderr.matches("building '").count() == 1, "more than one build:\n{}", twin.stderr);
        ensure!(twin.success()? == result, "what is the same has another path");
        Ok(())
    });
}

#[test]
fn a_chain_of_floating_outputs_survives_its_coordinator() {
    run("floating-restart", |lab| {
        let mut scene = scene(lab, "heartbeat_interval_ms = 200\neviction_after_ms = 2000\n")?;
        let arguments = ["build", GRAPH, "-A", "slow", "--no-out-link", "--log"];
        let mut slow = scene.client().start("slow", &arguments)?;
        wait_for_words(&mut slow, EVENT_LIMIT, "-floating-2.drv' in ")?;
        scene.cluster.restart_coordinator()?;
        let end = slow.wait(PLAN_LIMIT)?;
        let said = slow.log()?;
        ensure!(end.success() && said.contains("the link to the cluster is back"), "{end}\n{said}");
        let twice = (1..STEPS).find(|step| said.matches(&format!("-floating-{step}.drv' in ")).count() > 1);
        ensure!(twice.is_none(), "step {twice:?} was built twice:\n{said}");
        let result = said.lines().find(|line| line.starts_with("/nix/store/")).context("no result")?;
        scene.board.store().verify(&[result.to_owned()])
    });
}
