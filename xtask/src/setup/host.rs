//! Debian packages on this machine: looks first, installs only what is missing.

use anyhow::{Context, Result, bail};

use crate::command::{capture, command, exists};

/// A package, and the program whose presence makes it unnecessary.
const PACKAGES: &[(&str, &str)] = &[
    ("nix-bin", "nix-store"),
    ("uidmap", "newuidmap"),
    ("mmdebstrap", "mmdebstrap"),
    ("iproute2", "ip"),
    ("slirp4netns", "slirp4netns"),
    ("gcc", "gcc"),
    ("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
    ("gcc-arm-linux-gnueabihf", "arm-linux-gnueabihf-gcc"),
    ("gcc-riscv64-linux-gnu", "riscv64-linux-gnu-gcc"),
    ("xz-utils", "xz"),
    ("zstd", "zstd"),
    ("unzip", "unzip"),
    ("python3", "python3"),
];

/// What only the virtual machine of the tier `long` needs.
const FOR_MACHINE: &[(&str, &str)] =
    &[("qemu-system-x86", "qemu-system-x86_64"), ("seabios", "qemu-system-x86_64"), ("cpio", "cpio")];

/// Installs what the virtual machine needs.
pub fn install_for_machine() -> Result<()> {
    let absent = FOR_MACHINE.iter().filter(|(_, program)| !exists(program));
    install_missing("packages of the VM", absent.map(|(package, _)| *package).collect())
}

/// Installs what is missing. Only apt is known: elsewhere the list of what is missing is the error.
pub fn install() -> Result<()> {
    let mut missing: Vec<&str> =
        PACKAGES.iter().filter(|(_, program)| !exists(program)).map(|(package, _)| *package).collect();
    for (package, file) in [
        ("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"),
        ("libc6-dev", "/usr/include/stdio.h"),
        ("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/include/stdio.h"),
        ("libc6-dev-armhf-cross", "/usr/arm-linux-gnueabihf/include/stdio.h"),
        ("libc6-dev-riscv64-cross", "/usr/riscv64-linux-gnu/include/stdio.h"),
    ] {
        if !std::path::Path::new(file).exists() {
            missing.push(package);
        }
    }
    if capture(&mut command("python3", &["-m", "pip", "--version"])).is_err() {
        missing.push("python3-pip");
    }
    install_missing("host packages", missing)
}

fn install_missing(what: &str, missing: Vec<&str>) -> Result<()> {
    if missing.is_empty() {
        println!("  {what:<20} there already");
        return Ok(());
    }
    if !exists("apt-get") {
        bail!("these Debian packages, or what they contain, are missing here: {}", missing.join(" "));
    }
    println!("  {what:<20} installing {}", missing.join(" "));
    update()?;
    let mut install = command("apt-get", &["install", "-y", "-q", "--no-install-recommends"]);
    install.args(&missing).env("DEBIAN_FRONTEND", "noninteractive");
    capture(&mut install).context("install the host packages (set-up runs as root)")?;
    Ok(())
}

/// The targets that the toolchain file names: rustup adds them by itself only where it may install automatically.
pub fn rust_targets() -> Result<()> {
    let file = std::fs::read_to_string(crate::repository().join("rust-toolchain.toml"))?;
    let line = file.lines().find_map(|line| line.strip_prefix("targets = "));
    let targets: Vec<&str> = line.unwrap_or_default().split('"').skip(1).step_by(2).collect();
    let sysroot = capture(&mut command("rustc", &["--print", "sysroot"]))?;
    let libraries = std::path::Path::new(sysroot.trim()).join("lib/rustlib");
    let missing: Vec<&str> =
        targets.into_iter().filter(|target| !libraries.join(target).join("lib").exists()).collect();
    if missing.is_empty() {
        println!("  {:<20} there already", "Rust targets");
        return Ok(());
    }
    println!("  {:<20} adding {}", "Rust targets", missing.join(" "));
    let mut add = command("rustup", &["target", "add"]);
    capture(add.args(&missing).current_dir(crate::repository())).context("add Rust targets")?;
    Ok(())
}

/// Refreshes this machine's package lists.
pub fn update() -> Result<()> {
    capture(&mut command("apt-get", &["update", "-q"])).map(drop)
}
