//! A build that stands still while its executor lives: a free executor builds it a second time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::{ClusterSpec, Host, User, run, wait_until};

use super::{EVENT_LIMIT, Fault, by_default, done, running};

/// Builds run as subordinate ids, which begin here.
const FREEZE: &str = "count=0
    for process in /proc/[0-9]*; do
        if [ \"$(stat -c %u \"$process\" 2>/dev/null || echo 0)\" -ge 65536 ]; then
            kill -STOP \"${process#/proc/}\" && count=$((count + 1))
        fi
    done
    [ $count -gt 0 ]";

/// What has run for less than half a minute is not looked at; then it takes as long as it usually does.
const BUILT_MAX: Duration = Duration::from_secs(45);

#[test]
fn a_build_that_stands_still_is_built_by_a_free_executor() {
    run("fault-straggler", |lab| {
        let spec = ClusterSpec { coordinator_lines: String::new(), ..by_default() };
        let mut fault = Fault::begin(lab, "a build SIGSTOP, its executor lives", spec)?;
        let victim = fault.victim()?;
        let host = &fault.scene.cluster.executor(&victim)?.host;
        wait_until("a build's processes", EVENT_LIMIT, || Ok(freeze(host)?.then_some(())))?;
        let since = Instant::now();
        let stands = running(&fault.said()?, &[&victim]);
        ensure!(stands.len() == 1, "{stands:?} run on {victim}");
        let built = wait_until("it to be built elsewhere", EVENT_LIMIT, || {
            Ok(stands.is_subset(&done(&fault.said()?)).then(|| since.elapsed()))
        })?;
        ensure!(built <= BUILT_MAX, "built elsewhere after {built:?}");
        fault.end(lab, Some(built), &stands).map(drop)
    });
}

/// Stops all processes of builds in a host, if there are any; they are killed as others are.
fn freeze(host: &Host) -> Result<bool> {
    Ok(host.exec(User::Root, &["sh", "-uc", FREEZE], &[])?.status.success())
}
