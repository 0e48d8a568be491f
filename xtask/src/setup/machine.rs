//! The virtual machine of the tier `long`: Debian 12's kernel, and a root with systemd packed as its initrd.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cache::{Cache, remove, replace};
use crate::command::{capture, command};
use crate::setup::{debian, roots};

const PACKAGES: &str = "systemd-sysv,uidmap,qemu-user-static,busybox-static,iproute2,ca-certificates,nix-bin,\
procps,kmod,util-linux";
/// The systems that are emulated, by Debian's word.
const EMULATED: [&str; 3] = ["aarch64", "arm", "riscv64"];
/// The only module that is needed; all else is in the kernel.
const MODULE: &str = "kernel/fs/binfmt_misc.ko";
/// Process 1. The kernel's first file system cannot be pivoted away from, which is what every sandbox does: a mount of
/// it in its own place can.
const INIT: &str =
    "#!/bin/sh\nmount --bind / /mnt && cd /mnt && mount --move . / && exec chroot . /lib/systemd/systemd\n";

/// Makes `machine/vmlinuz` and `machine/root.cpio`.
pub fn make(cache: &Cache) -> Result<()> {
    let recipe = format!("bookworm {PACKAGES} 1");
    cache.step("machine", &recipe, &["machine/vmlinuz", "machine/root.cpio"], || {
        let kernel = debian::kernel(cache)?;
        let scratch = cache.scratch("machine")?;
        let root = scratch.join("root");
        roots::bootstrap("bookworm", PACKAGES, &root)?;
        roots::build_users(&root)?;
        roots::executor_user(&root)?;
        trim(&root)?;
        let release = only_entry(&kernel.join("lib/modules"))?;
        fs::copy(kernel.join("lib/modules").join(release).join(MODULE), root.join("lib/binfmt_misc.ko"))
            .context("copy the module binfmt_misc")?;
        fs::write(root.join("init"), INIT)?;
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
        // A console for people, and a bus, are not there: nothing may wait for them.
        for unit in ["serial-getty@ttyS0.service", "proc-sys-fs-binfmt_misc.automount"] {
            std::os::unix::fs::symlink("/dev/null", root.join("etc/systemd/system").join(unit))?;
        }
        pack(&root, &scratch.join("root.cpio"))?;
        let boot = kernel.join("boot");
        let image = fs::read_dir(&boot)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")));
        replace(&image.context("the package has no kernel")?, &cache.path("machine/vmlinuz"))?;
        replace(&scratch.join("root.cpio"), &cache.path("machine/root.cpio"))?;
        remove(&root)
    })
}

/// All of it is in memory: what no test looks at goes.
fn trim(root: &Path) -> Result<()> {
    for part in [
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "usr/share/zoneinfo",
        "var/cache/apt",
        "var/lib/apt",
    ] {
        remove(&root.join(part))?;
    }
    let is_kept = |name: &str| {
        EMULATED.iter().any(|system| {
            name.starts_with(&format!("qemu-{system}.")) || name == format!("qemu-{system}-static")
        })
    };
    for directory in ["usr/bin", "usr/lib/binfmt.d"] {
        for entry in fs::read_dir(root.join(directory))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("qemu-") && !is_kept(&name) {
                remove(&entry.path())?;
            }
        }
    }
    Ok(())
}

fn only_entry(directory: &Path) -> Result<String> {
    let first = fs::read_dir(directory)?.next().transpose()?;
    let first = first.with_context(|| format!("{} is empty", directory.display()))?;
    Ok(first.file_name().to_string_lossy().into_owned())
}

/// Packs a tree as the kernel unpacks it.
fn pack(root: &Path, archive: &Path) -> Result<()> {
    let names = capture(command("find", &["."]).current_dir(root))?;
    fs::write(archive.with_extension("names"), names)?;
    let status = Command::new("cpio")
        .args(["--create", "--format=newc", "--quiet"])
        .current_dir(root)
        .stdin(Stdio::from(File::open(archive.with_extension("names"))?))
        .stdout(Stdio::from(File::create(archive)?))
        .status()
        .context("start cpio")?;
    ensure!(status.success(), "pack {} with cpio: {status}", root.display());
    Ok(())
}
