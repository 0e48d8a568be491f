//! What the demo shows in the end: the result is valid on the board, who built what, bytes, time, the trace.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::demo::Built;
use crate::demo::cluster::Board;
use crate::demo::jaeger::Jaeger;
use crate::demo::trace::Trace;

/// The span of one build on an executor, and its attribute that the summary counts.
const TASK_SPAN: &str = "build";
const TASK_ATTRIBUTE: &str = "platform";
/// The span in it of what ran in a sandbox, which has what was used.
const SANDBOX_SPAN: &str = "sandbox";
/// Programs write and send their spans once a second.
const SPANS_ARRIVE: Duration = Duration::from_secs(3);

/// Checks the result and prints the summary.
pub fn print(
    board: &Board,
    jaeger: Option<&Jaeger>,
    files: &[(String, PathBuf)],
    built: &Built,
) -> Result<()> {
    ensure!(!built.paths.is_empty(), "the client printed no path");
    for path in &built.paths {
        let closure = board.verify(path)?;
        println!("board$ nix-store --verify-path: {path} and {} paths below it are valid", closure.len() - 1);
    }
    let all = board.valid_paths()?;
    let derivations = all.iter().filter(|(path, _)| path.ends_with(".drv")).count();
    println!(
        "\nthe board's store holds {} paths: {derivations} derivations, {} sources and results",
        all.len(),
        all.len() - derivations
    );

    std::thread::sleep(SPANS_ARRIVE);
    let trace = Trace::read(files)?;
    println!("\n{:<36} {:>5} {:>12} {:>14}", "platform and executor", "tasks", "CPU time", "most memory");
    let times = trace.numbers(SANDBOX_SPAN, TASK_ATTRIBUTE, "cpu_ms");
    let peaks = trace.numbers(SANDBOX_SPAN, TASK_ATTRIBUTE, "memory_bytes_peak");
    for (key, count) in trace.count(TASK_SPAN, TASK_ATTRIBUTE) {
        let (platform, executor) = key;
        let cpu_ms: u64 = times.get(&key).into_iter().flatten().sum();
        let peak = peaks.get(&key).into_iter().flatten().max().copied().unwrap_or_default();
        println!(
            "{:<36} {count:>5} {:>10.1} s {:>10} MiB",
            format!("{platform} on {executor}"),
            Duration::from_millis(cpu_ms).as_secs_f64(),
            peak >> 20
        );
    }
    println!("\n{:<36} {:>12} bytes", "over the board's link, up", built.sent_bytes);
    println!("{:<36} {:>12} bytes", "over the board's link, down", built.received_bytes);
    println!(
        "{:<36} {:>12} bytes",
        "content of the board's store",
        all.iter().map(|(_, size)| size).sum::<u64>()
    );
    println!("{:<36} {:>12.1} s", "from command to result", built.took.as_secs_f64());

    let (spans, services) = trace.size();
    let Some(id) = trace.id() else {
        println!("\nno trace was written");
        return Ok(());
    };
    println!("\none trace of {spans} spans from {}:", services.join(", "));
    match jaeger {
        Some(jaeger) => {
            let arrived = wait_for(jaeger, id, spans)?;
            println!("  {} ({arrived} spans)", jaeger.address(id));
        }
        None => trace.waterfall().iter().for_each(|line| println!("  {line}")),
    }
    Ok(())
}

/// Programs send their spans a moment after they ended.
fn wait_for(jaeger: &Jaeger, trace: &str, spans: usize) -> Result<usize> {
    let started = Instant::now();
    loop {
        let arrived = jaeger.span_count(trace).unwrap_or(0);
        if arrived >= spans || started.elapsed() > Duration::from_secs(15) {
            ensure!(arrived > 0, "the trace {trace} did not arrive in Jaeger");
            return Ok(arrived);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
