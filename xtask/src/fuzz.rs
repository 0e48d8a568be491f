//! `cargo xtask fuzz`: parsers against a fuzzer that learns from coverage, longer than the property tests in `test` can.

use std::fs;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cache::Cache;
use crate::command::{command, run};

/// `tests/fuzz/targets/NAME.rs`.
const TARGETS: &[&str] = &["chunk", "daemon", "derivation", "nar", "spec", "stdio", "structured"];
/// What libFuzzer needs from the compiler; cargo-fuzz passes the same, and a sanitizer that only nightly has.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1";
/// A single input that takes longer, in seconds, or more memory is a finding.
const INPUT_LIMITS: &[&str] =
    &["-timeout=10", "-rss_limit_mb=1024", "-max_len=65536", "-print_final_stats=1"];

/// What to fuzz.
#[derive(Args)]
pub struct Request {
    /// One parser: chunk, daemon, derivation, nar, spec, stdio or structured; without it each in turn
    target: Option<String>,
    /// For how long, in seconds, each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs them; what they learned is kept in the cache, an input that fails is named.
pub fn fuzz(request: &Request) -> Result<()> {
    let chosen: Vec<&str> = match &request.target {
        None => TARGETS.to_vec(),
        Some(name) => match TARGETS.iter().find(|target| *target == name) {
            Some(target) => vec![target],
            None => bail!("there is no fuzz target '{name}': name one of {}", TARGETS.join(", ")),
        },
    };
    let (cache, root) = (Cache::open()?, crate::repository());
    let directory = crate::target_directory().join("fuzz");
    // With a target named, build scripts and macros are compiled without these flags.
    let triple = "x86_64-unknown-linux-gnu";
    let words = [
        "build",
        "--release",
        "--target",
        triple,
        "--manifest-path",
        "tests/fuzz/Cargo.toml",
        "--target-dir",
    ];
    run(command("cargo", &words).arg(&directory).env("RUSTFLAGS", FLAGS).current_dir(&root))?;
    for target in chosen {
        println!("fuzz: {target} for {} s", request.seconds);
        let corpus = cache.path(&format!("fuzz/{target}"));
        fs::create_dir_all(&corpus).with_context(|| format!("make {}", corpus.display()))?;
        let program = directory.join(triple).join("release").join(target);
        let program = program.to_str().context("name the fuzzer in UTF-8")?;
        let mut fuzzer = command(program, INPUT_LIMITS);
        fuzzer.arg(format!("-max_total_time={}", request.seconds));
        fuzzer.arg(format!("-artifact_prefix={}/", cache.path("fuzz").display())).arg(&corpus);
        let seeds = root.join("tests/fuzz/seeds").join(target);
        if seeds.is_dir() {
            fuzzer.arg(seeds);
        }
        run(&mut fuzzer).with_context(|| {
            format!("{target} failed: the input is the newest file in {}", cache.path("fuzz").display())
        })?;
    }
    Ok(())
}
