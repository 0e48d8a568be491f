//! `cargo xtask test`: every promise, in steps; prints what ran, how many tests it was, and how long it took.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::command::{capture, command};
use crate::setup;

/// How far to go.
#[derive(clap::Args, Clone)]
pub struct Request {
    /// Every Nix version, many seeds: the tests see ELSEWHERE_TIER=long
    #[arg(long)]
    pub long: bool,
    /// Only tests whose name contains this
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,
}

#[derive(Default)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
}

struct Step {
    name: String,
    count: Count,
    took: Duration,
    succeeded: bool,
}

/// Sets up, builds, runs everything even when something fails, and fails at the end.
pub fn run(request: &Request) -> Result<()> {
    setup::run()?;
    if request.long {
        setup::old_nix(&setup::NixVersion::ALL)?;
        setup::machine()?;
    }
    let mut steps =
        vec![step("compile", &["build", "--all-targets"], &Request { filter: None, long: request.long })?];
    if steps.iter().all(|step| step.succeeded) {
        steps.push(step("unit", &["test", "--no-fail-fast", "--lib", "--bins"], request)?);
        let programs = test_programs()?;
        let mut others = vec!["test", "--no-fail-fast"];
        let of_crates = programs.iter().filter(|program| !program.brings_up_clusters);
        others.extend(of_crates.flat_map(|program| ["--test", &program.name]));
        steps.push(step("integration", &others, request)?);
        steps.extend(cluster_steps(request)?);
    }
    table(&steps);
    let failed: Vec<&str> =
        steps.iter().filter(|step| !step.succeeded).map(|step| step.name.as_str()).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Only the tests that bring up whole clusters; false when one failed.
pub fn clusters(request: &Request) -> Result<bool> {
    let mut steps =
        vec![step("compile", &["build", "--all-targets"], &Request { filter: None, long: request.long })?];
    if steps.iter().all(|step| step.succeeded) {
        steps.extend(cluster_steps(request)?);
    }
    table(&steps);
    Ok(steps.iter().all(|step| step.succeeded))
}

fn cluster_steps(request: &Request) -> Result<Vec<Step>> {
    // Each brings up hosts with the fixed resources of this machine: one program after the other.
    let programs = test_programs()?;
    let programs = programs.iter().filter(|program| program.brings_up_clusters);
    let run = |program: &TestProgram| {
        step(&program.name, &["test", "--no-fail-fast", "--test", &program.name], request)
    };
    programs.map(run).collect()
}

/// The program whose tests mostly wait, for builders that sleep and for time to pass; and how many of them do so at once.
const WAITING_PROGRAM: &str = "e2e";
const WAITING_THREADS: &str = "4";
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// A program of integration tests.
struct TestProgram {
    name: String,
    /// One of the package `tests`.
    brings_up_clusters: bool,
}

/// The programs of integration tests, as cargo knows them.
fn test_programs() -> Result<Vec<TestProgram>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let said = capture(
        command("cargo", &["metadata", "--format-version=1", "--no-deps"]).current_dir(crate::repository()),
    )?;
    let metadata: Metadata = serde_json::from_str(&said).context("read cargo metadata")?;
    let mut programs = Vec::new();
    for package in metadata.packages {
        let tests =
            package.targets.into_iter().filter(|target| target.kind.iter().any(|kind| kind == "test"));
        programs.extend(
            tests
                .map(|target| TestProgram { name: target.name, brings_up_clusters: package.name == "tests" }),
        );
    }
    Ok(programs)
}

/// One cargo command, its output shown as it comes and its results counted.
fn step(name: &str, arguments: &[&str], request: &Request) -> Result<Step> {
    println!("\n== {name}: cargo {}", arguments.join(" "));
    let started = Instant::now();
    let mut cargo = command("cargo", arguments);
    // Always the whole workspace: a part of it would ask for other features, and compile every dependency again.
    cargo.arg("--workspace").args(&request.filter);
    if arguments.contains(&WAITING_PROGRAM) && std::env::var_os(TEST_THREADS).is_none() {
        cargo.env(TEST_THREADS, WAITING_THREADS);
    }
    if request.long && arguments.first() == Some(&"test") {
        // What is left out of the tier `test` says so by `#[ignore]`.
        cargo.args(["--", "--include-ignored"]);
    }
    let (count, succeeded) = counted(&mut cargo, request.long)?;
    Ok(Step { name: name.to_string(), count, took: started.elapsed(), succeeded })
}

fn counted(cargo: &mut Command, long: bool) -> Result<(Count, bool)> {
    cargo.current_dir(crate::repository()).env("ELSEWHERE_TIER", if long { "long" } else { "test" });
    let mut child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start cargo")?;
    let output = child.stdout.take().context("read what cargo writes")?;
    let mut count = Count::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("read what cargo writes")?;
        println!("{line}");
        count.add(&line);
    }
    Ok((count, child.wait()?.success()))
}

impl Count {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; ...`.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(kind)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match kind {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

fn table(steps: &[Step]) {
    println!("\n{:<16} {:>8} {:>8} {:>8} {:>9}", "step", "passed", "failed", "ignored", "seconds");
    let mut sum = Count::default();
    for step in steps {
        let Count { passed, failed, ignored } = &step.count;
        let mark = if step.succeeded { "" } else { "  FAILED" };
        println!(
            "{:<16} {passed:>8} {failed:>8} {ignored:>8} {:>9.1}{mark}",
            step.name,
            step.took.as_secs_f64()
        );
        sum.passed += passed;
        sum.failed += failed;
        sum.ignored += ignored;
    }
    let took: Duration = steps.iter().map(|step| step.took).sum();
    println!(
        "{:<16} {:>8} {:>8} {:>8} {:>9.1}",
        "all",
        sum.passed,
        sum.failed,
        sum.ignored,
        took.as_secs_f64()
    );
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_are_counted() {
        let check = |lines: &[&str], expected: (u64, u64, u64)| {
            let mut count = super::Count::default();
            lines.iter().for_each(|line| count.add(line));
            assert_eq!((count.passed, count.failed, count.ignored), expected, "{lines:?}");
        };
        let ok =
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.14s";
        let bad = "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.14s";
        check(&[ok, "test a ... ok", bad], (5, 4, 1));
        check(&["nothing passed; 3 failed"], (0, 0, 0));
    }
}
