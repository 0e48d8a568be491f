//! The benchmarks that are programs of their own: an executor's parts, a coordinator's, and a cluster against real Nix.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::Measured;
use crate::command::command;

/// Compiles them with all optimisations, runs them one after the other, and reads what they found.
pub fn measure() -> Result<Vec<Measured>> {
    let programs = ["executor", "submit", "scheduler", "journal", "admission", "dispatch", "cluster"];
    let mut cargo = command("cargo", &["bench", "--workspace"]);
    cargo.args(programs.iter().flat_map(|program| ["--bench", program]));
    let child =
        cargo.current_dir(crate::repository()).stdout(Stdio::piped()).spawn().context("start cargo")?;
    let finished = child.wait_with_output()?;
    ensure!(finished.status.success(), "cargo bench: {}", finished.status);
    let said = String::from_utf8(finished.stdout).context("read what the benchmarks say")?;
    let found: Vec<Measured> = said.lines().filter_map(parse).collect();
    ensure!(!found.is_empty(), "the benchmarks said nothing: {said}");
    Ok(found)
}

/// `NAME \t OURS \t PEER \t RATIO`, numbers in seconds.
fn parse(line: &str) -> Option<Measured> {
    let (name, numbers) = line.split_once('\t')?;
    let mut numbers = numbers.split('\t').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Measured { name: name.to_owned(), ours_s: next()?, peer_s: next()?, ratio_max: next()? })
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_of_benchmarks_are_read_and_others_are_not() {
        let read = super::parse("a thing, against another\t0.5\t2\t1").unwrap();
        assert_eq!((read.name.as_str(), read.ratio_max), ("a thing, against another", 1.0));
        assert!((read.ratio() - 0.25).abs() < f64::EPSILON);
        assert!(super::parse("running 1 test").is_none());
        assert!(super::parse("a thing\t0.5\tmuch\t1").is_none());
    }
}
