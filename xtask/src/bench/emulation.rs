//! A call-heavy aarch64 program: the executors' self-contained interpreter against qemu 7.2 with cortex-a72.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{Measured, median};
use crate::cache::Cache;
use crate::command::{capture, command};
use crate::setup::debian;

/// Odd, so that there is a middle.
const ROUNDS: usize = 7;
/// About half a second of emulation.
const DEPTH: &str = "35";
const CPU: &str = "cortex-a72";

/// Builds the program and both interpreters, and takes turns.
pub fn measure(cache: &Cache) -> Result<Measured> {
    debian::old_qemu(cache)?;
    let directory = cache.scratch("bench")?;
    let (program, interpreter) = (directory.join("calls"), directory.join("interpreter"));
    let source = crate::repository().join("xtask/src/bench/calls.c");
    let mut compile =
        command("aarch64-linux-gnu-gcc", &["-O1", "-static", "-mbranch-protection=standard", "-o"]);
    capture(compile.args([&program, &source]))?;
    let programs = ["build", "--quiet", "--workspace", "--bins"];
    capture(command("cargo", &programs).current_dir(crate::repository()))?;
    let executor = crate::target_directory().join("debug/elsewhere-executor");
    let mut make =
        command(executor.to_str().context("name the executor in UTF-8")?, &["interpreter", "--cpu", CPU]);
    make.arg("--qemu").arg(cache.path("qemu/qemu-aarch64")).arg("--output").arg(&interpreter);
    capture(&mut make)?;
    let peer = cache.path(debian::OLD_QEMU);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(seconds(&interpreter, &[program.as_os_str(), OsStr::new(DEPTH)])?);
        let words = [OsStr::new("-cpu"), OsStr::new(CPU), program.as_os_str(), OsStr::new(DEPTH)];
        theirs.push(seconds(&peer, &words)?);
    }
    Ok(Measured {
        name: "emulated calls: self-contained interpreter, against qemu 7.2 with cortex-a72".into(),
        ours_s: median(ours),
        peer_s: median(theirs),
        ratio_max: 2.0,
    })
}

fn seconds(interpreter: &Path, words: &[&OsStr]) -> Result<f64> {
    let started = Instant::now();
    let said = capture(&mut command(interpreter.to_str().context("name the interpreter in UTF-8")?, words))?;
    let took = started.elapsed().as_secs_f64();
    ensure!(said.trim() == "9227465", "the emulated program said {said:?}");
    Ok(took)
}
