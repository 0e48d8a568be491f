//! A coordinator that is killed and starts again, and an executor that vanishes: plans go on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{ClusterSpec, placements, run, wait_for_words, wait_until};

use crate::scene::{PLAN_LIMIT, Scene};

const EVENT_LIMIT: Duration = Duration::from_secs(60);
/// Steps of the graph `slow`.
const STEPS: usize = 6;

/// An executor that says nothing for two seconds is lost.
fn quick() -> ClusterSpec {
    let coordinator_lines = "heartbeat_interval_ms = 200\neviction_after_ms = 2000\n".into();
    ClusterSpec { coordinator_lines, ..ClusterSpec::default() }
}

#[test]
fn a_plan_survives_its_coordinator() {
    run("restart", |lab| {
        let mut scene = Scene::start(lab, quick())?;
        let mut build = scene.start_build("slow")?;
        wait_for_words(&mut build, EVENT_LIMIT, "built '")?;
        scene.cluster.restart_coordinator()?;
        let end = build.wait(PLAN_LIMIT)?;
        let said = build.log()?;
        ensure!(end.success() && said.contains("the link to the cluster is back"), "{end}\n{said}");
        let twice = (1..=STEPS).find(|step| said.matches(&format!("-slow-{step}.drv' in ")).count() > 1);
        ensure!(twice.is_none(), "step {twice:?} was built twice:\n{said}");
        verify(&scene, &said)
    });
}

#[test]
fn the_tasks_of_a_lost_executor_run_elsewhere() {
    run("lost-executor", |lab| {
        let mut scene = Scene::start(lab, quick())?;
        let mut build = scene.start_build("slow")?;
        wait_for_words(&mut build, EVENT_LIMIT, "-slow-2.drv' on ")?;
        let place = placements(&build.log()?);
        let lost = place.get("slow-2").context("no place of step 2")?.executor.clone();
        scene.cluster.executor(&lost)?.host.crash()?;
        let said = wait_until("another place for step 2", EVENT_LIMIT, || {
            let said = build.log()?;
            ensure!(build.ended()?.is_none_or(|end| end.success()), "the plan failed:\n{said}");
            let lines =
                said.lines().filter(|line| line.contains("-slow-2.drv' on ") && !line.contains(&lost));
            Ok((lines.count() > 0).then_some(said))
        });
        said.with_context(|| build.log().unwrap_or_default())?;
        let end = build.wait(PLAN_LIMIT)?;
        let said = build.log()?;
        ensure!(end.success(), "{end}\n{said}");
        verify(&scene, &said)
    });
}

/// The path that was printed is valid on the board.
fn verify(scene: &Scene, said: &str) -> Result<()> {
    let result = said.lines().find(|line| line.starts_with("/nix/store/")).context("no result")?;
    scene.board.store().verify(&[result.to_owned()])
}
