//! Nobody is left, or nobody has what is needed any more.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tests::{run, wait_for_words, wait_until};

use super::{EVENT_LIMIT, EXECUTORS, Fault, done, quick, running, starts, touched};
use crate::scene::{GRAPHS, PLAN_LIMIT, Scene};

#[test]
fn all_executors_are_gone_and_one_comes_back() {
    run("fault-all-gone", |lab| {
        let mut fault = Fault::begin(lab, "all executors gone, one back", quick())?;
        let cut_off = running(&fault.said()?, &EXECUTORS);
        for executor in EXECUTORS {
            fault.scene.cluster.executor(executor)?.process.kill()?;
        }
        fault.kill_with(cut_off);
        let since = Instant::now();
        let mut detected = Duration::ZERO;
        for executor in EXECUTORS {
            detected = fault.lost(executor, since)?;
        }
        // People are told what the plan waits for.
        wait_for_words(&mut fault.build, EVENT_LIMIT, "no executor")?;
        let touched = touched(&fault.said()?, &EXECUTORS);
        fault.scene.cluster.restart_executor(EXECUTORS[0])?;
        fault.end(lab, Some(detected), &touched).map(drop)
    });
}

#[test]
fn the_only_holder_of_an_intermediate_is_gone_for_good() {
    run("fault-holder", |lab| {
        let mut fault = Fault::begin(lab, "only holder of an intermediate gone for good", quick())?;
        let said = fault.said()?;
        let built = done(&said);
        let begun = starts(&said);
        let holder = begun.iter().find(|(name, _)| built.contains(name)).context("nothing is built")?;
        let (part, victim) = holder.clone();
        let cut_off = running(&said, &[&victim]);
        fault.kill_with(cut_off);
        let node = fault.scene.cluster.executor(&victim)?;
        node.host.set_blackhole(true)?;
        node.host.crash()?;
        let since = Instant::now();
        let detected = fault.lost(&victim, since)?;
        let touched = touched(&fault.said()?, &[&victim]);
        wait_until("what was lost to be built again", EVENT_LIMIT, || {
            let count = starts(&fault.said()?).iter().filter(|(name, _)| *name == part).count();
            Ok((count > 1).then_some(()))
        })
        .with_context(|| fault.said().unwrap_or_default())?;
        fault.end(lab, Some(detected), &touched).map(drop)
    });
}

#[test]
fn what_others_have_fetched_is_not_built_again() {
    run("fault-fetched", |lab| {
        let mut scene = Scene::start(lab, quick())?;
        let arguments = ["build", GRAPHS, "-A", "readers", "--no-out-link"];
        let arguments =
            [&arguments[..], &["--argstr", "megabytes", "1", "--argstr", "seconds", "2"]].concat();
        let mut build = scene.client().start("readers", &arguments)?;
        // They have all that the readers read.
        wait_until("readers everywhere", EVENT_LIMIT, || {
            let begun = starts(&build.log()?);
            let reads = |executor: &&str| {
                begun.iter().any(|(name, on)| name.starts_with("reader-") && on == executor)
            };
            Ok(EXECUTORS.iter().all(reads).then_some(()))
        })?;
        std::thread::sleep(Duration::from_millis(1_500));
        let victim = EXECUTORS[0];
        let made = |name: &str, on: &str| name.starts_with("noise-") && on == victim;
        let of_victim = starts(&build.log()?).iter().filter(|(name, on)| made(name, on)).count();
        ensure!(of_victim > 0, "{victim} made nothing: the test shows nothing");
        scene.cluster.executor(victim)?.host.crash()?;
        let end = build.wait(PLAN_LIMIT)?;
        let said = build.log()?;
        ensure!(end.success(), "{end}\n{said}");
        let log = scene.cluster.coordinator().process.log()?;
        ensure!(super::is_lost(&log, victim), "{victim} was not given up: the test shows nothing");
        let noise = starts(&said).iter().filter(|(name, _)| name.starts_with("noise-")).count();
        println!(
            "executor gone that had made {of_victim} of 10 inputs which the others had fetched: {} built again",
            noise - 10
        );
        ensure!(noise == 10, "{noise} steps instead of 10:\n{said}");
        Ok(())
    });
}
