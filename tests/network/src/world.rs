//! One world: a coordinator, three executors and two boards on a simulated network, its faults, and its end.
use crate::check;
use crate::executor_host;
use crate::fault::{BOARDS, COORDINATOR, EXECUTORS, Fault, Kind, Link};
use crate::graph::Graph;
use crate::random::Random;
use crate::record::{self, What};
use crate::wire;
use crate::{board_host, wire::Listener};
use anyhow::Context;
use coordinator::journal::Writing;
use nix_daemon::testing::FakeDaemon;
use nix_formats::signature::SecretKey;
use node::shutdown::Shutdown;
use node::testing::Authority;
use node::tls::Role;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use turmoil::Sim;

/// A board that comes last, with an empty store: what is acknowledged must be there for it.
pub const LATE: &str = "late";
/// Where the coordinator listens.
const PORT: u16 = 7420;
/// One step of the network.
const TICK: Duration = Duration::from_millis(10);
/// How long plans may take once nothing goes wrong any more.
const PLANS_END_WITHIN: Duration = Duration::from_secs(90);
/// How long the last words between coordinator and executors may take then.
const QUIET_WITHIN: Duration = Duration::from_secs(45);
/// The cluster's key.
const KEY: &str = "cluster-1";

/// A world before it begins.
pub struct World {
    /// Its seed.
    pub seed: u64,
    /// What is to be built.
    pub graph: Graph,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Derivations that the boards want.
    pub wanted: [Vec<usize>; 2],
    /// Whether stragglers are run a second time.
    pub speculates: bool,
    /// The boards' stores, the late one last.
    pub daemons: [FakeDaemon; 3],
    /// The hosts' disks.
    pub directory: PathBuf,
    latencies: Random,
    cuts_downloads: bool,
    /// Boards that have been cut off.
    cut: Vec<&'static str>,
}

impl World {
    /// The world of a seed, its disks below a directory.
    pub fn new(seed: u64, directory: &Path) -> Self {
        let mut random = Random::new(seed);
        let graph = Graph::new(&mut random);
        let last = graph.drvs.len() - 1;
        let wanted = [vec![last], if random.percent(50) { vec![last - 1] } else { vec![last - 1, last] }];
        let faults = Fault::of_seed(seed, &mut random);
        let daemons = [(); 3].map(|()| graph.board(KEY));
        let directory = directory.to_owned();
        let cuts_downloads = random.percent(30);
        let speculates = !seed.is_multiple_of(2);
        let (latencies, cut) = (random, Vec::new());
        Self { seed, graph, faults, wanted, speculates, daemons, directory, latencies, cuts_downloads, cut }
    }

    /// Whether a plan of these ends well.
    pub fn succeeds(&self, wanted: &[usize]) -> bool {
        wanted.iter().all(|root| !self.graph.drvs[*root].fails)
    }

    /// What the late board asks for: everything that was wanted and can be there.
    pub fn late_wanted(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.wanted.concat();
        all.sort_unstable();
        all.dedup();
        all.retain(|root| self.succeeds(&[*root]));
        all
    }

    fn paths(&self, wanted: &[usize]) -> Vec<String> {
        wanted.iter().map(|root| self.graph.drvs[*root].path.clone()).collect()
    }

    /// When the last fault is over.
    pub fn faults_end(&self) -> Duration {
        self.faults.iter().map(|fault| fault.until).max().unwrap_or_default()
    }

    /// Lives to its end, and says what was wrong.
    ///
    /// # Errors
    /// A host's program ended with an error or panicked.
    pub fn run(mut self) -> anyhow::Result<Vec<String>> {
        wire::install();
        let authority = Authority::new(&self.directory)?;
        let key = SecretKey::from_seed(KEY, &[7; 32]).to_text();
        std::fs::write(self.directory.join("nix.key"), key).context("write the key")?;
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(100_000))
            .enable_tokio_io()
            .build();
        let switches = Switches::default();
        self.coordinator(&mut sim, &authority, &switches)?;
        for name in EXECUTORS {
            self.executor(&mut sim, &authority, &switches, name)?;
        }
        let begins_at =
            [Duration::from_millis(500), Duration::from_millis(self.latencies.within(500..6_000))];
        for (index, name) in BOARDS.into_iter().enumerate() {
            let wanted = self.paths(&self.wanted[index]);
            self.board(&mut sim, &authority, &switches, (name, index), wanted, begins_at[index])?;
        }
        switches.of(LATE).may_begin.store(false, Ordering::SeqCst);
        let late = self.paths(&self.late_wanted());
        self.board(&mut sim, &authority, &switches, (LATE, 2), late, Duration::ZERO)?;
        let links = Links::new(&mut self.latencies);
        let end = self.live(&mut sim, links, &switches);
        let problems = match end {
            Ok(mut problems) => {
                for host in [&[COORDINATOR], EXECUTORS.as_slice()].concat() {
                    sim.crash(host);
                }
                problems.extend(check::all(&self)?);
                problems
            }
            Err(error) => vec![format!("a host's program ended: {error}")],
        };
        Ok(problems)
    }

    fn coordinator(
        &self,
        sim: &mut Sim<'_>,
        authority: &Authority,
        switches: &Switches,
    ) -> anyhow::Result<()> {
        let files = authority.issue(Role::Coordinator, "c")?;
        let text = format!(
            "listen = \"0.0.0.0:{PORT}\"\nstate_dir = \"{0}/coordinator\"\nsigning_key = \"{0}/nix.key\"\n\
             speculation = {1}\n[tls]\ncertificate = \"{2}\"\nkey = \"{3}\"\nauthority = \"{4}\"\n",
            self.directory.display(),
            self.speculates,
            files.certificate.display(),
            files.key.display(),
            files.authority.display(),
        );
        let config: coordinator::config::Config = node::config::parse(&text, &self.directory)?;
        config.check()?;
        let switch = switches.of(COORDINATOR);
        sim.host(COORDINATOR, move || {
            let (config, switch) = (config.clone(), switch.clone());
            async move {
                switch.on().await;
                let listener = Listener::bind(PORT).await?;
                let run = coordinator::run::run_on(listener, config, Shutdown::new(), Writing::InRuntime);
                Ok(run.await.map_err(|error| format!("{error:#}"))?)
            }
        });
        Ok(())
    }

    fn executor(
        &self,
        sim: &mut Sim<'_>,
        authority: &Authority,
        switches: &Switches,
        name: &'static str,
    ) -> anyhow::Result<()> {
        let settings = executor_host::Settings {
            name: name.to_owned(),
            coordinator: format!("{COORDINATOR}:{PORT}"),
            files: authority.issue(Role::Executor, name)?,
            directory: self.directory.join(name),
        };
        let (switch, seed, boots) = (switches.of(name), self.seed, AtomicU64::new(0));
        sim.host(name, move || {
            let (settings, switch) = (settings.clone(), switch.clone());
            let boot = boots.fetch_add(1, Ordering::SeqCst);
            async move {
                switch.on().await;
                executor_host::run(settings, u128::from(seed) << 64 | u128::from(boot)).await
            }
        });
        Ok(())
    }

    fn board(
        &self,
        sim: &mut Sim<'_>,
        authority: &Authority,
        switches: &Switches,
        (name, index): (&'static str, usize),
        wanted: Vec<String>,
        begins_at: Duration,
    ) -> anyhow::Result<()> {
        let switch = switches.of(name);
        let settings = board_host::Settings {
            name: name.to_owned(),
            coordinator: format!("{COORDINATOR}:{PORT}"),
            files: authority.issue(Role::Board, name)?,
            directory: self.directory.join(name),
            daemon: self.daemons[index].clone(),
            wanted,
            begins_at,
            may_begin: switch.may_begin.clone(),
            is_done: switch.is_done.clone(),
        };
        sim.host(name, move || {
            let (settings, switch) = (settings.clone(), switch.clone());
            async move {
                switch.on().await;
                board_host::run(settings).await
            }
        });
        Ok(())
    }

    /// Steps until the late board has what it wants, or something takes too long.
    fn live(
        &mut self,
        sim: &mut Sim<'_>,
        mut links: Links,
        switches: &Switches,
    ) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let begin = self.faults_end().max(Duration::from_secs(30));
        let mut stage_ends = begin + PLANS_END_WITHIN;
        let mut stage = Stage::Plans;
        loop {
            let now = sim.elapsed();
            record::set_now(now);
            self.cut_downloads(now);
            links.apply(sim, &self.faults, now);
            self.switch(sim, switches, now);
            sim.step()?;
            let is_over = match stage {
                Stage::Plans => {
                    BOARDS.iter().all(|board| switches.of(board).is_done()) && now > self.faults_end()
                }
                Stage::Quiet => {
                    EXECUTORS.iter().all(|x| executor_host::believed(x).is_some_and(|all| all.is_empty()))
                }
                Stage::Late => switches.of(LATE).is_done(),
            };
            if is_over {
                stage = match stage {
                    Stage::Plans => Stage::Quiet,
                    Stage::Quiet if self.late_wanted().is_empty() => return Ok(Vec::new()),
                    Stage::Quiet => {
                        record::add(LATE, What::Fault("the late board begins".to_owned()));
                        switches.of(LATE).may_begin.store(true, Ordering::SeqCst);
                        Stage::Late
                    }
                    Stage::Late => return Ok(Vec::new()),
                };
                stage_ends = now + QUIET_WITHIN;
            } else if now > stage_ends {
                return Ok(vec![stage.problem(switches)]);
            }
        }
    }

    /// Where that is the world's fault, a board that begins to fetch loses its link in the middle of it, once.
    fn cut_downloads(&mut self, now: Duration) {
        if !self.cuts_downloads {
            return;
        }
        for board in BOARDS {
            let begins = |entry: &record::Entry| {
                entry.host == board && matches!(&entry.what, What::Seen(text) if text.starts_with("fetching"))
            };
            if !self.cut.contains(&board) && record::any(begins) {
                self.cut.push(board);
                let from = now + Duration::from_millis(self.latencies.within(50..900));
                self.faults.push(Fault {
                    kind: Kind::Cut(vec![board]),
                    from,
                    until: from + Duration::from_secs(2),
                });
            }
        }
    }

    /// Kills hosts, starts them again, freezes and thaws their programs.
    fn switch(&self, sim: &mut Sim<'_>, switches: &Switches, now: Duration) {
        for fault in &self.faults {
            let begins = fault.from <= now && now < fault.from + TICK;
            let ends = fault.until <= now && now < fault.until + TICK;
            if begins || ends {
                record::add("", What::Fault(format!("{fault} {}", if begins { "begins" } else { "ends" })));
            }
            match &fault.kind {
                Kind::Killed(host) if begins => {
                    switches.of(host).off_until(fault.until);
                    sim.crash(*host);
                    sim.bounce(*host);
                }
                Kind::PowerLoss(host) if begins => sim.crash(*host),
                Kind::PowerLoss(host) if ends => sim.bounce(*host),
                Kind::Frozen(host) if begins || ends => wire::freeze(host, begins),
                _ => {}
            }
        }
    }
}

enum Stage {
    Plans,
    Quiet,
    Late,
}

impl Stage {
    fn problem(&self, switches: &Switches) -> String {
        match self {
            Self::Plans => {
                let waiting: Vec<_> =
                    BOARDS.into_iter().filter(|board| !switches.of(board).is_done()).collect();
                format!(
                    "plans of {waiting:?} have not ended {} s after the last fault",
                    PLANS_END_WITHIN.as_secs()
                )
            }
            Self::Quiet => {
                let believed: Vec<_> = EXECUTORS.iter().map(|x| (x, executor_host::believed(x))).collect();
                format!("executors still believe in leases: {believed:?}")
            }
            Self::Late => "what was built is not given to a board that asks for it later".to_owned(),
        }
    }
}

/// What a host is told from outside.
#[derive(Clone, Default)]
struct Switch {
    off_until_us: Arc<AtomicU64>,
    may_begin: Arc<AtomicBool>,
    is_done: Arc<AtomicBool>,
}

impl Switch {
    fn off_until(&self, until: Duration) {
        self.off_until_us.store(u64::try_from(until.as_micros()).unwrap(), Ordering::SeqCst);
    }

    /// Waits until the process is started again.
    async fn on(&self) {
        while record::now() < Duration::from_micros(self.off_until_us.load(Ordering::SeqCst)) {
            tokio::time::sleep(TICK).await;
        }
    }

    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::SeqCst)
    }
}

struct Switches(HashMap<&'static str, Switch>);

impl Default for Switches {
    fn default() -> Self {
        let all = [&[COORDINATOR, LATE], EXECUTORS.as_slice(), BOARDS.as_slice()].concat();
        let switch = || Switch { may_begin: Arc::new(AtomicBool::new(true)), ..Switch::default() };
        Self(all.into_iter().map(|host| (host, switch())).collect())
    }
}

impl Switches {
    fn of(&self, host: &str) -> Switch {
        self.0[host].clone()
    }
}

/// The state of every link, as the network was told.
struct Links(Vec<(&'static str, &'static str, Duration, [Link; 2])>);

impl Links {
    fn new(random: &mut Random) -> Self {
        let hosts = [&[COORDINATOR], EXECUTORS.as_slice(), BOARDS.as_slice(), &[LATE]].concat();
        let mut links = Vec::new();
        for (index, one) in hosts.iter().enumerate() {
            for other in &hosts[index + 1..] {
                let usual = Duration::from_millis(random.within(1..40));
                // None of these: all are told at the first step.
                links.push((*one, *other, usual, [Link::Takes(Duration::MAX); 2]));
            }
        }
        Self(links)
    }

    fn apply(&mut self, sim: &Sim<'_>, faults: &[Fault], now: Duration) {
        let active: Vec<_> = faults.iter().filter(|fault| fault.from <= now && now < fault.until).collect();
        let worst = |from: &str, to: &str| {
            let all = active.iter().map(|fault| fault.link(now, from, to));
            all.max().unwrap_or(Link::Takes(Duration::ZERO))
        };
        for (one, other, usual, told) in &mut self.0 {
            let new = [worst(one, other), worst(other, one)];
            if new == *told {
                continue;
            }
            let is_held = |link: &[Link; 2]| link.contains(&Link::Held);
            if is_held(told) && !is_held(&new) {
                sim.release(*one, *other);
            }
            if !is_held(told) && is_held(&new) {
                sim.hold(*one, *other);
            }
            for (index, (from, to)) in [(*one, *other), (*other, *one)].into_iter().enumerate() {
                match (told[index], new[index]) {
                    (_, Link::Cut) => sim.partition_oneway(from, to),
                    (Link::Cut, _) if is_held(&new) => sim.hold(*one, *other),
                    (Link::Cut, _) => sim.repair_oneway(from, to),
                    (_, _) => {}
                }
            }
            if let Some(longest) = new
                .iter()
                .filter_map(|link| match link {
                    Link::Takes(longer) => Some(*longer),
                    _ => None,
                })
                .max()
            {
                sim.set_link_latency(*one, *other, *usual + longest);
            }
            *told = new;
        }
    }
}
