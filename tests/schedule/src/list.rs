//! Simpler policies on the same hosts: a list of ready tasks by one key, each to the fastest host that is free.
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use model::{Kind, Platform};

use crate::graph::{Graph, Node};
use crate::scenario::Run;
use crate::world::{BOARD_BYTES_PER_S, EVICTION_S, Stores, build_s, is_there, platform};

/// Which task first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// As they become ready, to any host.
    Fifo,
    /// Most tasks wait for it.
    ReverseDependencies,
    /// Longest, by history.
    LongestFirst,
    /// Longest way to the end in tasks.
    UnitCriticalPath,
    /// Longest way to the end in time, by history.
    CriticalPath,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Fifo,
        Self::ReverseDependencies,
        Self::LongestFirst,
        Self::UnitCriticalPath,
        Self::CriticalPath,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fifo => "FIFO, any free host",
            Self::ReverseDependencies => "reverse dependencies, fastest free host",
            Self::LongestFirst => "longest first, fastest free host",
            Self::UnitCriticalPath => "unit critical path, fastest free host",
            Self::CriticalPath => "critical path, fastest free host",
        }
    }

    /// What is largest first, for every task.
    fn keys(self, graph: &Graph, tasks: &BTreeSet<usize>) -> Vec<f64> {
        let mut keys = vec![0.0; graph.nodes.len()];
        match self {
            Self::Fifo => {}
            Self::LongestFirst => {
                tasks.iter().for_each(|place| keys[*place] = expected_s(&graph.nodes[*place]))
            }
            Self::UnitCriticalPath | Self::CriticalPath => {
                for place in tasks.iter().rev() {
                    let node = &graph.nodes[*place];
                    let above = node.users.iter().filter(|user| tasks.contains(user)).map(|user| keys[*user]);
                    let own = if self == Self::CriticalPath { expected_s(node) } else { 1.0 };
                    keys[*place] = own + above.fold(0.0, f64::max);
                }
            }
            Self::ReverseDependencies => {
                let words = graph.nodes.len().div_ceil(64);
                let mut above = vec![vec![0_u64; words]; graph.nodes.len()];
                for place in tasks.iter().rev() {
                    let mut own = vec![0_u64; words];
                    for user in graph.nodes[*place].users.iter().filter(|user| tasks.contains(user)) {
                        own.iter_mut().zip(&above[*user]).for_each(|(own, other)| *own |= other);
                        own[user / 64] |= 1 << (user % 64);
                    }
                    keys[*place] = f64::from(own.iter().map(|word| word.count_ones()).sum::<u32>());
                    above[*place] = own;
                }
            }
        }
        keys
    }
}

/// What one could expect of a task: by history, else by its kind, emulated.
fn expected_s(node: &Node) -> f64 {
    let mut past = node.past_s.clone();
    past.sort_by(f64::total_cmp);
    let usual = match node.task.kind {
        Kind::Tiny => 0.12,
        Kind::Fetch => 1.5,
        Kind::Build => 25.0,
        Kind::Heavy => 900.0,
    };
    let native_s = past.get(past.len() / 2).copied().unwrap_or(usual);
    let is_foreign = &*node.task.requirement.system.0 == "aarch64-linux";
    match node.task.kind {
        Kind::Fetch => native_s,
        Kind::Tiny if is_foreign => native_s * 16.0,
        _ if is_foreign => native_s * 9.0,
        _ => native_s,
    }
}

#[derive(PartialEq)]
struct At(f64);

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrived(usize),
    /// A task ended on a host, at that attempt.
    Ended {
        task: usize,
        host: usize,
        attempt: usize,
    },
    /// Somebody may have come or gone.
    Changed,
}

struct Cluster<'a> {
    graph: &'a Graph,
    run: &'a Run,
    all: BTreeSet<usize>,
    keys: Vec<f64>,
    policy: Policy,
    ready: Vec<usize>,
    missing: Vec<usize>,
    is_wanted: Vec<bool>,
    is_done: Vec<bool>,
    /// Something that is not done, or a plan, still waits for it.
    is_needed: Vec<bool>,
    built: BTreeSet<usize>,
    attempts: Vec<usize>,
    running: Vec<BTreeMap<usize, f64>>,
    stores: Stores,
    events: BTreeSet<(At, What)>,
    turn: usize,
}

/// Seconds until all plans have what they want on their boards, and what was built for it.
pub fn makespan_s(graph: &Graph, run: &Run, policy: Policy) -> Result<(f64, BTreeSet<usize>)> {
    let all: BTreeSet<usize> = run.plans.iter().flat_map(|plan| plan.tasks.iter().copied()).collect();
    let number = graph.nodes.len();
    let mut missing = vec![0; number];
    for place in &all {
        missing[*place] = graph.nodes[*place].inputs.iter().filter(|input| all.contains(input)).count();
    }
    let mut cluster = Cluster {
        graph,
        run,
        keys: policy.keys(graph, &all),
        policy,
        all,
        ready: Vec::new(),
        missing,
        is_wanted: vec![false; number],
        is_done: vec![false; number],
        is_needed: vec![true; number],
        built: BTreeSet::new(),
        attempts: vec![0; number],
        running: vec![BTreeMap::new(); run.hosts.len()],
        stores: Stores::new(run.hosts.len(), number),
        events: BTreeSet::new(),
        turn: 0,
    };
    for (plan, of_run) in run.plans.iter().enumerate() {
        cluster.events.insert((At(of_run.arrival_s), What::Arrived(plan)));
    }
    for (from, to) in run.hosts.iter().flat_map(|host| &host.absent_s) {
        cluster.events.insert((At(from + EVICTION_S), What::Changed));
        if to.is_finite() {
            cluster.events.insert((At(*to), What::Changed));
        }
    }
    cluster.play()
}

impl Cluster<'_> {
    fn play(mut self) -> Result<(f64, BTreeSet<usize>)> {
        let mut last_s = 0.0;
        while let Some((At(now_s), what)) = self.events.pop_first() {
            match what {
                What::Arrived(plan) => {
                    for place in &self.run.plans[plan].tasks {
                        if !std::mem::replace(&mut self.is_wanted[*place], true)
                            && self.missing[*place] == 0
                            && !self.is_done[*place]
                        {
                            self.ready.push(*place);
                        }
                    }
                }
                What::Ended { task, host, attempt } => {
                    if self.attempts[task] == attempt && self.running[host].remove(&task).is_some() {
                        self.ended(task, host);
                        last_s = now_s;
                    }
                }
                What::Changed => self.evict(now_s),
            }
            self.place(now_s);
            if self.are_plans_done() {
                break;
            }
        }
        ensure!(self.are_plans_done(), "{:?}: tasks are left", self.policy);
        Ok((last_s + root_bytes(self.graph, self.run) / BOARD_BYTES_PER_S, self.built))
    }

    fn are_plans_done(&self) -> bool {
        self.run.plans.iter().all(|plan| self.is_done[plan.root])
    }

    /// What another task has made needs nothing any more.
    fn forget_needless(&mut self) {
        self.is_needed.fill(false);
        let roots = self.run.plans.iter().map(|plan| plan.root);
        let mut work: Vec<usize> = roots.filter(|root| !self.is_done[*root]).collect();
        while let Some(place) = work.pop() {
            if !std::mem::replace(&mut self.is_needed[place], true) {
                let inputs = self.graph.nodes[place].inputs.iter();
                work.extend(inputs.filter(|input| self.all.contains(input) && !self.is_done[**input]));
            }
        }
    }

    /// A task is done, and with it all others that make the same.
    fn ended(&mut self, task: usize, host: usize) {
        self.stores.keep(host, task);
        self.built.insert(task);
        for made in self.graph.nodes[task].alternatives.iter().chain([&task]) {
            if !std::mem::replace(&mut self.is_done[*made], true) {
                self.ready.retain(|ready| ready != made);
                self.made(*made);
            }
        }
        if !self.graph.nodes[task].alternatives.is_empty() {
            self.forget_needless();
        }
    }

    fn made(&mut self, task: usize) {
        for user in &self.graph.nodes[task].users {
            if self.all.contains(user) {
                self.missing[*user] -= 1;
                if self.missing[*user] == 0 && self.is_wanted[*user] && !self.is_done[*user] {
                    self.ready.push(*user);
                }
            }
        }
    }

    /// What ran on a host that is gone is ready again. What it had, others have, too: the peers are spared that.
    fn evict(&mut self, now_s: f64) {
        for (host, running) in self.running.iter_mut().enumerate() {
            let absent = &self.run.hosts[host].absent_s;
            let was_lost =
                |since: f64| absent.iter().any(|(from, _)| since <= *from && *from + EVICTION_S <= now_s);
            let lost: Vec<usize> =
                running.iter().filter(|(_, since)| was_lost(**since)).map(|(task, _)| *task).collect();
            for task in lost {
                running.remove(&task);
                self.attempts[task] += 1;
                self.ready.push(task);
            }
        }
    }

    fn place(&mut self, now_s: f64) {
        if self.policy != Policy::Fifo {
            let keys = &self.keys;
            self.ready.sort_by(|a, b| keys[*b].total_cmp(&keys[*a]).then(a.cmp(b)));
        }
        let mut at = 0;
        while at < self.ready.len() {
            let task = self.ready[at];
            let host = if self.is_needed[task] { self.free_host(task, now_s) } else { None };
            let Some((host, platform)) = host else {
                at += 1;
                continue;
            };
            self.ready.remove(at);
            let run = self.run;
            let build_s = build_s(&run.hosts[host], &platform, &self.graph.nodes[task]);
            let (all, graph) = (&self.all, self.graph);
            let fetch_s = self.stores.fetch_s(graph, host, task, |input| all.contains(&input));
            let end_s = now_s + fetch_s + build_s;
            self.running[host].insert(task, now_s);
            let goes_meanwhile =
                run.hosts[host].absent_s.iter().any(|(from, _)| (now_s..end_s).contains(from));
            if !goes_meanwhile {
                let attempt = self.attempts[task];
                self.events.insert((At(end_s), What::Ended { task, host, attempt }));
            }
        }
    }

    fn free_host(&mut self, task: usize, now_s: f64) -> Option<(usize, Platform)> {
        let node = &self.graph.nodes[task];
        let hosts = self.run.hosts.iter().enumerate();
        let mut free: Vec<(usize, &Platform)> = hosts
            .filter(|(place, host)| self.running[*place].len() < host.slots && is_there(host, now_s))
            .filter_map(|(place, host)| Some((place, platform(host, node)?)))
            .collect();
        if self.policy == Policy::Fifo && !free.is_empty() {
            self.turn =
                self.turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (host, platform) = free.swap_remove((self.turn >> 33) % free.len());
            return Some((host, platform.clone()));
        }
        let took = |(place, platform): &(usize, &Platform)| {
            let emulated = if matches!(platform, Platform::Emulated(_)) { 9.0 } else { 1.0 };
            emulated / self.run.hosts[*place].speed
        };
        let (host, platform) = free.into_iter().min_by(|a, b| took(a).total_cmp(&took(b)))?;
        Some((host, platform.clone()))
    }
}

/// What the boards fetch in the end; the largest, for each has a link of its own.
pub fn root_bytes(graph: &Graph, run: &Run) -> f64 {
    run.plans.iter().map(|plan| graph.nodes[plan.root].cost.out_bytes).fold(0.0, f64::max)
}
