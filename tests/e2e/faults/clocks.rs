//! Wall clocks that jump by hours, forward and back: leases, sessions and plans go by monotonic clocks.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::{ClusterSpec, WallClock, run};

use super::{EXECUTORS, Fault, by_default, is_lost};

const HOUR_S: i64 = 3600;

#[test]
fn wall_clocks_jump() {
    run("fault-clocks", |lab| {
        let clock = WallClock::new(lab)?;
        let spec = ClusterSpec { clock: Some(clock.clone()), ..by_default() };
        let mut fault = Fault::begin(lab, "wall clocks jump by hours, forward and back", spec)?;
        let before = last_hour(&fault.scene.cluster.coordinator().process.log()?)?;
        for (host, hours) in [("coordinator", 5), (EXECUTORS[0], -3), (EXECUTORS[1], 30)] {
            clock.set(host, hours * HOUR_S)?;
        }
        std::thread::sleep(Duration::from_millis(1500));
        for (host, hours) in [("coordinator", -4), (EXECUTORS[0], 9), (EXECUTORS[1], 0)] {
            clock.set(host, hours * HOUR_S)?;
        }
        let mut scene = fault.end(lab, None, &BTreeSet::new())?;
        let log = scene.cluster.coordinator().process.log()?;
        ensure!(
            EXECUTORS.iter().all(|executor| !is_lost(&log, executor)),
            "an executor was given up:\n{log}"
        );
        ensure!(!log.contains("session ended"), "a session ended:\n{log}");
        ensure!((before + 24 - last_hour(&log)?) % 24 >= 3, "its clock did not jump: the test shows nothing");
        Ok(())
    });
}

/// The hour of the last line of a log.
fn last_hour(log: &str) -> Result<i64> {
    let words = "\"timestamp\":\"";
    let stamp = log.rsplit(words).next().filter(|stamp| stamp.as_bytes().get(10) == Some(&b'T'));
    let hour = stamp.and_then(|stamp| stamp.get(11..13)).and_then(|hour| hour.parse().ok());
    hour.ok_or_else(|| anyhow::anyhow!("no time in the log:\n{log}"))
}
