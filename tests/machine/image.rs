//! What the virtual machine gets beside Debian: the programs, their configuration and certificates, the script of the test.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tests::{Certificates, Lab, Programs};

const SERVICE_USER: u32 = 990;
const ADDRESS: &str = "127.0.0.1";
const PROGRAMS: [&str; 4] =
    ["elsewhere", "elsewhere-coordinator", "elsewhere-executor", "elsewhere-launcher"];

/// What only the test's own units say: where their words go, for a file is easier to ask than a journal.
const EXECUTOR_DROP_IN: &str = "[Service]\nStandardOutput=append:/run/executor.log\nStandardError=append:/run/executor.log\n\
Environment=NO_COLOR=1\n";
const COORDINATOR: &str = "[Service]\nType=exec\nExecStart=/usr/bin/elsewhere-coordinator --config /etc/elsewhere/coordinator.toml\n\
User=elsewhere\nStateDirectory=coordinator\nStandardOutput=append:/run/coordinator.log\n\
StandardError=append:/run/coordinator.log\nEnvironment=NO_COLOR=1\n";
/// As root, with and without a cgroup of its own.
const SELF_TEST: &str = "[Service]\nType=oneshot\nRuntimeDirectory=%N\nStandardOutput=append:/run/%N.log\n\
StandardError=append:/run/%N.log\nExecStart=/usr/bin/elsewhere-executor --config /etc/elsewhere/executor.toml \
--state-dir /run/%N self-test\n";
const TARGET: &str = "[Unit]\nRequires=basic.target guest.service\nAfter=basic.target\nAllowIsolate=yes\n";
const GUEST: &str = "[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\nStandardOutput=tty\n\
StandardError=tty\nTTYPath=/dev/ttyS0\nExecStart=/bin/sh /opt/test/guest.sh\nExecStopPost=/bin/sh -c 'echo o > /proc/sysrq-trigger'\n";

/// Limits that the test expects to be in force.
pub const LIMITS: &str = "[limits]\nmemory_bytes_max = 268435456\nprocesses_max = 64\ncpu_weight = 50\ndisk_free_bytes_min = 16777216\n";

/// Packs Debian's root and what is added to it into one initrd.
pub fn make(lab: &Lab) -> Result<PathBuf> {
    let added = lab.directory().join("machine");
    add_programs(&added)?;
    add_configuration(lab, &added)?;
    add_units(&added)?;
    add_cases(lab, &added)?;
    let archive = lab.directory().join("machine.cpio");
    // The kernel unpacks one archive after the other.
    fs::copy(lab.cache().product("machine/root.cpio")?, &archive)?;
    append(&added, &archive)?;
    Ok(archive)
}

fn write(root: &Path, path: &str, contents: impl AsRef<[u8]>, mode: u32, owner: u32) -> Result<()> {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap_or(root))?;
    fs::write(&file, contents).with_context(|| format!("write {}", file.display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
    Ok(chown(&file, Some(owner), Some(owner))?)
}

fn add_programs(root: &Path) -> Result<()> {
    let programs = Programs::find()?;
    fs::create_dir_all(root.join("usr/bin"))?;
    for name in PROGRAMS {
        // Without what debuggers need, for all of it is memory.
        let stripped = Command::new("strip")
            .arg(programs.outside(name))
            .arg("-o")
            .arg(root.join("usr/bin").join(name))
            .status()
            .context("start strip")?;
        ensure!(stripped.success(), "strip {name}: {stripped}");
    }
    Ok(())
}

fn add_configuration(lab: &Lab, root: &Path) -> Result<()> {
    let certificates = Certificates::new(lab, &Programs::find()?, "certificates", ADDRESS)?;
    certificates.make(&[
        "--executor",
        "executor",
        "--address",
        &format!("executor={ADDRESS}"),
        "--board",
        "board",
    ])?;
    let tls = |name: &str| {
        format!(
            "[tls]\nauthority = \"/etc/elsewhere/ca.pem\"\ncertificate = \"/etc/elsewhere/{name}.pem\"\nkey = \"/etc/elsewhere/{name}.key\"\n"
        )
    };
    for name in [
        "ca.pem",
        "nix.key",
        "coordinator.pem",
        "coordinator.key",
        "executor.pem",
        "executor.key",
        "board.pem",
        "board.key",
    ] {
        write(
            root,
            &format!("etc/elsewhere/{name}"),
            fs::read(certificates.file(name))?,
            0o400,
            SERVICE_USER,
        )?;
    }
    let coordinator = format!(
        "listen = \"{ADDRESS}:7420\"\nstate_dir = \"/var/lib/coordinator\"\nsigning_key = \"/etc/elsewhere/nix.key\"\nattempts_max = 1\n{}",
        tls("coordinator")
    );
    let executor = format!(
        "coordinator = \"{ADDRESS}:7420\"\ndata_listen = \"{ADDRESS}:7421\"\ndata_advertise = \"{ADDRESS}:7421\"\nslots = 2\n{}{LIMITS}",
        tls("executor")
    );
    let client = format!("coordinator = \"{ADDRESS}:7420\"\n{}", tls("board"));
    let nix = format!(
        "build-users-group = nixbld\nmax-jobs = 0\nsubstituters =\nrequire-sigs = true\ntrusted-public-keys = {}\n",
        certificates.public_key()?
    );
    for (path, text) in [
        ("etc/elsewhere/coordinator.toml", coordinator),
        ("etc/elsewhere/executor.toml", executor),
        ("etc/elsewhere/client.toml", client),
        ("etc/nix/nix.conf", nix),
    ] {
        write(root, path, text, 0o644, 0)?;
    }
    Ok(())
}

/// The executor's unit is the one that is shipped.
fn add_units(root: &Path) -> Result<()> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/elsewhere-executor.service");
    let units = "etc/systemd/system";
    write(root, &format!("{units}/elsewhere-executor.service"), fs::read(shipped)?, 0o644, 0)?;
    for (name, text) in [
        ("elsewhere-executor.service.d/test.conf", EXECUTOR_DROP_IN),
        ("elsewhere-coordinator.service", COORDINATOR),
        ("self-test-plain.service", SELF_TEST),
        ("self-test-delegated.service", SELF_TEST),
        ("self-test-delegated.service.d/delegate.conf", "[Service]\nDelegate=yes\n"),
        ("test.target", TARGET),
        ("guest.service", GUEST),
    ] {
        write(root, &format!("{units}/{name}"), text, 0o644, 0)?;
    }
    Ok(())
}

fn add_cases(lab: &Lab, root: &Path) -> Result<()> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("machine");
    for name in ["guest.sh", "cases.nix"] {
        write(root, &format!("opt/test/{name}"), fs::read(own.join(name))?, 0o644, 0)?;
    }
    for architecture in ["amd64", "arm64"] {
        let program = fs::read(lab.cache().product(&format!("busybox-{architecture}"))?)?;
        let directory = format!("opt/test/busybox-{architecture}/bin");
        write(root, &format!("{directory}/busybox"), program, 0o755, 0)?;
        for name in ["sh", "dd", "rm", "sleep", "uname", "cat"] {
            symlink("busybox", root.join(&directory).join(name))?;
        }
    }
    Ok(())
}

fn append(root: &Path, archive: &Path) -> Result<()> {
    let script = "find . | cpio --create --format=newc --quiet >> \"$0\"";
    let status = Command::new("sh")
        .args(["-c", script])
        .arg(archive)
        .current_dir(root)
        .stdin(Stdio::null())
        .status()
        .context("start cpio: run `cargo xtask setup --long`")?;
    ensure!(status.success(), "pack what is added to the virtual machine: {status}");
    Ok(())
}
