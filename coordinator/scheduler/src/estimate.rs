//! What a task will take: from what was measured of the same derivation, version or package, else from its kind; and how fast each
//! executor turned out to be.
//!
//! A measurement is divided by its executor's slowness before it is kept, so that one sample informs about all. Medians
//! everywhere: a quarter of all builds is far from its mean.
use crate::Measurement;
use crate::arena::ExecutorIx;
use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use model::{Kind, Platform, StorePath};

/// Measurements of one subject that count.
const SAMPLES_MAX: usize = 32;
/// Subjects that are remembered; those that were not measured for longest are forgotten first.
const SUBJECTS_MAX: usize = 200_000;
/// Ratios are counted in thousandths.
const UNIT: u64 = 1000;
/// What a build takes longer under emulation until that was measured: forks most, downloads not at all.
const EMULATION: u64 = 9 * UNIT;
const EMULATION_OF_TINY: u64 = 16 * UNIT;
/// How many measurements the belief weighs that an executor or emulation is as it usually is.
const BELIEF: usize = 4;
/// Measurements of a kind that replace what is believed of it, and those that count.
const KIND_SAMPLES_MIN: usize = 8;
const KIND_SAMPLES_MAX: usize = 256;
/// A peak of memory counts by one part in this many less with each build that stays below it.
const FADING: u64 = 8;
/// One part in this many more than the peak is kept free.
const HEAD_ROOM: u64 = 4;
/// Bytes in a millisecond that an executor fetches until that was measured: nearly a gigabit a second.
const USUAL_RATE: u64 = 100_000;
/// Less than so many bytes says more about round trips than about links.
const FETCHED_MIN: u64 = 1 << 20;
/// Nothing takes no time at all.
const LEAST_MS: u64 = 10;

/// Measurements, newest last.
#[derive(Clone, Debug, Default)]
struct Samples {
    last: VecDeque<u64>,
    median: u64,
}

impl Samples {
    fn push(&mut self, sample: u64) {
        self.push_of(sample, SAMPLES_MAX);
    }

    /// Keeps so many.
    fn push_of(&mut self, sample: u64, samples_max: usize) {
        if self.last.len() >= samples_max {
            self.last.pop_front();
        }
        self.last.push_back(sample);
        self.median = median(self.last.iter().copied());
    }

    fn known(&self) -> Option<u64> {
        (!self.last.is_empty()).then_some(self.median)
    }
}

fn median(samples: impl Iterator<Item = u64>) -> u64 {
    let mut sorted: Vec<u64> = samples.collect();
    sorted.sort_unstable();
    match (sorted.get(sorted.len() / 2), sorted.get(sorted.len().saturating_sub(1) / 2)) {
        (Some(upper), Some(lower)) => lower.midpoint(*upper),
        _ => 0,
    }
}

/// What stands for a derivation, a version or a package.
type Key = u64;

/// One that was measured.
#[derive(Debug, Default)]
struct Subject {
    /// Natively, and under emulation: that is another thing.
    samples: [Samples; 2],
    /// When it was measured last, counted in measurements.
    age: u64,
    /// The most memory that it had at once, in bytes; what is long ago counts less.
    memory_bytes: u64,
}

/// What a task is, for measurements: its derivation, its name with version, its name without.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Described {
    keys: [Key; 3],
    kind: Kind,
}

impl Described {
    /// Name and version, and the name alone, count within one kind: an environment of links may be named as the package that it
    /// is for.
    pub(crate) fn new(derivation: &StorePath, name: &str, kind: Kind) -> Self {
        let of_kind = match kind {
            Kind::Tiny => 1,
            Kind::Fetch => 2,
            Kind::Build => 3,
            Kind::Heavy => 4,
        };
        let keys = [key(0, 0, derivation.as_str()), key(1, of_kind, name), key(2, of_kind, package(name))];
        Self { keys, kind }
    }

    pub(crate) fn kind(self) -> Kind {
        self.kind
    }
}

/// FNV-1a. Should two names come to the same, builds are expected to take what others took: no more.
fn key(way: u8, kind: u8, name: &str) -> Key {
    let bytes = [way, kind].into_iter().chain(name.bytes());
    bytes
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Estimates {
    subjects: HashMap<Key, Box<Subject>, FixedState>,
    /// Subjects by age.
    ages: BTreeMap<u64, Key>,
    /// By kind, without emulation: what ran emulated was not chosen at random.
    kinds: BTreeMap<Kind, Samples>,
    /// Thousandths of what was expected, by executor, natively and emulated.
    slowness: BTreeMap<ExecutorIx, [Samples; 2]>,
    /// Thousandths of the time without emulation.
    emulation: BTreeMap<Kind, Samples>,
    /// Bytes of inputs that each executor fetches in a millisecond.
    rates: BTreeMap<ExecutorIx, Samples>,
    /// Counts measurements.
    measured: u64,
}

impl Estimates {
    /// Nothing was measured. With a secret number, so that nobody can choose names that are slow to find.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { subjects: HashMap::with_hasher(FixedState::with_seed(seed)), ..Self::default() }
    }

    /// How many measurements there were.
    pub(crate) fn measured(&self) -> u64 {
        self.measured
    }

    /// Remembers what was measured before.
    pub(crate) fn restore(&mut self, measurements: &[Measurement]) {
        for measured in measurements {
            let task = Described::new(&measured.derivation, &measured.name, measured.kind);
            self.remember(task, measured.is_emulated, measured.work_ms);
            self.needed_memory(task, measured.memory_bytes);
        }
    }

    /// An executor fetched so many bytes in so long.
    pub(crate) fn fetched(&mut self, executor: ExecutorIx, bytes: u64, took_ms: u64) {
        if bytes >= FETCHED_MIN {
            self.rates.entry(executor).or_default().push(bytes / took_ms.max(1));
        }
    }

    /// How long an executor takes to fetch so many bytes, in milliseconds.
    pub(crate) fn fetch_ms(&self, executor: ExecutorIx, bytes: u64) -> u64 {
        let measured = self.rates.get(&executor).and_then(Samples::known);
        bytes / measured.unwrap_or(USUAL_RATE).max(1)
    }

    /// A build had so much memory at once; 0: nobody knows.
    pub(crate) fn needed_memory(&mut self, task: Described, bytes: u64) {
        for key in task.keys.iter().filter(|_| bytes > 0) {
            if let Some(subject) = self.subjects.get_mut(key) {
                subject.memory_bytes = bytes.max(subject.memory_bytes - subject.memory_bytes / FADING);
            }
        }
    }

    /// A build ended for want of memory, and needs at least so much.
    pub(crate) fn needs_memory(&mut self, task: Described, bytes: u64) {
        for key in task.keys {
            if let Some(subject) = self.subjects.get_mut(&key) {
                subject.memory_bytes = subject.memory_bytes.max(bytes - bytes / (HEAD_ROOM + 1));
            }
        }
    }

    /// What a task is expected to need, with head room, in bytes; 0 when nobody knows.
    pub(crate) fn memory_bytes(&self, task: Described) -> u64 {
        let known = task.keys.iter().filter_map(|key| Some(self.subjects.get(key)?.memory_bytes));
        let nearest = known.into_iter().find(|bytes| *bytes > 0).unwrap_or(0);
        nearest.saturating_add(nearest / HEAD_ROOM)
    }

    /// What a task takes on an executor that is as fast as most.
    pub(crate) fn work_ms(&self, task: Described, is_emulated: bool) -> u64 {
        let known = self.known_ms(task, is_emulated);
        known.unwrap_or_else(|| self.believed_ms(task.kind, is_emulated)).max(LEAST_MS)
    }

    /// What a task takes on one executor, given what it takes on most. `speed` is what the executor says of itself.
    pub(crate) fn on_ms(&self, work_ms: u64, executor: ExecutorIx, speed: u64, is_emulated: bool) -> u64 {
        scaled(work_ms, self.slowness(executor, speed, is_emulated)).max(LEAST_MS)
    }

    /// The other way round: what it takes on most, given what it takes on one.
    pub(crate) fn off_ms(&self, took_ms: u64, executor: ExecutorIx, speed: u64, is_emulated: bool) -> u64 {
        unscaled(took_ms, self.slowness(executor, speed, is_emulated))
    }

    /// Whether the derivation, its version or its package was measured.
    pub(crate) fn is_known(&self, task: Described) -> bool {
        self.nearest(task, false).is_some()
    }

    /// Learns from a build that took so long. Gives what it would take on an executor that is as fast as most.
    pub(crate) fn learn(&mut self, task: Described, on: (ExecutorIx, u64, bool), took_ms: u64) -> u64 {
        let (executor, speed, is_emulated) = on;
        let took_ms = took_ms.max(1);
        let advertised = advertised(speed);
        let of_executor = |estimates: &mut Self, ratio: u64| {
            let samples = &mut estimates.slowness.entry(executor).or_default()[usize::from(is_emulated)];
            if samples.last.is_empty() {
                // What it says of itself weighs as much as a few measurements.
                (0..BELIEF).for_each(|_| samples.push(advertised));
            }
            samples.push(ratio);
        };
        // Only what was measured before says something about this executor, and about emulation.
        match self.nearest(task, is_emulated) {
            Some((known_ms, true)) => of_executor(self, ratio(took_ms, known_ms)),
            Some((native_ms, false)) if is_emulated => {
                let without_ms = unscaled(took_ms, self.slowness(executor, speed, true));
                let expected_ms = scaled(native_ms, self.emulation(task.kind));
                let samples = self.emulation.entry(task.kind).or_default();
                if samples.last.is_empty() {
                    (0..BELIEF).for_each(|_| samples.push(usual_emulation(task.kind)));
                }
                samples.push(ratio(without_ms, native_ms));
                of_executor(self, ratio(took_ms, expected_ms));
            }
            _ => {}
        }
        let work_ms = self.off_ms(took_ms, executor, speed, is_emulated).max(1);
        self.remember(task, is_emulated, work_ms);
        work_ms
    }

    /// Remembers what a task takes on an executor that is as fast as most.
    pub(crate) fn remember(&mut self, task: Described, is_emulated: bool, work_ms: u64) {
        self.measured += 1;
        let way = usize::from(is_emulated);
        let native_ms = if is_emulated { unscaled(work_ms, self.emulation(task.kind)) } else { work_ms };
        self.kinds.entry(task.kind).or_default().push_of(native_ms, KIND_SAMPLES_MAX);
        for key in task.keys {
            // Ages are different for each.
            self.measured += 1;
            let subject = self.subjects.entry(key).or_default();
            self.ages.remove(&subject.age);
            subject.age = self.measured;
            subject.samples[way].push(work_ms);
            self.ages.insert(self.measured, key);
        }
        while self.ages.len() > SUBJECTS_MAX {
            let Some((_, oldest)) = self.ages.pop_first() else { break };
            self.subjects.remove(&oldest);
        }
    }

    fn known_ms(&self, task: Described, is_emulated: bool) -> Option<u64> {
        let (known_ms, is_same_way) = self.nearest(task, is_emulated)?;
        let emulation = self.emulation(task.kind);
        Some(match (is_same_way, is_emulated) {
            (true, _) => known_ms,
            (false, true) => scaled(known_ms, emulation),
            (false, false) => unscaled(known_ms, emulation),
        })
    }

    /// What was measured of the nearest subject, and whether it ran the same way.
    fn nearest(&self, task: Described, is_emulated: bool) -> Option<(u64, bool)> {
        task.keys.iter().find_map(|key| {
            let samples = &self.subjects.get(key)?.samples;
            let of = |way: bool| samples[usize::from(way)].known().map(|known| (known, way == is_emulated));
            of(is_emulated).or(of(!is_emulated))
        })
    }

    /// What a kind takes, before anything of the package was measured.
    fn believed_ms(&self, kind: Kind, is_emulated: bool) -> u64 {
        let samples = self.kinds.get(&kind).filter(|samples| samples.last.len() >= KIND_SAMPLES_MIN);
        let native_ms = samples.map(|samples| samples.median).unwrap_or(match kind {
            Kind::Tiny => 120,
            Kind::Fetch => 1_500,
            Kind::Build => 25_000,
            Kind::Heavy => 900_000,
        });
        if is_emulated { scaled(native_ms, self.emulation(kind)) } else { native_ms }
    }

    fn emulation(&self, kind: Kind) -> u64 {
        let measured = self.emulation.get(&kind).and_then(Samples::known);
        measured.unwrap_or_else(|| usual_emulation(kind))
    }

    /// Thousandths of the time that most executors take.
    fn slowness(&self, executor: ExecutorIx, speed: u64, is_emulated: bool) -> u64 {
        let ways = self.slowness.get(&executor);
        let same = ways.and_then(|ways| ways[usize::from(is_emulated)].known());
        // How it emulates says something about the rest, too.
        let other = ways.and_then(|ways| ways[usize::from(!is_emulated)].known());
        same.or(other).unwrap_or_else(|| advertised(speed))
    }
}

fn advertised(speed: u64) -> u64 {
    UNIT * UNIT / speed.clamp(10, 100_000)
}

fn usual_emulation(kind: Kind) -> u64 {
    match kind {
        Kind::Fetch => UNIT,
        Kind::Tiny => EMULATION_OF_TINY,
        Kind::Build | Kind::Heavy => EMULATION,
    }
}

/// A name without its version, which begins with the first dash that no letter follows.
fn package(name: &str) -> &str {
    let bytes = name.as_bytes();
    let is_version =
        |at: &usize| bytes[*at] == b'-' && bytes.get(at + 1).is_some_and(|next| !next.is_ascii_alphabetic());
    let end = (0..bytes.len()).find(is_version).unwrap_or(bytes.len());
    name.get(..end).unwrap_or(name)
}

fn scaled(ms: u64, thousandths: u64) -> u64 {
    ms.saturating_mul(thousandths) / UNIT
}

fn unscaled(ms: u64, thousandths: u64) -> u64 {
    ms.saturating_mul(UNIT) / thousandths.max(1)
}

fn ratio(took_ms: u64, expected_ms: u64) -> u64 {
    (took_ms.saturating_mul(UNIT) / expected_ms.max(1)).clamp(1, 1_000_000)
}

/// Whether builds on a platform are emulated.
pub(crate) fn is_emulated(platform: &Platform) -> bool {
    matches!(platform, Platform::Emulated(_))
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
