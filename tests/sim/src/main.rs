//! `cargo xtask sim`: many seeds on two threads, or one that says all that happens. Fails if a seed fails, if one had too little in it,
//! or if over all seeds a fault never struck beside some kind of event.
#![expect(clippy::print_stdout, reason = "its table is for whoever started it")]
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use sim::{EVENTS_MIN, Options, Scale, Tally};

/// A third of the time of an event is memory that comes and goes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What each world must have.
const TASKS_MIN: u64 = 100;
const FAULTS_MIN: u64 = 5;
/// With so many seeds every fault must have struck beside every kind of event.
const SEEDS_FOR_ALL_PAIRS: u64 = 1_000;
/// Seeds that failed before the rest is left.
const FAILED_MAX: usize = 5;

/// Plays the scheduler through worlds full of faults
#[derive(Parser)]
struct Arguments {
    /// So many worlds, of seeds from --first on
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Only this world: says every event and every fault
    #[arg(long)]
    seed: Option<u64>,
    /// Small worlds: 3 to 30 tasks of stranger shapes, whatever happens in each
    #[arg(long)]
    small: bool,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Shows how often each fault struck before or after each kind of event
    #[arg(long)]
    coverage: bool,
    /// Checks everything after every event, and not by turns: takes twice as long. A single world is always checked so
    #[arg(long)]
    thorough: bool,
    /// Measures what the core takes for an event, and its checks
    #[arg(long)]
    times: bool,
}

/// What came of all worlds.
#[derive(Default)]
struct Sum {
    all: Tally,
    events: Vec<u64>,
    faults: Vec<u64>,
    failed: Vec<u64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let scale = if arguments.small { Scale::Small } else { Scale::Large };
    let is_thorough = arguments.thorough || arguments.seed.is_some();
    let options = Options { scale, has_trouble: true, is_timed: arguments.times, is_thorough, trace: None };
    if let Some(seed) = arguments.seed {
        let tally = sim::play(seed, Options { trace: Some(|line| println!("{line}")), ..options });
        println!("{tally}");
        return enough(&tally, scale);
    }
    let begin = Instant::now();
    let sum = Mutex::new(Sum::default());
    let next = AtomicU64::new(arguments.first);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| play_some(&next, arguments.first + arguments.seeds, options, &sum));
        }
    });
    let sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report(&arguments, sum, begin)
}

/// Plays seeds until there are no more, or too many have failed.
fn play_some(next: &AtomicU64, end: u64, options: Options, sum: &Mutex<Sum>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let played = catch_unwind(|| sim::play(seed, options));
        let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match played {
            Ok(tally) => {
                if let Err(problem) = enough(&tally, options.scale) {
                    println!("seed {seed}: {problem}");
                    sum.failed.push(seed);
                }
                sum.events.push(tally.events_total());
                sum.faults.push(tally.faults_total());
                sum.all.add(&tally);
            }
            Err(_) => sum.failed.push(seed),
        }
        if sum.failed.len() >= FAILED_MAX {
            return;
        }
    }
}

fn enough(tally: &Tally, scale: Scale) -> Result<()> {
    if scale == Scale::Small {
        return Ok(());
    }
    let (events, faults) = (tally.events_total(), tally.faults_total());
    ensure!(tally.tasks >= TASKS_MIN, "{} tasks are too few", tally.tasks);
    ensure!(faults >= FAULTS_MIN, "{faults} faults are too few");
    ensure!(events >= EVENTS_MIN, "{events} events are too few");
    Ok(())
}

fn report(arguments: &Arguments, mut sum: Sum, begin: Instant) -> Result<()> {
    let took = begin.elapsed();
    let worlds = sum.events.len();
    sum.events.sort_unstable();
    sum.faults.sort_unstable();
    let shown = |sorted: &[u64]| {
        let at = |place: usize| sorted.get(place).copied().unwrap_or(0);
        format!("{} (least {}, median {})", sorted.iter().sum::<u64>(), at(0), at(sorted.len() / 2))
    };
    println!(
        "{worlds} worlds in {:.1} s: {} leases, {} of them speculative",
        took.as_secs_f64(),
        sum.all.leases,
        sum.all.speculative
    );
    println!("events: {}, of those {} while no plan lived", shown(&sum.events), sum.all.idle);
    println!("faults: {}", shown(&sum.faults));
    let missing = sum.all.pairs_missing();
    let pairs = sim::EVENTS.len() * sim::Fault::ALL.len();
    println!("pairs of fault and event: {} of {pairs}", pairs - missing.len());
    if arguments.times {
        let events = u32::try_from(sum.all.events_total()).unwrap_or(u32::MAX).max(1);
        let [core, checks] = sum.all.took.map(|took| took / events);
        println!("an event takes the core {core:?}, its invariants {checks:?}");
    }
    if arguments.coverage {
        println!("{}", sum.all);
    }
    for seed in &sum.failed {
        println!("failed: cargo xtask sim{} --seed {seed}", if arguments.small { " --small" } else { "" });
    }
    if !sum.failed.is_empty() {
        bail!("{} seeds failed", sum.failed.len());
    }
    if arguments.seeds >= SEEDS_FOR_ALL_PAIRS && !missing.is_empty() {
        bail!("never: {}", missing.join(", "));
    }
    Ok(())
}
