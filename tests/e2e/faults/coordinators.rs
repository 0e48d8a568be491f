//! A coordinator that stops, freezes, or is killed at random moments while several plans run: nothing is built twice, nothing is lost.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tests::{Lab, Process, run, wait_until};

use super::{
    EXECUTORS, FAULTY, Fault, TASKS, builders_ended, by_default, is_lost, quick, real_hash, result_hash, row,
};
use crate::scene::{GRAPHS, PLAN_LIMIT, Scene};

/// Plans that run at the same time.
const PLANS_MAX: usize = 2;
/// A coordinator that was asked to stop ends within this.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// A coordinator lives at most so long.
const LIFE_MAX_MS: u64 = 2_000;

#[test]
fn a_coordinator_is_killed_ten_times() {
    run("fault-coordinator", |lab| kills(lab, "coordinator SIGKILL, 10 times", 10));
}

#[test]
#[ignore = "tier long: some ten minutes of killing"]
fn a_coordinator_is_killed_two_hundred_times() {
    run("fault-coordinator-long", |lab| kills(lab, "coordinator SIGKILL, 200 times", 200));
}

#[test]
fn a_coordinator_freezes_and_thaws() {
    run("fault-coordinator-frozen", |lab| {
        let mut fault = Fault::begin(lab, "coordinator SIGSTOP, later SIGCONT", quick())?;
        fault.scene.cluster.coordinator().process.signal("STOP")?;
        // Twice the time after which executors are lost: it is not they who are silent.
        std::thread::sleep(Duration::from_secs(4));
        fault.scene.cluster.coordinator().process.signal("CONT")?;
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
fn a_coordinator_is_asked_to_stop_and_starts_again() {
    run("fault-coordinator-stops", |lab| {
        let mut fault = Fault::begin(lab, "coordinator SIGTERM, later started again", quick())?;
        let coordinator = fault.scene.cluster.coordinator();
        coordinator.process.signal("TERM")?;
        let end = coordinator.process.wait(STOP_LIMIT)?;
        ensure!(end.success(), "{end}\n{}", coordinator.process.log()?);
        // Executors go on meanwhile.
        std::thread::sleep(Duration::from_secs(2));
        fault.scene.cluster.restart_coordinator()?;
        let mut scene = fault.end(lab, None, &BTreeSet::new())?;
        let log = scene.cluster.coordinator().process.log()?;
        ensure!(
            EXECUTORS.iter().all(|executor| !is_lost(&log, executor)),
            "an executor was given up:\n{log}"
        );
        Ok(())
    });
}

fn kills(lab: &Lab, what: &str, count: usize) -> Result<()> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    println!("{what}: seed {seed}");
    let mut random = Random(u64::from(seed));
    let mut scene = Scene::start(lab, by_default())?;
    let mut plans: Vec<Plan> = Vec::new();
    let mut ended = Vec::new();
    for _ in 0..count {
        while plans.len() < PLANS_MAX {
            plans.push(Plan::begin(&scene, plans.len() + ended.len())?);
        }
        std::thread::sleep(Duration::from_millis(random.below(LIFE_MAX_MS)));
        scene.cluster.restart_coordinator()?;
        for mut plan in std::mem::take(&mut plans) {
            let list = if plan.has_ended(&scene)? { &mut ended } else { &mut plans };
            list.push(plan);
        }
    }
    for mut plan in plans {
        wait_until("the end of a plan", PLAN_LIMIT, || Ok(plan.has_ended(&scene)?.then_some(())))?;
        ended.push(plan);
    }
    let real = real_hash(lab)?;
    let mut differ = 0;
    for plan in &mut ended {
        differ += usize::from(result_hash(&scene, &plan.build.log()?)? != real);
    }
    let built = builders_ended(&mut scene, &EXECUTORS)?;
    let lost = (ended.len() * TASKS).saturating_sub(built.len());
    let rebuilt: usize = built.values().map(|count| count - 1).sum();
    row(&format!("{what} over {} plans", ended.len()), None, rebuilt, lost, differ == 0);
    ensure!(rebuilt == 0, "built more than once: {:?}", built.iter().filter(|(_, count)| **count > 1));
    ensure!(lost == 0 && differ == 0, "{lost} steps lost, {differ} results differ");
    Ok(())
}

/// A plan of its own: its derivations have names that no other plan's have, and results that all have.
struct Plan {
    name: String,
    derivation: String,
    build: Process,
}

impl Plan {
    fn begin(scene: &Scene, number: usize) -> Result<Self> {
        let salt = format!("x{number}");
        let made = scene.board.store().instantiate(GRAPHS, &[FAULTY], &["--argstr", "salt", &salt])?;
        let derivation = made.first().context("no derivation")?.clone();
        let name = format!("plan-{salt}");
        let build = scene.client().start(&name, &["build", &derivation, "--no-out-link"])?;
        Ok(Self { name, derivation, build })
    }

    /// Whether it has succeeded. A client that found nobody at its very first call says so, and is started again.
    fn has_ended(&mut self, scene: &Scene) -> Result<bool> {
        let Some(end) = self.build.ended()? else { return Ok(false) };
        let said = self.build.log()?;
        if said.trim_end().lines().last().is_some_and(|line| line.starts_with("error: submit the plan: ")) {
            self.build = scene.client().start(&self.name, &["build", &self.derivation, "--no-out-link"])?;
            return Ok(false);
        }
        ensure!(end.success(), "{end}\n{said}");
        Ok(true)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
