//! What goes wrong, when, and for how long: from a seed.
use crate::random::Random;
use std::fmt;
use std::time::Duration;

/// The coordinator's host.
pub const COORDINATOR: &str = "coordinator";
/// The executors' hosts.
pub const EXECUTORS: [&str; 3] = ["x0", "x1", "x2"];
/// The boards' hosts.
pub const BOARDS: [&str; 2] = ["b0", "b1"];

/// A kind of trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing passes between the hosts and all others: what is sent is lost for ever, who connects is refused.
    Cut(Vec<&'static str>),
    /// Nothing passes from the first to the second.
    OneWay(&'static str, &'static str),
    /// What is sent between the host and all others arrives when the trouble is over.
    Held(&'static str),
    /// The link to the coordinator comes and goes every second; what is sent meanwhile is late.
    Flapping(&'static str),
    /// The link to the coordinator comes and goes every second; what is sent meanwhile is lost.
    Breaking(&'static str),
    /// The process is killed and starts again: meanwhile who connects is refused.
    Killed(&'static str),
    /// The host loses its power, and nobody hears of it: others' connections stay half-open.
    PowerLoss(&'static str),
    /// The process reads nothing, and goes on otherwise.
    Frozen(&'static str),
    /// Everything takes that long between the host and the coordinator.
    Slow(&'static str, Duration),
}

/// A trouble with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// From then on.
    pub from: Duration,
    /// Until then.
    pub until: Duration,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, from, until } = self;
        write!(f, "{kind:?} for {:.1} s", (*until - *from).as_secs_f64())
    }
}

impl Fault {
    /// The faults of a seed, in order. One seed of sixteen has none.
    pub fn of_seed(seed: u64, random: &mut Random) -> Vec<Self> {
        if seed.is_multiple_of(16) {
            return Vec::new();
        }
        let mut faults: Vec<Self> = (0..random.within(1..6)).map(|_| Self::one(random)).collect();
        faults.sort_by_key(|fault| fault.from);
        // A host that is off cannot be killed.
        let mut off: Vec<(&str, Duration)> = Vec::new();
        faults.retain(|fault| match &fault.kind {
            Kind::Killed(host) | Kind::PowerLoss(host) => {
                let is_on = !off
                    .iter()
                    .any(|(other, until)| other == host && *until + Duration::from_secs(1) > fault.from);
                if is_on {
                    off.push((host, fault.until));
                }
                is_on
            }
            _ => true,
        });
        faults
    }

    fn one(random: &mut Random) -> Self {
        let hosts = [COORDINATOR, EXECUTORS[0], EXECUTORS[1], EXECUTORS[2], BOARDS[0], BOARDS[1]];
        let not_coordinator = &hosts[1..];
        let executor = random.of(&EXECUTORS);
        let kind = match random.within(0..11) {
            0 => Kind::Cut(vec![random.of(&hosts)]),
            1 => Kind::Cut(hosts.to_vec()),
            2 if random.percent(50) => Kind::OneWay(COORDINATOR, random.of(not_coordinator)),
            2 => Kind::OneWay(random.of(not_coordinator), COORDINATOR),
            3 => Kind::Held(random.of(&hosts)),
            4 => Kind::Flapping(random.of(not_coordinator)),
            5 => Kind::Breaking(random.of(not_coordinator)),
            6 => Kind::Killed(random.of(&[COORDINATOR, COORDINATOR, executor, BOARDS[0]])),
            7 => Kind::PowerLoss(random.of(&[COORDINATOR, executor, executor, BOARDS[1]])),
            8 => Kind::Frozen(random.of(&hosts)),
            9 => {
                let latency = Duration::from_millis(random.of(&[300, 1_000, 2_500]));
                Kind::Slow(random.of(not_coordinator), latency)
            }
            _ => Kind::OneWay(executor, random.of(&[COORDINATOR, EXECUTORS[0], EXECUTORS[1]])),
        };
        let from = Duration::from_millis(random.within(500..25_000));
        let lasts = match random.within(0..4) {
            0 => random.within(200..2_000),
            1 | 2 => random.within(2_000..12_000),
            _ => random.within(12_000..40_000),
        };
        Self { kind, from, until: from + Duration::from_millis(lasts) }
    }

    /// Whether it touches a host.
    pub fn touches(&self, host: &str) -> bool {
        match &self.kind {
            Kind::Cut(hosts) => hosts.contains(&host),
            Kind::OneWay(from, to) => *from == host || *to == host,
            Kind::Held(one)
            | Kind::Flapping(one)
            | Kind::Breaking(one)
            | Kind::Killed(one)
            | Kind::PowerLoss(one)
            | Kind::Frozen(one)
            | Kind::Slow(one, _) => *one == host,
        }
    }

    /// What it does to messages from one host to another at some time.
    pub fn link(&self, now: Duration, from: &str, to: &str) -> Link {
        let passed = now.saturating_sub(self.from).as_millis();
        let is_odd = (passed / 1_000).is_multiple_of(2);
        let is_between =
            |host: &str| (from == host && to == COORDINATOR) || (to == host && from == COORDINATOR);
        match &self.kind {
            Kind::Cut(hosts) if hosts.contains(&from) || hosts.contains(&to) => Link::Cut,
            Kind::OneWay(one, other) if *one == from && *other == to => Link::Cut,
            Kind::PowerLoss(host) if *host == from || *host == to => Link::Cut,
            Kind::Held(host) if *host == from || *host == to => Link::Held,
            Kind::Flapping(host) if is_odd && is_between(host) => Link::Held,
            Kind::Breaking(host) if is_odd && is_between(host) => Link::Cut,
            Kind::Slow(host, latency) if is_between(host) => Link::Takes(*latency),
            _ => Link::Takes(Duration::ZERO),
        }
    }
}

/// What happens to messages of a link; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// They take so much longer than usual.
    Takes(Duration),
    /// They wait.
    Held,
    /// They are lost.
    Cut,
}
