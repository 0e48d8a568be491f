//! Two executors with one certificate, at the same time on two hosts.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, ensure};
use tests::{ExecutorSpec, run, wait_until};

use super::{EVENT_LIMIT, EXECUTORS, Fault, quick, touched};
use crate::scene::Scene;

const TWIN: &str = "twin";

/// Adds an executor with the certificate of the first one, and waits until it is refused.
fn add_twin(fault: &mut Fault) -> Result<()> {
    let spec = ExecutorSpec { certificate: Some(EXECUTORS[0].into()), ..ExecutorSpec::native(TWIN) };
    fault.scene.cluster.add_executor(&spec)?;
    fault.executors.push(TWIN);
    let twin = fault.scene.cluster.executor(TWIN)?;
    wait_until("the twin's refusal", EVENT_LIMIT, || Ok((refusals(&twin.process.log()?) > 0).then_some(())))
}

/// How often an executor was told that it is not the only one.
fn refusals(log: &str) -> usize {
    log.lines().filter(|line| line.contains("another executor with the same certificate lives at")).count()
}

/// Waits until the coordinator has a session with the twin.
fn twin_takes_over(scene: &mut Scene) -> Result<()> {
    let address = scene.cluster.executor(TWIN)?.host.address().to_owned();
    let coordinator = scene.cluster.coordinator();
    wait_until("the twin's session", EVENT_LIMIT, || {
        let log = coordinator.process.log()?;
        let is_there = |line: &str| line.contains("executor connected") && line.contains(&address);
        Ok(log.lines().any(is_there).then_some(()))
    })
}

#[test]
fn two_executors_have_one_certificate() {
    run("fault-twins", |lab| {
        let mut fault = Fault::begin(lab, "two executors with one certificate", quick())?;
        add_twin(&mut fault)?;
        let mut scene = fault.end(lab, None, &BTreeSet::new())?;
        let refused = refusals(&scene.cluster.executor(TWIN)?.process.log()?);
        ensure!(refused <= 10, "it asked {refused} times in a few seconds");
        // The first one leaves: the other takes its place.
        scene.cluster.executor(EXECUTORS[0])?.process.kill()?;
        twin_takes_over(&mut scene)
    });
}

#[test]
fn a_twin_takes_over_from_one_that_freezes() {
    run("fault-twin-frozen", |lab| {
        let what = "two executors with one certificate, the first SIGSTOP, later SIGCONT";
        let mut fault = Fault::begin(lab, what, quick())?;
        add_twin(&mut fault)?;
        let first = fault.scene.cluster.executor(EXECUTORS[0])?;
        first.process.signal("STOP")?;
        let since = Instant::now();
        twin_takes_over(&mut fault.scene)?;
        let detected = since.elapsed();
        let touched = touched(&fault.said()?, &[EXECUTORS[0]]);
        let first = fault.scene.cluster.executor(EXECUTORS[0])?;
        first.process.signal("CONT")?;
        // Now it is the one too many.
        wait_until("the first one's refusal", EVENT_LIMIT, || {
            Ok((refusals(&first.process.log()?) > 0).then_some(()))
        })?;
        fault.end(lab, Some(detected), &touched).map(drop)
    });
}
