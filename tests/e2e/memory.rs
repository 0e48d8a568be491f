//! The client's memory for a result of half a gigabyte.

use std::time::Duration;

use anyhow::{Context, ensure};
use tests::{ClusterSpec, run, wait_until};

use crate::scene::Scene;

const LIMIT: Duration = Duration::from_secs(300);
const RESULT_BYTES_MIN: u64 = 500_000_000;
const PEAK_KILOBYTES_MAX: u64 = 20_000;

#[test]
fn the_client_needs_less_than_20_megabytes_for_a_result_of_500() {
    run("memory", |lab| {
        let scene = Scene::start(lab, ClusterSpec::default())?;
        let mut build = scene.start_build("big")?;
        let pid = build.pid()?;
        // Read from outside, again and again: the kernel keeps the peak until the process ends.
        let mut seen = 0;
        let end = wait_until("the result", LIMIT, || {
            seen = peak(pid).unwrap_or_default().max(seen);
            build.ended()
        })?;
        let said = build.log()?;
        ensure!(end.success(), "{end}\n{said}");
        let own: u64 = said
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM: ")?.strip_suffix(" kB"))
            .context("the client does not say its peak")?
            .parse()?;
        let results = scene.board.store().path_infos(&scene.results()?.into_iter().collect::<Vec<_>>())?;
        let size: u64 = results.values().map(|info| info.nar_size).sum();
        println!("peak {own} kB at exit, {seen} kB seen from outside, for {size} B");
        ensure!(size >= RESULT_BYTES_MIN, "the result has only {size} bytes");
        // The kernel counts pages in batches for each processor: the two may differ by a few.
        ensure!(own > 1000 && seen > 1000, "one of the figures is none: {own} kB at exit, {seen} kB seen");
        ensure!(own.max(seen) < PEAK_KILOBYTES_MAX, "the client's peak is {own} kB, or {seen} kB");
        Ok(())
    });
}

/// VmHWM of a process in kB, while it lives.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
