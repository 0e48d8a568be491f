//! The scheduler as it is, told nothing but what a coordinator is told, in virtual time.
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use model::{
    BootId, BuiltOutput, Capability, ContentId, ExecutorName, LeaseId, Offer, Outcome, PathFacts, PlanId,
    Platform, TaskId, TaskSpec, TrustDomain,
};
use scheduler::{
    Effect, Event, Grant, Held, Holder, KnownContent, LeaseKey, Measurement, NewPlan, News, Root, Settings,
    State, Timestamp, apply,
};

use crate::graph::{Graph, Node};
use crate::list::root_bytes;
use crate::scenario::Run;
use crate::world::{BOARD_BYTES_PER_S, Stores, build_s, is_there};

/// What executors say of their speed is about right.
const SELF_TEST_ERROR: [f64; 4] = [1.05, 0.95, 1.08, 0.93];
/// As a coordinator is configured when nobody says otherwise.
const SETTINGS: Settings = Settings {
    heartbeat_interval_ms: 5_000,
    eviction_after_ms: 15_000,
    attempts_max: 3,
    first_lease: LeaseId(1),
    restart_grace_ms: 0,
    speculates: true,
    set_aside_ms: 60_000,
};
/// Between hosts: 1 Gbit/s.
const HOST_BYTES_PER_MS: u64 = 125_000;
/// Virtual time after which something is wrong.
const END_MS: u64 = 365 * 86_400_000;

/// What happens at some time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum What {
    Comes(usize),
    Goes(usize),
    Arrives(usize),
    Ends { host: usize, lease: LeaseKey, task: usize },
    Pulled(ContentId, Vec<ExecutorName>),
    Beats(usize),
    Ticks,
}

struct Cluster<'a> {
    graph: &'a Graph,
    run: &'a Run,
    state: State,
    now_ms: u64,
    happens: BTreeSet<(u64, u64, What)>,
    number: u64,
    places: BTreeMap<TaskId, usize>,
    all: BTreeSet<usize>,
    running: Vec<BTreeSet<LeaseKey>>,
    /// Milliseconds that running leases took to fetch their inputs.
    fetches_ms: BTreeMap<LeaseKey, u64>,
    boots: Vec<u8>,
    holds: Vec<BTreeMap<ContentId, KnownContent>>,
    stores: Stores,
    finished: usize,
    built: BTreeSet<usize>,
}

/// Seconds until all plans have what they want on their boards, and what was built for it.
pub fn makespan_s(graph: &Graph, run: &Run) -> Result<(f64, BTreeSet<usize>)> {
    let hosts = run.hosts.len();
    let places = graph.nodes.iter().enumerate().map(|(place, node)| (node.task.id.clone(), place)).collect();
    let mut cluster = Cluster {
        graph,
        run,
        state: State::new(SETTINGS),
        now_ms: 0,
        happens: BTreeSet::new(),
        number: 0,
        places,
        all: run.plans.iter().flat_map(|plan| plan.tasks.iter().copied()).collect(),
        running: vec![BTreeSet::new(); hosts],
        fetches_ms: BTreeMap::new(),
        boots: vec![0; hosts],
        holds: vec![BTreeMap::new(); hosts],
        stores: Stores::new(hosts, graph.nodes.len()),
        finished: 0,
        built: BTreeSet::new(),
    };
    cluster.begin();
    while cluster.finished < run.plans.len() {
        let (at_ms, _, what) = cluster.happens.pop_first().context("nothing happens any more")?;
        anyhow::ensure!(at_ms < END_MS, "plans do not end");
        cluster.now_ms = at_ms;
        cluster.happen(what);
    }
    let makespan_s = milliseconds_to_s(cluster.now_ms) + root_bytes(graph, run) / BOARD_BYTES_PER_S;
    Ok((makespan_s, cluster.built))
}

fn milliseconds_to_s(milliseconds: u64) -> f64 {
    std::time::Duration::from_millis(milliseconds).as_secs_f64()
}

fn milliseconds(seconds: f64) -> u64 {
    u64::try_from(std::time::Duration::from_secs_f64(seconds.clamp(0.0, 1e9)).as_millis()).unwrap_or(END_MS)
}

fn name(host: usize) -> ExecutorName {
    ExecutorName(format!("host-{host}").into())
}

fn content(path: &model::StorePath) -> ContentId {
    ContentId { domain: TrustDomain::Shared, path: path.clone() }
}

impl Cluster<'_> {
    fn begin(&mut self) {
        let measured = |node: &Node| {
            let task = &node.task;
            let measurement = |past_s: &f64| Measurement {
                derivation: task.id.path.clone(),
                name: task.name.clone(),
                kind: task.kind,
                is_emulated: false,
                work_ms: milliseconds(*past_s),
                memory_bytes: 0,
            };
            node.past_s.iter().map(measurement).collect::<Vec<_>>()
        };
        let history = self.graph.nodes.iter().flat_map(measured).collect();
        self.tell(Event::Remembered(history));
        for (host, of_run) in self.run.hosts.iter().enumerate() {
            self.happens_at(0, What::Comes(host));
            self.happens_at(1, What::Beats(host));
            for (from, to) in &of_run.absent_s {
                self.happens_at(milliseconds(*from), What::Goes(host));
                if to.is_finite() {
                    self.happens_at(milliseconds(*to), What::Comes(host));
                }
            }
        }
        self.happens_at(1, What::Ticks);
        for (plan, of_run) in self.run.plans.iter().enumerate() {
            self.happens_at(milliseconds(of_run.arrival_s), What::Arrives(plan));
        }
    }

    fn happens_at(&mut self, at_ms: u64, what: What) {
        self.number += 1;
        self.happens.insert((at_ms, self.number, what));
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Comes(host) => self.connect(host),
            What::Goes(host) => self.running[host].clear(),
            What::Arrives(plan) => {
                let plan = self.plan(plan);
                self.tell(Event::PlanAdmitted(plan));
            }
            What::Ends { host, lease, task } => {
                if self.running[host].remove(&lease) {
                    self.report(host, lease, task);
                }
            }
            What::Pulled(content, from) => {
                let now_s = milliseconds_to_s(self.now_ms);
                let gives = |host: usize| {
                    let of_run = &self.run.hosts[host];
                    from.contains(&name(host))
                        && is_there(of_run, now_s)
                        && self.holds[host].contains_key(&content)
                };
                let is_given = (0..self.holds.len()).any(gives);
                self.tell(if is_given {
                    Event::Stored(content)
                } else {
                    Event::PullFailed { content, from }
                });
            }
            What::Beats(host) => {
                if is_there(&self.run.hosts[host], milliseconds_to_s(self.now_ms)) {
                    let running = self.running[host].iter().copied().collect();
                    self.tell(Event::Heartbeat { executor: name(host), running, is_full: false });
                }
                self.happens_at(self.now_ms + SETTINGS.heartbeat_interval_ms, What::Beats(host));
            }
            What::Ticks => {
                self.tell(Event::Tick);
                self.happens_at(self.now_ms + 1_000, What::Ticks);
            }
        }
    }

    fn connect(&mut self, host: usize) {
        let of_run = &self.run.hosts[host];
        let offer = |platform: &Platform| Offer { platform: platform.clone(), detail: String::new() };
        let speed = milliseconds(of_run.speed * SELF_TEST_ERROR[host % SELF_TEST_ERROR.len()]);
        let capability = Capability {
            offers: of_run.platforms.iter().map(offer).collect(),
            slots: u32::try_from(of_run.slots).unwrap_or(1),
            speed: u32::try_from(speed).unwrap_or(1000),
            ..Capability::default()
        };
        self.boots[host] += 1;
        let boot = BootId([self.boots[host]; 16]);
        self.tell(Event::ExecutorConnected { executor: name(host), boot, capability, running: Vec::new() });
        let contents = self.holds[host].values().cloned().collect();
        self.tell(Event::ExecutorHolds(Held { executor: name(host), contents, is_last: true }));
    }

    fn plan(&self, number: usize) -> NewPlan {
        let plan = &self.run.plans[number];
        let spec = |place: &usize| {
            let mut spec: TaskSpec = self.graph.nodes[*place].task.clone();
            spec.input_derivations
                .retain(|input| self.places.get(&input.task).is_some_and(|input| plan.tasks.contains(input)));
            spec
        };
        let root = &self.graph.nodes[plan.root].task;
        NewPlan {
            id: PlanId([u8::try_from(number % 250).unwrap_or(0) + 1; 16]),
            tasks: plan.tasks.iter().map(spec).collect(),
            roots: vec![Root {
                task: root.id.clone(),
                outputs: root.outputs.iter().map(|output| output.name.clone()).collect(),
            }],
            contents: Vec::new(),
            bindings: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn report(&mut self, host: usize, lease: LeaseKey, task: usize) {
        let node = &self.graph.nodes[task];
        let each = node.cost.out_bytes / f64::from(u32::try_from(node.task.outputs.len()).unwrap_or(1));
        let mut outputs = Vec::new();
        for output in &node.task.outputs {
            let mut nar_sha256 = [0; 32];
            nar_sha256[..8].copy_from_slice(&task.to_le_bytes());
            // Microseconds of a byte a second: whole bytes.
            let nar_size = milliseconds(each / 1e3);
            let facts = PathFacts {
                nar_sha256,
                nar_size,
                references: Vec::new(),
                deriver: None,
                content_address: None,
            };
            let id = content(&output.path);
            let holders = vec![Holder::Executor(name(host))];
            let known =
                KnownContent { id: id.clone(), references: Vec::new(), nar_sha256, nar_size, holders };
            self.holds[host].insert(id, known);
            outputs.push(BuiltOutput { name: output.name.clone(), path: output.path.clone(), facts });
        }
        self.stores.keep(host, task);
        self.built.insert(task);
        let task = node.task.id.clone();
        let fetch_ms = self.fetches_ms.remove(&lease).unwrap_or(0);
        self.tell(Event::AttemptUsed {
            executor: name(host),
            lease,
            memory_bytes: 0,
            fetched_bytes: fetch_ms * HOST_BYTES_PER_MS,
            fetch_ms,
        });
        self.tell(Event::LeaseReported {
            executor: name(host),
            lease,
            task,
            outcome: Outcome::Built(outputs),
        });
    }

    fn tell(&mut self, event: Event) {
        for effect in apply(&mut self.state, event, Timestamp(self.now_ms)) {
            match effect {
                Effect::Grant(grant) => self.start(&grant),
                Effect::Cancel { executor, lease } => {
                    let host = (0..self.running.len()).find(|host| name(*host) == executor);
                    host.map(|host| self.running[host].remove(&lease));
                }
                Effect::Pull { content, from, .. } => {
                    let held = self.holds.iter().find_map(|holds| holds.get(&content));
                    let took_ms = held.map_or(0, |known| known.nar_size / HOST_BYTES_PER_MS) + 10;
                    self.happens_at(self.now_ms + took_ms, What::Pulled(content, from));
                }
                Effect::Tell { news: News::Finished(_), .. } => self.finished += 1,
                _ => {}
            }
        }
    }

    fn start(&mut self, grant: &Grant) {
        let Some(host) = (0..self.running.len()).find(|host| name(*host) == grant.executor) else { return };
        let task = self.places[&grant.task];
        let of_run = &self.run.hosts[host];
        // To one that is gone and not yet missed: nobody hears of it.
        if !is_there(of_run, milliseconds_to_s(self.now_ms)) {
            return;
        }
        let (all, graph) = (&self.all, self.graph);
        let fetch_s = self.stores.fetch_s(graph, host, task, |input| all.contains(&input));
        let took_ms = milliseconds(fetch_s + build_s(of_run, &grant.platform, &graph.nodes[task]));
        self.running[host].insert(grant.lease);
        self.fetches_ms.insert(grant.lease, milliseconds(fetch_s));
        self.happens_at(self.now_ms + took_ms.max(1), What::Ends { host, lease: grant.lease, task });
    }
}
