//! An executor's link that swallows everything, comes and goes, or is slow; by default settings.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tests::run;

use super::executors::noticed;
use super::{EXECUTORS, Fault, by_default, is_lost, touched};

#[test]
fn a_link_swallows_everything() {
    run("fault-blackhole", |lab| {
        let mut fault = Fault::begin(lab, "link blackholed", by_default())?;
        let victim = fault.victim()?;
        fault.scene.cluster.executor(&victim)?.host.set_blackhole(true)?;
        let since = Instant::now();
        let detected = noticed(&mut fault, &victim, since)?;
        let touched = touched(&fault.said()?, &[&victim]);
        fault.end(lab, Some(detected), &touched).map(drop)
    });
}

#[test]
fn a_link_comes_and_goes() {
    run("fault-flapping", |lab| {
        let mut fault = Fault::begin(lab, "link flapping, 1 s down and 1 s up", by_default())?;
        let victim = fault.victim()?;
        for _ in 0..4 {
            for up in [false, true] {
                fault.scene.cluster.executor(&victim)?.host.set_link(up)?;
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        let coordinator = fault.scene.cluster.coordinator().process.log()?;
        ensure!(!is_lost(&coordinator, &victim), "{victim} was given up");
        fault.end(lab, None, &BTreeSet::new()).map(drop)
    });
}

#[test]
fn a_link_is_slow() {
    run("fault-slow", |lab| {
        let mut fault = Fault::begin(lab, "link of 2 Mbit/s with up to 400 ms of queue", by_default())?;
        for executor in &EXECUTORS[..2] {
            fault.scene.cluster.executor(executor)?.host.slow_link(2_000, 400)?;
        }
        let mut scene = fault.end(lab, None, &BTreeSet::new())?;
        let coordinator = scene.cluster.coordinator().process.log()?;
        ensure!(EXECUTORS.iter().all(|executor| !is_lost(&coordinator, executor)), "one was given up");
        Ok(())
    });
}
