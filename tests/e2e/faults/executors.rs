//! An executor that is killed, freezes, or whose host loses its power; by default settings.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::{Lab, STATE_DIRECTORY, run, wait_until};

use super::{
    DETECTION_MAX, EVENT_LIMIT, Fault, builders_ended, by_default, is_lost, running, starts, touched,
};

/// What ran there begins elsewhere soon after the loss: a fetch from the lost one may still hold a slot for a while.
const LEASED_MAX: Duration = Duration::from_secs(15);

#[test]
fn an_executor_is_killed_and_stays_away() {
    run("fault-killed", |lab| {
        let mut fault = Fault::begin(lab, "executor SIGKILL, stays away", by_default())?;
        let victim = fault.victim()?;
        let cut_off = running(&fault.said()?, &[&victim]);
        fault.scene.cluster.executor(&victim)?.process.kill()?;
        fault.kill_with(cut_off);
        let since = Instant::now();
        let detected = noticed(&mut fault, &victim, since)?;
        let touched = touched(&fault.said()?, &[&victim]);
        fault.end(lab, Some(detected), &touched).map(drop)
    });
}

#[test]
fn an_executor_is_killed_and_comes_back() {
    run("fault-back", |lab| {
        let mut fault = Fault::begin(lab, "executor SIGKILL, comes back", by_default())?;
        let victim = fault.victim()?;
        let said = fault.said()?;
        let was_running = running(&said, &[&victim]);
        ensure!(!was_running.is_empty(), "nothing runs on {victim}:\n{said}");
        fault.scene.cluster.executor(&victim)?.process.kill()?;
        fault.kill_with(was_running.clone());
        let since = Instant::now();
        fault.scene.cluster.restart_executor(&victim)?;
        // Its own word is enough: nobody waits for a timeout.
        let detected = begun_again(&fault, &was_running, since)?;
        let coordinator = fault.scene.cluster.coordinator().process.log()?;
        ensure!(!is_lost(&coordinator, &victim), "it was given up before it said what it runs");
        let mut scene = fault.end(lab, Some(detected), &was_running)?;
        // Results of before the end of its process are kept: they were built once.
        let built = builders_ended(&mut scene, &super::EXECUTORS)?;
        let twice: Vec<_> = built.iter().filter(|(_, count)| **count > 1).collect();
        ensure!(twice.is_empty(), "built twice: {twice:?}");
        Ok(())
    });
}

#[test]
fn results_outlive_their_executors_process() {
    run("fault-results", |lab| {
        let mut fault = Fault::begin(lab, "coordinator away, executor SIGKILL after a result", by_default())?;
        let victim = fault.victim()?;
        let was_running = running(&fault.said()?, &[&victim]);
        fault.scene.cluster.coordinator().process.kill()?;
        wait_until("a result that nobody takes", EVENT_LIMIT, || {
            let built = builders_ended(&mut fault.scene, &[&victim])?;
            Ok(was_running.iter().all(|step| built.contains_key(step)).then_some(()))
        })?;
        // The builder has ended; its outputs are hashed and its result written down.
        std::thread::sleep(Duration::from_secs(1));
        fault.scene.cluster.restart_executor(&victim)?;
        fault.scene.cluster.restart_coordinator()?;
        fault.end(lab, None, &BTreeSet::new()).map(drop)
    });
}

#[test]
fn an_executor_freezes_and_thaws() {
    run("fault-frozen", |lab| {
        let mut fault = Fault::begin(lab, "executor SIGSTOP, later SIGCONT", by_default())?;
        let victim = fault.victim()?;
        fault.scene.cluster.executor(&victim)?.process.signal("STOP")?;
        let since = Instant::now();
        let detected = noticed(&mut fault, &victim, since)?;
        let touched = touched(&fault.said()?, &[&victim]);
        // Its build is through meanwhile: it reports that late, while another executor is at it.
        fault.scene.cluster.executor(&victim)?.process.signal("CONT")?;
        fault.end(lab, Some(detected), &touched).map(drop)
    });
}

#[test]
fn an_executors_host_loses_its_power() {
    run("fault-reboot", |lab| {
        let mut fault = Fault::begin(lab, "executor's host rebooted, disk damaged", by_default())?;
        let victim = fault.victim()?;
        let before = fault.said()?;
        let was_running = running(&before, &[&victim]);
        fault.kill_with(was_running.clone());
        let node = fault.scene.cluster.executor(&victim)?;
        // The cable first: a power cut says no goodbye.
        node.host.set_blackhole(true)?;
        node.host.crash()?;
        let since = Instant::now();
        damage(lab, &victim)?;
        fault.scene.cluster.boot_executor(&victim)?;
        let detected = begun_again(&fault, &was_running, since)?;
        ensure!(detected <= DETECTION_MAX, "noticed after {detected:?}");
        let log = fault.scene.cluster.executor(&victim)?.process.log()?;
        ensure!(log.contains("damaged while the machine was down"), "a damaged path is still believed");
        let touched = touched(&before, &[&victim]);
        fault.end(lab, Some(detected), &touched).map(drop)
    });
}

/// What was not written back is lost; and the kernel's boot id is another one than the state directory remembers (a host of the
/// lab cannot have one of its own: builds could not mount their /proc then).
fn damage(lab: &Lab, victim: &str) -> Result<()> {
    // The second of the host's private directories is its state.
    let state = lab.directory().join(victim).join("private1");
    std::fs::write(state.join("kernel-boot-id"), "another boot\n").context(STATE_DIRECTORY)?;
    let store = state.join("store/shared");
    let entries = std::fs::read_dir(&store).with_context(|| store.display().to_string())?.flatten();
    let is_step = |name: &str| !name.starts_with('.') && (name.contains("-part-") || name.contains("-pair-"));
    let found = entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_step));
    let path = found.context("it holds nothing that it built")?;
    let length = std::fs::metadata(&path)?.len();
    Ok(std::fs::write(&path, vec![0; usize::try_from(length)?])?)
}

/// When an executor counted as lost, by default settings in time; and its steps begin elsewhere.
pub(super) fn noticed(fault: &mut Fault, victim: &str, since: Instant) -> Result<Duration> {
    let was_running = running(&fault.said()?, &[victim]);
    let detected = fault.lost(victim, since)?;
    ensure!(detected <= DETECTION_MAX, "noticed after {detected:?}");
    let leased = begun_again(fault, &was_running, Instant::now())?;
    ensure!(leased <= LEASED_MAX, "begun elsewhere {leased:?} after that");
    Ok(detected)
}

/// How long it takes until these steps have begun once more.
fn begun_again(fault: &Fault, steps: &BTreeSet<String>, since: Instant) -> Result<Duration> {
    let found = wait_until("steps that begin again", EVENT_LIMIT, || {
        let starts = starts(&fault.said()?);
        let count = |step: &String| starts.iter().filter(|(name, _)| name == step).count();
        Ok(steps.iter().all(|step| count(step) > 1).then(|| since.elapsed()))
    });
    found.with_context(|| fault.said().unwrap_or_default())
}
