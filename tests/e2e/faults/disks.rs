//! Disks that fill: the coordinator's, an executor's.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::{ClusterSpec, ExecutorSpec, STATE_DIRECTORY, run, wait_for_words, wait_until};

use super::{EVENT_LIMIT, EXECUTORS, FAULTY, Fault, by_default, done, is_lost, quick, starts, touched};
use crate::scene::{GRAPHS, PLAN_LIMIT};

/// Megabytes of the coordinator's disk.
const COORDINATOR_MB: u32 = 48;
/// Megabytes of an executor's disk, and what builds must leave of them.
const EXECUTOR_MB: (u32, u32) = (128, 64);

#[test]
fn the_coordinators_disk_fills() {
    run("fault-coordinator-disk", |lab| {
        let spec = ClusterSpec { coordinator_disk_mb: Some(COORDINATOR_MB), ..quick() };
        let mut fault = Fault::begin(lab, "coordinator's disk full for a while", spec)?;
        fault.scene.cluster.coordinator_host().fill_disk(STATE_DIRECTORY, 0)?;
        let coordinator = fault.scene.cluster.coordinator();
        wait_until("the coordinator's complaint", EVENT_LIMIT, || {
            let log = coordinator.process.log()?;
            Ok(log.contains("the disk is full").then_some(()))
        })?;
        // Who wants something new is told, and waits.
        let new = ["build", GRAPHS, "-A", FAULTY, "--no-out-link", "--argstr", "salt", "new"];
        let mut new = fault.scene.client().start("new", &new)?;
        let told = wait_for_words(&mut new, EVENT_LIMIT, "disk is full")?;
        ensure!(!told.contains("error:"), "the client gave up:\n{told}");
        // Longer than the time after which executors are lost: it is not they who are silent.
        std::thread::sleep(Duration::from_secs(4));
        let coordinator = fault.scene.cluster.coordinator();
        ensure!(
            coordinator.process.ended()?.is_none(),
            "the coordinator ended:\n{}",
            coordinator.process.log()?
        );
        fault.scene.cluster.coordinator_host().free_disk(STATE_DIRECTORY)?;
        let end = new.wait(PLAN_LIMIT)?;
        ensure!(end.success(), "{end}\n{}", new.log()?);
        let mut scene = fault.end(lab, None, &BTreeSet::new())?;
        let log = scene.cluster.coordinator().process.log()?;
        ensure!(
            EXECUTORS.iter().all(|executor| !is_lost(&log, executor)),
            "an executor was given up:\n{log}"
        );
        Ok(())
    });
}

#[test]
fn an_executors_disk_fills() {
    run("fault-executor-disk", |lab| {
        let mut spec = by_default();
        spec.executors = vec![
            ExecutorSpec { disk_mb: Some(EXECUTOR_MB), ..ExecutorSpec::native(EXECUTORS[0]) },
            ExecutorSpec::native(EXECUTORS[1]),
            ExecutorSpec::native(EXECUTORS[2]),
        ];
        let mut fault = Fault::begin(lab, "executor's disk full for a while", spec)?;
        let full = EXECUTORS[0];
        wait_until("a step on the executor", EVENT_LIMIT, || {
            let said = fault.said()?;
            Ok((!super::running(&said, &[full]).is_empty()).then_some(()))
        })
        .with_context(|| fault.said().unwrap_or_default())?;
        fault.scene.cluster.executor(full)?.host.fill_disk(STATE_DIRECTORY, 32 << 10)?;
        let node = fault.scene.cluster.executor(full)?;
        wait_until("the executor's complaint", EVENT_LIMIT, || {
            Ok(node.process.log()?.contains("OutOfDisk").then_some(()))
        })?;
        let begun = starts(&fault.said()?).len();
        let touched = touched(&fault.said()?, &[full]);
        wait_until("steps elsewhere", EVENT_LIMIT, || {
            Ok((starts(&fault.said()?).len() > begun).then_some(()))
        })
        .with_context(|| fault.said().unwrap_or_default())?;
        ensure!(done(&fault.said()?).len() < super::TASKS, "all was built before: the test shows nothing");
        fault.scene.cluster.executor(full)?.host.free_disk(STATE_DIRECTORY)?;
        fault.end(lab, None, &touched).map(drop)
    });
}
