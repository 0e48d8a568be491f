//! Two executors with one certificate, at the same time on two hosts.

use std::collections::BTreeSet;

use anyhow::ensure;
use tests::{ExecutorSpec, run, wait_until};

use super::{EVENT_LIMIT, EXECUTORS, Fault, quick};

const TWIN: &str = "twin";

#[test]
fn two_executors_have_one_certificate() {
    run("fault-twins", |lab| {
        let mut fault = Fault::begin(lab, "two executors with one certificate", quick())?;
        let spec = ExecutorSpec { certificate: Some(EXECUTORS[0].into()), ..ExecutorSpec::native(TWIN) };
        fault.scene.cluster.add_executor(&spec)?;
        // The newcomer is told what is wrong, and asks less and less often.
        let twin = fault.scene.cluster.executor(TWIN)?;
        let words = "another executor with the same certificate lives at";
        wait_until("the twin's refusal", EVENT_LIMIT, || {
            Ok(twin.process.log()?.contains(words).then_some(()))
        })?;
        let mut scene = fault.end(lab, None, &BTreeSet::new())?;
        let node = scene.cluster.executor(TWIN)?;
        let address = node.host.address().to_owned();
        let refused = node.process.log()?.lines().filter(|line| line.contains(words)).count();
        ensure!(refused <= 10, "it asked {refused} times in a few seconds");
        // The first one leaves: the other takes its place.
        scene.cluster.executor(EXECUTORS[0])?.process.kill()?;
        let coordinator = scene.cluster.coordinator();
        wait_until("the twin's session", EVENT_LIMIT, || {
            let log = coordinator.process.log()?;
            let is_there = |line: &str| line.contains("executor connected") && line.contains(&address);
            Ok(log.lines().any(is_there).then_some(()))
        })
    });
}
