//! Debian's own kernel 6.1 and systemd in a virtual machine without KVM: cgroup v2 limits, the host's binfmt registration,
//! the executor as a hardened service. One boot, several minutes; the results come over its serial console.
#![expect(clippy::print_stdout, reason = "what was measured in the machine is worth a line")]

mod console;
mod image;

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use console::Console;
use tests::{Lab, run};

/// For a machine that is emulated, on one that others use too.
const LIMIT: Duration = Duration::from_secs(1500);
/// Of the machine; half of it is its root.
const MEMORY: &str = "3072";
const KERNEL_LINE: &str =
    "console=ttyS0 quiet loglevel=1 panic=-1 systemd.unit=test.target systemd.show_status=no";

#[test]
#[ignore = "tier long: a virtual machine, some minutes"]
fn limits_are_in_force_on_debians_kernel_as_a_hardened_service() {
    run("machine", |lab| {
        let console = boot(lab)?;
        host(&console)?;
        service(&console)?;
        limits(&console)?;
        bombs(&console)?;
        measured(&console)?;
        emulation(&console)?;
        restart(&console)
    });
}

/// Runs the machine until it switches itself off.
fn boot(lab: &Lab) -> Result<Console> {
    let initrd = image::make(lab)?;
    let log = lab.logs().join("console.log");
    let started = Instant::now();
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY])
        .args(["-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio", "-append", KERNEL_LINE])
        .arg("-kernel")
        .arg(lab.cache().product("machine/vmlinuz")?)
        .arg("-initrd")
        .arg(&initrd)
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .spawn()
        .context("start qemu-system-x86_64: run `cargo xtask setup --long`")?;
    let ended = loop {
        if let Some(status) = qemu.try_wait()? {
            break Some(status);
        }
        if started.elapsed() > LIMIT {
            qemu.kill()?;
            qemu.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let Some(status) = ended else { bail!("the virtual machine did not end in {LIMIT:?}:\n{}", tail(&text)) };
    ensure!(status.success(), "qemu-system-x86_64: {status}\n{}", tail(&text));
    println!("the virtual machine ran for {:.0} s", started.elapsed().as_secs_f64());
    let console = Console::parse(&text);
    console.part("end").with_context(|| tail(&text))?;
    Ok(console)
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn host(console: &Console) -> Result<()> {
    console.expect("host", &["6.1.", "interpreter /usr/", "flags: POF", "cgroup2fs"])
}

fn service(console: &Console) -> Result<()> {
    console.expect(
        "start",
        &[
            "User=elsewhere",
            "Delegate=yes",
            "ProtectSystem=strict",
            "OOMPolicy=continue",
            "CapEff:\t0000000000000000",
        ],
    )?;
    let limits = "measured by cgroup v2, limited to 256 MiB of memory, 64 processes, CPU weight 50";
    console.expect("start", &["Uid:\t990", limits])
}

fn limits(console: &Console) -> Result<()> {
    console.expect(
        "limits",
        &[
            "memory.max 268435456\n",
            "memory.oom.group 1\n",
            "pids.max 64\n",
            "cpu.weight 50\n",
            "inside 2 outside 3\n",
        ],
    )
}

/// Bombs of memory are an outcome of their own, and nobody else's; a bomb of processes ends at its limit.
fn bombs(console: &Console) -> Result<()> {
    for bomb in ["bombMemory", "bombFiles", "bombChild"] {
        console.expect(
            bomb,
            &[
                "builder ran out of memory: it was ended at the limit of 256 MiB",
                "limits.memory_bytes_max",
                "rc 1",
            ],
        )?;
        ensure!(!console.part(bomb)?.contains("went on"), "{bomb} went on:\n{}", console.part(bomb)?);
        console.expect(&format!("{bomb} innocent"), &["begun", "-innocent-", "1 built"])?;
    }
    console.expect("bombForks", &["the build wanted more than the 64 processes", "limits.processes_max"])?;
    console.expect("plain", &["-plain", "rc 0", "left 0"])
}

/// What was used is in the executor's log, and in the report that the coordinator got.
fn measured(console: &Console) -> Result<()> {
    console.expect("measured", &["rc 0"])?;
    let line = |part: &str| -> Result<String> {
        let text = console.part(part)?;
        let line = text.lines().find(|line| line.contains("-measured"));
        Ok(line.with_context(|| format!("no word of the build `measured`:\n{text}"))?.to_owned())
    };
    for part in ["usage", "reported"] {
        let line = line(part)?;
        let peak = number_after(&line, "\"memory_bytes_peak\":")
            .with_context(|| format!("no peak of memory: {line}"))?;
        ensure!((100 << 20..200 << 20).contains(&peak), "100 MiB were used, {peak} bytes measured: {line}");
        println!("{part}: a build that used 100 MiB is measured with {} MiB", peak >> 20);
    }
    let line = line("usage")?;
    ensure!(line.contains("\"is_of_all\":true"), "{line}");
    ensure!(number_after(&line, "\"user_ms\":").is_some_and(|time| time > 0), "no processor time: {line}");
    Ok(())
}

fn number_after(line: &str, separator: &str) -> Option<u64> {
    let (_, rest) = line.split_once(separator)?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// Kernel 6.1 has no binfmt_misc of a sandbox's own: the host's is used, and said.
fn emulation(console: &Console) -> Result<()> {
    let offered = console.part("start")?;
    for system in ["aarch64-linux", "armv7l-linux", "riscv64-linux"] {
        let line = offered.lines().find(|line| line.contains("offered") && line.contains(system));
        let line = line.with_context(|| format!("{system} is not offered:\n{offered}"))?;
        ensure!(line.contains("qemu 7.2") && line.contains("the host's registration of /usr/"), "{line}");
    }
    console.expect("emulated", &["aarch64\n", "-emulated", "rc 0"])?;
    console.expect("faults", &["before", "due to signal 11 (Segmentation fault)"])
}

/// Delegation works again after a crash and for root; without it the reason is said; nothing stays.
fn restart(console: &Console) -> Result<()> {
    console.expect("restart", &["-again", "rc 0"])?;
    console.expect("self-test-delegated", &["measured by cgroup v2, limited to 256 MiB", "rc 0"])?;
    console.expect(
        "self-test-plain",
        &[
            "not in force: 256 MiB of memory, 64 processes, CPU weight 50",
            "is not delegated to this executor",
            "rc 0",
        ],
    )?;
    let stopped = console.part("stop")?;
    ensure!(
        stopped.contains("No such file") && stopped.trim_end().ends_with("\n0"),
        "something stays:\n{stopped}"
    );
    Ok(())
}
