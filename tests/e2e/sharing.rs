//! Executors share the work of a platform; a capability that nobody offers is named, and waited for.

use std::time::Duration;

use anyhow::{Context, ensure};
use tests::{ClusterSpec, ExecutorSpec, placements, run, wait_for_words};

use crate::scene::{PLAN_LIMIT, Scene, shares};

/// How long an event may take to be seen.
const EVENT_LIMIT: Duration = Duration::from_secs(60);

/// Two executors without cross, and two with nothing else.
fn four() -> ClusterSpec {
    let plain = |name: &str| ExecutorSpec { cross: false, ..ExecutorSpec::new(name) };
    let crossing = |name: &str| ExecutorSpec { native: false, emulated: false, ..ExecutorSpec::new(name) };
    ClusterSpec {
        executors: vec![plain("plain1"), plain("plain2"), crossing("cross1"), crossing("cross2")],
        ..ClusterSpec::default()
    }
}

#[test]
fn two_executors_of_a_platform_share_its_tasks() {
    run("sharing", |lab| {
        let scene = Scene::start(lab, four())?;
        let built = scene.build("shared")?;
        let said = built.stderr.clone();
        built.success()?;
        for (platform, allowed) in [
            ("native", ["plain1", "plain2"]),
            ("emulated", ["plain1", "plain2"]),
            ("cross", ["cross1", "cross2"]),
        ] {
            let shares = shares(&said, platform);
            println!("{platform}: {shares:?}");
            let total: usize = shares.values().sum();
            ensure!(total >= 12, "only {total} {platform} tasks were announced:\n{said}");
            ensure!(
                shares.keys().all(|name| allowed.contains(&name.as_str())),
                "{platform} tasks ran where {platform} is not offered: {shares:?}"
            );
            for name in allowed {
                let share = shares.get(name).copied().unwrap_or_default();
                ensure!(share * 4 >= total, "{name} ran {share} of {total} {platform} tasks");
            }
        }
        Ok(())
    });
}

#[test]
fn a_capability_that_nobody_offers_is_named_and_waited_for() {
    run("drained", |lab| {
        let mut scene = Scene::start(lab, four())?;
        for name in ["cross1", "cross2"] {
            scene.cluster.executor(name)?.process.signal("TERM")?;
        }
        for name in ["cross1", "cross2"] {
            let end = scene.cluster.executor(name)?.process.wait(EVENT_LIMIT)?;
            ensure!(end.success(), "{name} was to drain and leave: {end}");
        }
        let mut build = scene.start_build("across")?;
        let words = "no executor of the cluster offers cross on x86_64-linux for aarch64-linux";
        let said = wait_for_words(&mut build, EVENT_LIMIT, words)?;
        ensure!(
            !said.contains("-middle-aarch64-unknown-linux-musl.drv' on "),
            "it was built all the same:\n{said}"
        );

        let back = ExecutorSpec { native: false, emulated: false, ..ExecutorSpec::new("cross3") };
        scene.cluster.add_executor(&back)?;
        let end = build.wait(PLAN_LIMIT)?;
        let said = build.log()?;
        ensure!(end.success(), "the plan did not go on: {end}\n{said}");
        let place = placements(&said);
        let middle =
            place.get("middle-aarch64-unknown-linux-musl").context("the cross step was never announced")?;
        ensure!(middle.executor == "cross3" && middle.platform == "cross", "it ran on {middle:?}");
        ensure!(said.contains("again"), "nobody said that it is offered again:\n{said}");
        Ok(())
    });
}
