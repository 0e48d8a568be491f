//! Scenarios: hosts, and plans with the time at which each comes.
use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use model::{Platform, System};

use crate::graph::Graph;

/// What there is to choose from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Name {
    /// One plan, four unlike x86 hosts that all emulate
    OneBoard,
    /// One plan, hosts of unlike platforms
    Selective,
    /// Twelve plans, 30 s apart, two hosts
    ManyBoards,
    /// Every step alone, with what the step before it left
    SmallUpdate,
    /// One plan; one host vanishes for good, one comes and goes
    Lossy,
}

/// A host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Builds at once.
    pub slots: usize,
    /// Of one build.
    pub speed: f64,
    /// What it offers.
    pub platforms: Vec<Platform>,
    /// When it is not there, in seconds: from, to.
    pub absent_s: Vec<(f64, f64)>,
}

/// A plan: its root, what of it is to be built, and when it comes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is wanted.
    pub root: usize,
    /// What is to be built for it; all else is there.
    pub tasks: BTreeSet<usize>,
    /// In seconds.
    pub arrival_s: f64,
}

/// Something to schedule.
#[derive(Clone, Debug)]
pub struct Run {
    /// Who builds.
    pub hosts: Vec<Host>,
    /// What comes.
    pub plans: Vec<Plan>,
}

fn system(name: &str) -> System {
    System(Arc::from(name))
}

fn x86(slots: usize, speed: f64) -> Host {
    let build = system("x86_64-linux");
    let platforms = vec![
        Platform::Native(build.clone()),
        Platform::Native(system("i686-linux")),
        Platform::Cross { build },
        Platform::Builtin,
    ];
    Host { slots, speed, platforms, absent_s: Vec::new() }
}

fn emulating(slots: usize, speed: f64) -> Host {
    let mut host = x86(slots, speed);
    host.platforms.push(Platform::Emulated(system("aarch64-linux")));
    host
}

/// What a scenario has to schedule; several runs follow one another.
pub fn runs(name: Name, graph: &Graph) -> Result<Vec<Run>> {
    let plan = |root: usize| Plan { root, tasks: graph.closure(root), arrival_s: 0.0 };
    let all: Vec<Plan> = graph.roots.iter().map(|root| plan(*root)).collect();
    let four = vec![emulating(4, 1.0), emulating(4, 1.0), emulating(4, 0.6), emulating(4, 0.35)];
    let wants_steps = matches!(name, Name::ManyBoards | Name::SmallUpdate);
    ensure!(
        graph.has_steps == wants_steps,
        "this scenario wants a graph {} steps",
        if wants_steps { "with" } else { "without" }
    );
    Ok(match name {
        Name::OneBoard => vec![Run { hosts: four, plans: all }],
        Name::Selective => {
            let arm = system("aarch64-linux");
            let mut emulator = emulating(4, 0.8);
            emulator
                .platforms
                .retain(|platform| !matches!(platform, Platform::Cross { .. } | Platform::Native(_)));
            let native = Host { platforms: vec![Platform::Native(arm), Platform::Builtin], ..x86(4, 0.3) };
            vec![Run { hosts: vec![x86(4, 1.0), emulator, native], plans: all }]
        }
        Name::ManyBoards => {
            let late = |(number, plan): (u32, Plan)| Plan { arrival_s: f64::from(number) * 30.0, ..plan };
            let plans = (0..12).zip(all).map(late).collect();
            vec![Run { hosts: vec![emulating(4, 1.0), emulating(4, 0.7)], plans }]
        }
        Name::SmallUpdate => {
            let mut held = BTreeSet::new();
            let mut runs = Vec::new();
            for plan in all {
                let tasks: BTreeSet<usize> = plan.tasks.difference(&held).copied().collect();
                // The first step is no update.
                if !held.is_empty() && !tasks.is_empty() {
                    let plans = vec![Plan { tasks, ..plan.clone() }];
                    runs.push(Run { hosts: vec![emulating(4, 1.0), emulating(4, 1.0)], plans });
                }
                held.extend(plan.tasks);
            }
            runs
        }
        Name::Lossy => {
            let mut hosts = four;
            let run = Run { hosts: hosts.clone(), plans: all.clone() };
            let whole = run.plans.iter().flat_map(|plan| plan.tasks.iter().copied()).collect();
            let about_s = crate::bound::bound_s(graph, &run, &whole);
            // Somewhere, the same for the same costs.
            let part = graph.nodes.iter().map(|node| node.cost.native_s).sum::<f64>().fract();
            hosts[1].absent_s = vec![(about_s * (0.2 + 0.6 * part), f64::INFINITY)];
            let tenth = about_s / 10.0;
            hosts[2].absent_s = (0..60)
                .map(|number| f64::from(number) * 3.0 + 1.0 + part)
                .map(|at| (at * tenth, (at + 1.0) * tenth))
                .collect();
            vec![Run { hosts, plans: all }]
        }
    })
}
