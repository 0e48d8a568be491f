//! What Nix's users do, and what happens to links and coordinators, while Nix builds in the cluster.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Lab, Process, Release, run, wait_for_words, wait_until};

use super::scene;
use crate::scene::{GRAPHS, PLAN_LIMIT, Scene, sleeping};

const EVENT_LIMIT: Duration = Duration::from_secs(60);
/// Numbered lines of the graph `loud`.
const LINES: usize = 200_000;

fn start(scene: &Scene, attribute: &str, more: &[&str]) -> Result<Process> {
    let client = scene.board.store();
    let mut argv = vec!["nix-build", GRAPHS, "-A", attribute, "--no-out-link"];
    argv.extend(more);
    client.host.service(client.user, "nix-build", &argv, client.environment)
}

#[test]
fn nix_has_several_builds_at_once_and_cancels_all() {
    run("nix-stdio-several", |lab| {
        let mut scene = scene(lab, Release::Nix2_34)?;
        let mut build = start(&scene, "several", &["--keep-going"])?;
        wait_until("a build on each executor", EVENT_LIMIT, || {
            let mut busy = |name| scene.cluster.executor(name)?.host.runs("sleep 600");
            Ok((busy("executor1")? && busy("executor2")?).then_some(()))
        })?;
        build.signal("INT")?;
        ensure!(!build.wait(EVENT_LIMIT)?.success(), "it cannot have been built");
        // Those that waited for a slot do not begin either.
        wait_until("the end of all builds", EVENT_LIMIT, || Ok((!sleeping(&mut scene)?).then_some(())))?;
        std::thread::sleep(Duration::from_secs(2));
        ensure!(!sleeping(&mut scene)?, "a build begins that nobody waits for");
        // The board is as before: the same client builds 13 derivations, four at a time.
        let mut build = start(&scene, "many", &["--keep-going"])?;
        let end = build.wait(PLAN_LIMIT)?;
        ensure!(end.success(), "{end}\n{}", build.log()?);
        Ok(())
    });
}

#[test]
fn a_nix_build_goes_on_after_a_lost_link_and_a_killed_coordinator() {
    run("nix-stdio-lost", |lab| {
        let mut scene = scene(lab, Release::Nix2_34)?;
        let mut build = start(&scene, "slow", &[])?;
        wait_for_words(&mut build, EVENT_LIMIT, "\nstep 2\n")?;
        scene.board.host.set_link(false)?;
        wait_for_words(&mut build, EVENT_LIMIT, "the link to the cluster is lost")?;
        std::thread::sleep(Duration::from_secs(3));
        scene.board.host.set_link(true)?;
        wait_for_words(&mut build, EVENT_LIMIT, "the link to the cluster is back")?;
        wait_for_words(&mut build, EVENT_LIMIT, "\nstep 4\n")?;
        scene.cluster.restart_coordinator()?;
        let end = build.wait(PLAN_LIMIT)?;
        let said = build.log()?;
        ensure!(end.success(), "{end}\n{said}");
        let result = said.lines().find(|line| line.starts_with("/nix/store/")).context("no result")?;
        scene.board.store().verify(&[result.to_owned()])?;
        // A coordinator that is gone for good is an error that says so, not a wait for ever.
        scene.cluster.coordinator().process.kill()?;
        let mut build = start(&scene, "across", &[])?;
        let end = build.wait(EVENT_LIMIT)?;
        let said = build.log()?;
        ensure!(!end.success() && said.contains("reach the cluster"), "{end}\n{said}");
        Ok(())
    });
}

#[test]
fn what_the_cluster_built_passes_nixs_own_check() {
    run("nix-stdio-check", |lab| checks(lab, Release::Nix2_34));
}

#[test]
#[ignore = "tier long: needs the roots of older releases"]
fn older_nix_checks_it_and_keeps_big_logs_too() {
    for (name, release) in super::OLDER {
        run(&format!("nix-stdio-check-{name}"), |lab| checks(lab, *release));
        run(&format!("nix-stdio-loud-{name}"), |lab| loud(lab, *release));
    }
}

fn checks(lab: &Lab, release: Release) -> Result<()> {
    let scene = scene(lab, release)?;
    let store = scene.board.store();
    let argv = ["nix-build", GRAPHS, "-A", "across", "--no-out-link"];
    let result = store.nix(PLAN_LIMIT, &argv)?.success()?;
    let check = [&argv[..], &["--check"]].concat();
    // Without a job, 2.34 refuses by itself; 2.26 asks for an ordinary build, which nobody can tell from others: it is there.
    let alone = store.nix(PLAN_LIMIT, &check)?;
    let is_refused = !alone.status.success() && alone.stderr.contains("across.drv");
    ensure!(is_refused || alone.stdout.trim() == result, "{}\n{}", alone.status, alone.stderr);
    println!("--check without a job: {}; {}", alone.status, alone.stderr.lines().next().unwrap_or_default());
    // With one, Nix builds itself and compares: the cluster's bits are its own.
    let own = store.nix(PLAN_LIMIT, &[&check[..], &["--max-jobs", "1"]].concat())?;
    ensure!(own.stderr.contains("checking outputs of '"), "nothing was checked:\n{}", own.stderr);
    ensure!(own.success()? == result, "another path");
    Ok(())
}

#[test]
fn a_big_log_reaches_nix_whole_or_says_where_it_is_not() {
    run("nix-stdio-loud", |lab| loud(lab, Release::Nix2_34));
}

fn loud(lab: &Lab, release: Release) -> Result<()> {
    let scene = scene(lab, release)?;
    let store = scene.board.store();
    let derivation = store.instantiate(GRAPHS, &["loud"], &[])?;
    store.realise(PLAN_LIMIT, &derivation)?.success()?;
    let log = store.nix(EVENT_LIMIT, &["nix-store", "--read-log", &derivation[0]])?.success()?;
    let (mut last, mut shown, mut gaps, mut may_jump) = (0, 0, 0, false);
    for line in log.lines() {
        // What is left of a line on either side of a gap is no such line.
        let number = line.strip_suffix(" of a log that goes on and on and on");
        if let Some(number) = number.and_then(|rest| rest.strip_prefix("line ")?.parse::<usize>().ok()) {
            let is_next = number == last + 1 || may_jump && number > last;
            ensure!(is_next, "line {number} follows {last}, and nothing says so");
            (last, shown, may_jump) = (number, shown + 1, false);
        } else if line.contains("a part of the log is missing here") {
            (gaps, may_jump) = (gaps + 1, true);
        }
    }
    ensure!(gaps > 0 || last == LINES, "the log ends with line {last}, and nothing says so");
    println!("nix-stdio, a log of {} bytes: {shown} of {LINES} lines, {gaps} gaps", log.len());
    ensure!(log.ends_with("the last line has no end"), "{} bytes end with something else", log.len());
    Ok(())
}
