//! What a task will take: from what was measured of the same derivation, version or package, else from its kind; and how fast each
//! executor turned out to be.
//!
//! A measurement is divided by its executor's slowness before it is kept, so that one sample informs about all. Medians
//! everywhere: a quarter of all builds is far from its mean.
use crate::Measurement;
use crate::arena::{Arena, ExecutorIx, SubjectIx};
use alloc::{
    collections::{BTreeMap, VecDeque},
    string::{String, ToString},
    vec::Vec,
};
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

/// What something was measured of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Name {
    Derivation(StorePath),
    /// Name and version, of one kind: an environment of links may be named as the package that it is for.
    Version(Kind, String),
    /// Name without version.
    Package(Kind, String),
}

#[derive(Debug, Default)]
struct Subject {
    name: Option<Name>,
    /// Natively, and under emulation: that is another thing.
    samples: [Samples; 2],
    /// Tasks that are this.
    tasks: usize,
    /// When it was measured last, counted in measurements.
    age: u64,
}

/// What a task is, for measurements: the nearest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Described {
    subjects: [SubjectIx; 3],
    kind: Kind,
}

impl Default for Described {
    fn default() -> Self {
        Self { subjects: [crate::arena::Place::at(0); 3], kind: Kind::default() }
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Estimates {
    subjects: Arena<SubjectIx, Subject>,
    places: BTreeMap<Name, SubjectIx>,
    /// Measured subjects by age.
    ages: BTreeMap<u64, SubjectIx>,
    /// By kind, without emulation: what ran emulated was not chosen at random.
    kinds: BTreeMap<Kind, Samples>,
    /// Thousandths of what was expected, by executor, natively and emulated.
    slowness: BTreeMap<ExecutorIx, [Samples; 2]>,
    /// Thousandths of the time without emulation.
    emulation: BTreeMap<Kind, Samples>,
    /// Counts measurements.
    measured: u64,
}

impl Default for Estimates {
    fn default() -> Self {
        Self {
            subjects: Arena::new(),
            places: BTreeMap::new(),
            ages: BTreeMap::new(),
            kinds: BTreeMap::new(),
            slowness: BTreeMap::new(),
            emulation: BTreeMap::new(),
            measured: 0,
        }
    }
}

impl Estimates {
    /// How many measurements there were.
    pub(crate) fn measured(&self) -> u64 {
        self.measured
    }

    /// Describes a task, until it is dropped.
    pub(crate) fn describe(&mut self, derivation: &StorePath, name: &str, kind: Kind) -> Described {
        let names = [
            Name::Derivation(derivation.clone()),
            Name::Version(kind, name.to_string()),
            Name::Package(kind, package(name).to_string()),
        ];
        let subjects = names.map(|name| self.subject(name));
        for subject in subjects {
            self.subjects[subject].tasks += 1;
        }
        Described { subjects, kind }
    }

    /// Remembers what was measured before.
    pub(crate) fn restore(&mut self, measurements: &[Measurement]) {
        for measured in measurements {
            let task = self.describe(&measured.derivation, &measured.name, measured.kind);
            self.remember(task, measured.is_emulated, measured.work_ms);
            self.drop_task(task);
        }
    }

    /// A described task is gone.
    pub(crate) fn drop_task(&mut self, task: Described) {
        for place in task.subjects {
            let subject = &mut self.subjects[place];
            subject.tasks = subject.tasks.saturating_sub(1);
            if subject.tasks == 0 && subject.age == 0 {
                self.forget(place);
            }
        }
    }

    fn subject(&mut self, name: Name) -> SubjectIx {
        if let Some(place) = self.places.get(&name) {
            return *place;
        }
        let place = self.subjects.insert(Subject { name: Some(name.clone()), ..Subject::default() });
        self.places.insert(name, place);
        place
    }

    /// Forgets what was not measured for longest, unless a task still is that.
    fn forget_oldest(&mut self) {
        let Some((_, oldest)) = self.ages.pop_first() else { return };
        if self.subjects[oldest].tasks == 0 {
            return self.forget(oldest);
        }
        self.measured += 1;
        self.subjects[oldest].age = self.measured;
        self.ages.insert(self.measured, oldest);
    }

    fn forget(&mut self, place: SubjectIx) {
        let subject = core::mem::take(&mut self.subjects[place]);
        if let Some(name) = subject.name {
            self.places.remove(&name);
        }
        self.ages.remove(&subject.age);
        self.subjects.remove(place);
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
    pub(crate) fn learn(
        &mut self,
        task: Described,
        on: (ExecutorIx, u64, bool),
        took_ms: u64,
    ) -> Measurement {
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
        let [derivation, version, _] = task.subjects.map(|place| self.subjects[place].name.clone());
        let derivation = match derivation {
            Some(Name::Derivation(path)) => path,
            _ => StorePath::from_validated(""),
        };
        let name = match version {
            Some(Name::Version(_, name)) => name,
            _ => String::new(),
        };
        Measurement { derivation, name, kind: task.kind, is_emulated, work_ms }
    }

    /// Remembers what a task takes on an executor that is as fast as most.
    pub(crate) fn remember(&mut self, task: Described, is_emulated: bool, work_ms: u64) {
        self.measured += 1;
        let way = usize::from(is_emulated);
        let native_ms = if is_emulated { unscaled(work_ms, self.emulation(task.kind)) } else { work_ms };
        self.kinds.entry(task.kind).or_default().push_of(native_ms, KIND_SAMPLES_MAX);
        for place in task.subjects {
            // Ages are different for each.
            self.measured += 1;
            let subject = &mut self.subjects[place];
            self.ages.remove(&subject.age);
            subject.age = self.measured;
            subject.samples[way].push(work_ms);
            self.ages.insert(self.measured, place);
        }
        for _ in 0..task.subjects.len() {
            if self.ages.len() > SUBJECTS_MAX {
                self.forget_oldest();
            }
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
        task.subjects.iter().find_map(|place| {
            let samples = &self.subjects[*place].samples;
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
