//! Single programs out of Debian packages of other releases and architectures, without installing them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache::{Cache, replace};
use crate::command::{capture, command};
use crate::setup::host;

/// The keyring that signs every Debian release.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The interpreters for emulated builds, by qemu's word for the processor.
pub const QEMU: [&str; 3] = ["aarch64", "arm", "riscv64"];

/// All of one package: version 10 keeps the order of the environment, 7.2 does not.
pub fn qemu(cache: &Cache) -> Result<()> {
    let product = |name: &str| format!("qemu/qemu-{name}");
    let mut products = QEMU.map(product).to_vec();
    products.push("qemu/VERSION".into());
    let products: Vec<&str> = products.iter().map(String::as_str).collect();
    cache.step("qemu", "trixie qemu-user 2", &products, || {
        let unpacked = unpack(cache, "trixie", "amd64", "qemu-user")?;
        let program = |name: &str| unpacked.join(format!("usr/bin/qemu-{name}"));
        let version = capture(&mut command(&program(QEMU[0]).to_string_lossy(), &["--version"]))?;
        let Some(version) = version.split_whitespace().nth(2) else {
            bail!("qemu's --version says no version: {version}")
        };
        fs::create_dir_all(cache.path("qemu"))?;
        for name in QEMU {
            replace(&program(name), &cache.path(&product(name)))?;
        }
        fs::write(cache.path("qemu/VERSION"), format!("{version}\n")).context("write qemu/VERSION")
    })
}

/// Where [`old_qemu`] is in the cache.
pub const OLD_QEMU: &str = "qemu-7.2/qemu-aarch64-static";

/// The peer of the benchmark of emulation: Debian 12's own qemu.
pub fn old_qemu(cache: &Cache) -> Result<()> {
    cache.step("qemu-7.2", "bookworm qemu-user-static 1", &[OLD_QEMU], || {
        let unpacked = unpack(cache, "bookworm", "amd64", "qemu-user-static")?;
        replace(&unpacked.join("usr/bin/qemu-aarch64-static"), &cache.path(OLD_QEMU))
    })
}

/// Static shells for all architectures: /bin/sh of the sandbox, and the builders of the demo's graph and of tests.
/// Debian 12 has no riscv64, and sid is what boards of tests have.
pub fn busybox(cache: &Cache) -> Result<()> {
    for (architecture, suite) in
        [("amd64", "bookworm"), ("arm64", "bookworm"), ("armhf", "bookworm"), ("riscv64", "sid")]
    {
        let name = format!("busybox-{architecture}");
        cache.step(&name, &format!("{suite} busybox-static 1"), &[&name], || {
            let unpacked = unpack(cache, suite, architecture, "busybox-static")?;
            let program = ["bin/busybox", "usr/bin/busybox"].map(|path| unpacked.join(path));
            let Some(program) = program.iter().find(|path| path.exists()) else {
                bail!("the package has no busybox")
            };
            replace(program, &cache.path(&name))
        })?;
    }
    Ok(())
}

/// Debian 12's kernel for virtual machines, unpacked: `boot/vmlinuz-*` and `lib/modules/`.
pub fn kernel(cache: &Cache) -> Result<PathBuf> {
    unpack(cache, "bookworm", "amd64", "linux-image-cloud-amd64")
}

/// The archive that this machine's own apt uses: no host name is written down in this repository.
pub fn mirror() -> Result<String> {
    for attempt in 0..2 {
        let found = capture(&mut command(
            "apt-get",
            &["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        ))?;
        if let Some(line) = found.lines().find(|line| line.trim_end_matches('/').ends_with("/debian")) {
            return Ok(line.to_string());
        }
        if attempt == 0 {
            host::update()?;
        }
    }
    bail!("apt's sources name no Debian main archive (an address that ends in /debian)")
}

/// This machine's apt may allow frozen mirrors: what it allows, we allow.
pub fn validity_options() -> Result<Vec<String>> {
    ["Acquire::Check-Valid-Until", "Acquire::Check-Date"]
        .into_iter()
        .map(|key| {
            let value = capture(&mut command("apt-config", &["dump", "--format", "%v", key]))?;
            Ok(format!("{key}={}", if value.trim().is_empty() { "true" } else { value.trim() }))
        })
        .collect()
}

/// Downloads one package with an apt state of its own, and unpacks it below the cache's scratch directory.
fn unpack(cache: &Cache, suite: &str, architecture: &str, package: &str) -> Result<PathBuf> {
    let directory = cache.scratch(&format!("{package}-{architecture}"))?;
    let options = private_apt(&directory, suite, architecture)?;
    let apt = |program: &str, verb: &[&str]| {
        let mut command = command(program, &options);
        capture(command.args(verb).current_dir(&directory))
    };
    apt("apt-get", &["update", "-q"])?;
    let depends = apt("apt-cache", &["depends", package])?;
    // A package that stands for the newest of its kind contains nothing itself.
    let newest = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let newest = newest.map(|version| format!("linux-image-{version}"));
    apt("apt-get", &["download", "-q", newest.as_deref().unwrap_or(package)])?;
    let found = fs::read_dir(&directory)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let Some(archive) = found else { bail!("apt-get download left no package in {}", directory.display()) };
    let unpacked = directory.join("unpacked");
    let (archive, target) = (archive.to_string_lossy(), unpacked.to_string_lossy());
    capture(&mut command("dpkg-deb", &["-x", &archive, &target]))?;
    Ok(unpacked)
}

fn private_apt(directory: &Path, suite: &str, architecture: &str) -> Result<Vec<String>> {
    for part in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(directory.join(part))?;
    }
    let list = directory.join("sources.list");
    fs::write(&list, format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?))?;
    fs::write(directory.join("status"), "")?;
    let at = |name: &str| directory.join(name).display().to_string();
    let mut settings = vec![
        format!("Dir::State={}", at("state")),
        format!("Dir::State::status={}", at("status")),
        format!("Dir::Cache={}", at("cache")),
        format!("Dir::Etc::sourcelist={}", list.display()),
        "Dir::Etc::sourceparts=/dev/null".into(),
        // The sandbox user of apt cannot write below a directory that only root may enter.
        "APT::Sandbox::User=root".into(),
        format!("APT::Architecture={architecture}"),
        format!("APT::Architectures={architecture}"),
    ];
    settings.extend(validity_options()?);
    Ok(settings.into_iter().flat_map(|setting| ["-o".to_string(), setting]).collect())
}
