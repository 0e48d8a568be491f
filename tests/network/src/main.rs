//! Whole clusters over a simulated network: the real programs' parts, the real gRPC, faults and a clock from a seed.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod board_host;
mod check;
mod executor_host;
mod fault;
mod graph;
mod random;
mod record;
mod wire;
mod world;

use anyhow::Context;
use clap::Parser;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Worlds from seeds; fails when one of them does.
#[derive(Parser, Debug)]
struct Arguments {
    /// So many worlds
    #[arg(long, default_value_t = 60)]
    seeds: u64,
    /// From this seed on
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// No new world after so many seconds
    #[arg(long, default_value_t = 50)]
    seconds: u64,
    /// One world, and all that happens in it
    #[arg(long)]
    seed: Option<u64>,
    /// With `--seed`: say whether two runs are the same
    #[arg(long, requires = "seed")]
    twice: bool,
    /// With `--seed`: what the programs say in detail, too
    #[arg(long, requires = "seed")]
    debug: bool,
    /// With `--seed`: only the result
    #[arg(long, hide = true, requires = "seed")]
    brief: bool,
    /// What a harness would be told: names of tests, and its options
    #[arg(hide = true, trailing_var_arg = true)]
    filter: Vec<String>,
}

/// Worlds at once.
const WORLDS_AT_ONCE: usize = 2;
/// What the last line of a world's process begins with.
const RESULT: &str = "world ";

fn main() -> anyhow::Result<ExitCode> {
    // cargo gives every test program the same words.
    let words = std::env::args().filter(|word| word != "--include-ignored");
    let arguments = Arguments::parse_from(words);
    if arguments.filter.iter().any(|filter| !"network-worlds".contains(filter.as_str())) {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
        return Ok(ExitCode::SUCCESS);
    }
    match arguments.seed {
        Some(seed) if arguments.twice => twice(seed),
        Some(seed) => one(seed, &arguments),
        None => many(&arguments),
    }
}

/// Lives one world in this process.
fn one(seed: u64, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let level = if arguments.debug { tracing::Level::DEBUG } else { tracing::Level::INFO };
    tracing_subscriber::registry().with(record::Listener { level }).init();
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    node::task::use_threads(threads.handle().clone());
    // In memory: what is tested is not the disk.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let begun = Instant::now();
    let world = world::World::new(seed, directory.path());
    let faults: Vec<String> =
        world.faults.iter().map(|fault| format!("{:.1} s: {fault}", fault.from.as_secs_f64())).collect();
    let problems = world.run()?;
    if !arguments.brief || !problems.is_empty() {
        let mut out = std::io::stdout().lock();
        for entry in record::all() {
            writeln!(out, "{}", record::line(&entry))?;
        }
    }
    problems.iter().for_each(|problem| println!("problem: {problem}"));
    let seen = check::seen(&record::all());
    println!(
        "{RESULT}{seed}: {} problems, {seen}; faults {faults:?}, {:.1} s of virtual time in {:.2} s, {} events, fingerprint {:016x}",
        problems.len(),
        record::now().as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        record::all().len(),
        record::fingerprint()
    );
    threads.shutdown_background();
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where all is kept that happened in a world that failed: another run of its seed is not quite the same.
fn trace(seed: u64) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("network-seed-{seed}.log"))
}

fn child(seed: u64) -> anyhow::Result<(bool, String)> {
    let program = std::env::current_exe().context("find this program")?;
    let seed_text = seed.to_string();
    let mut command = Command::new(program);
    let output = command
        .args(["--brief", "--seed", &seed_text])
        .stdin(Stdio::null())
        .output()
        .context("run a world")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

fn result(text: &str) -> &str {
    text.lines().find(|line| line.starts_with(RESULT)).unwrap_or("no result")
}

/// What was seen in a world, as its result says it.
fn numbers(result: &str) -> Vec<u64> {
    let seen = result.split(';').next().unwrap_or_default().rsplit(',').next().unwrap_or_default();
    seen.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn twice(seed: u64) -> anyhow::Result<ExitCode> {
    let (first, second) = (child(seed)?.1, child(seed)?.1);
    println!("{}\n{}", result(&first), result(&second));
    let fingerprint = |text: &str| result(text).rsplit(' ').next().map(str::to_owned);
    let is_same = fingerprint(&first) == fingerprint(&second);
    println!(
        "{}",
        if is_same { "the same events in the same order" } else { "not the same order of events" }
    );
    Ok(ExitCode::SUCCESS)
}

/// Lives many worlds, each in a process of its own.
fn many(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let seeds = Mutex::new(arguments.from..arguments.from + arguments.seeds);
    let failed = Mutex::new(Vec::new());
    let done = Mutex::new(0u64);
    let seen = Mutex::new([0u64; check::SEEN.len()]);
    let work = || -> anyhow::Result<()> {
        while begun.elapsed() < Duration::from_secs(arguments.seconds)
            && let Some(seed) = { seeds.lock().unwrap().next() }
        {
            let (succeeded, text) = child(seed)?;
            *done.lock().unwrap() += 1;
            for (total, number) in seen.lock().unwrap().iter_mut().zip(numbers(result(&text))) {
                *total += number;
            }
            if !succeeded {
                std::fs::write(trace(seed), &text).context("keep what happened")?;
                failed.lock().unwrap().push((seed, text));
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORLDS_AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap())
    })?;
    let (failed, done) = (failed.into_inner()?, done.into_inner()?);
    for (seed, text) in &failed {
        let problems: Vec<&str> =
            text.lines().filter(|line| line.starts_with("problem: ") || line.contains("panicked")).collect();
        println!("seed {seed} failed: {problems:#?}\n  {}", result(text));
        println!("  all that happened: {}", trace(*seed).display());
    }
    let is_good = failed.is_empty();
    let seen = seen.into_inner()?;
    for (what, times) in check::SEEN.iter().zip(seen) {
        println!("{times:6} {what}");
    }
    println!(
        "{done} worlds, {} failed, in {:.1} s\n\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        failed.len(),
        begun.elapsed().as_secs_f64(),
        if is_good { "ok" } else { "FAILED" },
        u8::from(is_good),
        u8::from(!is_good)
    );
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
