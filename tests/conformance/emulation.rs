//! What an emulated build sees of its processor and emulator: always the same model, and nothing that it could steer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Board, BoardSpec, Cluster, ClusterSpec, ExecutorSpec, Lab, run};

use crate::{cases, layout};

const LIMIT: Duration = Duration::from_secs(120);
/// Kinds of cases, with AT_HWCAP of the processor that is emulated: Cortex-A72, Cortex-A7, SiFive U54.
const HWCAPS: [(&str, &str); 3] =
    [("emulated", "hwcap 8fb\n"), ("armv7l", "hwcap 1fb8d7\n"), ("riscv64", "hwcap 112d\n")];
const CASES: [&str; 5] =
    ["processor", "processorSteered", "steeringIsVisible", "steeringChildren", "nothingOfTheEmulator"];

#[test]
fn an_emulated_build_cannot_see_or_change_its_emulation() {
    run("emulation", |lab| {
        let (_cluster, board, cases) = built(lab)?;
        for (kind, hwcap) in HWCAPS {
            let read = |name: &str| -> Result<String> {
                let path = cases[&format!("{kind}.{name}")].outputs.get("out").context("no output")?;
                Ok(std::fs::read_to_string(board.host.outside(path))?)
            };
            check(hwcap, read).with_context(|| format!("cases {kind}"))?;
        }
        Ok(())
    });
}

fn check(hwcap: &str, read: impl Fn(&str) -> Result<String>) -> Result<()> {
    let plain = read("processor")?;
    ensure!(plain.starts_with(hwcap), "the processor is another one:\n{plain}");
    ensure!(plain == read("processorSteered")?, "QEMU_CPU and others change what a build sees");
    let children = read("steeringChildren")?;
    ensure!(
        children == format!("{plain}errors\nfacts\nown\n"),
        "variables change what a child sees, or write a log:\n{children}"
    );
    let environment = read("steeringIsVisible")?;
    for variable in ["QEMU_CPU=max", "QEMU_STRACE=1", "QEMU_GUEST_BASE=x"] {
        ensure!(environment.lines().any(|line| line == variable), "{variable} is gone:\n{environment}");
    }
    let around = read("nothingOfTheEmulator")?;
    ensure!(
        !around.to_lowercase().contains("qemu") && !around.lines().any(|line| line == "register"),
        "something of the emulator shows:\n{around}"
    );
    Ok(())
}

/// Builds emulated cases on a cluster whose one executor only emulates.
fn built(lab: &Lab) -> Result<(Cluster, Board, cases::Cases)> {
    let directory = layout::make(lab)?;
    let executor = ExecutorSpec { native: false, cross: false, ..ExecutorSpec::new("emulator") };
    let cluster = Cluster::start(lab, ClusterSpec { executors: vec![executor], ..ClusterSpec::default() })?;
    let binds = vec![layout::bind(&directory)];
    let board = cluster.board(BoardSpec { name: "board".into(), binds, ..BoardSpec::default() })?;
    let cases = cases::instantiate(&board.store())?;
    let mut arguments = vec!["build", "--no-out-link"];
    for (kind, _) in HWCAPS {
        for name in CASES {
            let case = cases.get(&format!("{kind}.{name}")).with_context(|| format!("no case {name}"))?;
            arguments.push(&case.derivation);
        }
    }
    cluster.client(&board).run(LIMIT, &arguments)?.success()?;
    Ok((cluster, board, cases))
}
