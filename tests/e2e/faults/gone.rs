//! Nobody is left, or nobody has what is needed any more.

use std::time::{Duration, Instant};

use anyhow::Context;
use tests::{run, wait_for_words, wait_until};

use super::{EVENT_LIMIT, EXECUTORS, Fault, done, quick, running, starts, touched};

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
