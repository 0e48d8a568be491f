//! The emulator of a foreign system: found, made self-contained, described.
use super::self_test::Ran;
use crate::blocking::blocking;
use crate::config::Emulation;
use node::exit::chain;
use sandbox::binfmt::{Registration, Rule, RuleTemplate, parse_registration, rule_for};
use sandbox::interpreter::self_contained;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A processor model, and what programs see of it.
struct Processor {
    system: &'static str,
    model: &'static str,
    /// AT_HWCAP.
    hwcap: u64,
}

/// The models when none is configured: those of boards. Without pointer authentication, which slows emulation down.
const PROCESSORS: [Processor; 3] = [
    Processor { system: "aarch64-linux", model: "cortex-a72", hwcap: 0x8fb },
    Processor { system: "armv7l-linux", model: "cortex-a7", hwcap: 0x1f_b8d7 },
    Processor { system: "riscv64-linux", model: "sifive-u54", hwcap: 0x112d },
];

/// The model that a system is emulated with when none is configured.
pub fn usual_model(system: &str) -> Option<&'static str> {
    PROCESSORS.iter().find(|known| known.system == system).map(|known| known.model)
}

/// Largest emulator that is read, in bytes.
const PROGRAM_BYTES_MAX: u64 = 256 << 20;
/// How long an emulator may take to say its version.
const VERSION_WAIT: Duration = Duration::from_secs(10);

/// An emulator that is ready to be tried.
#[derive(Clone, Debug)]
pub struct Emulator {
    /// Registers it.
    pub rule: Rule,
    /// Version, model and how, for people.
    pub detail: String,
    /// AT_HWCAP that a program must see.
    expected_hwcap: Option<u64>,
    /// Whether variables such as QEMU_CPU have no effect.
    is_self_contained: bool,
}

impl Emulator {
    /// Whether what ran ran on the processor that was promised, and could not change it.
    pub fn judge(&self, ran: &Ran) -> Result<(), String> {
        if self.is_self_contained && ran.wrote_log {
            return Err("a QEMU_ variable of the build changes its emulation".into());
        }
        match self.expected_hwcap {
            Some(expected) if self.is_self_contained && expected != ran.hwcap => Err(format!(
                "the emulated processor shows capabilities {:#x} instead of {expected:#x}",
                ran.hwcap
            )),
            _ => Ok(()),
        }
    }
}

/// Finds the emulator of a system and puts a self-contained copy below the state directory.
pub async fn prepare(system: &str, emulation: &Emulation, state_dir: &Path) -> Result<Emulator, String> {
    let template =
        rule_for(system).ok_or_else(|| format!("the magic number of {system} programs is not known"))?;
    let qemu = find(&template, emulation)?;
    let version = version(&qemu).await?;
    let cpu = emulation.cpu.clone().or_else(|| usual_model(system).map(str::to_owned));
    let file = state_dir.join("interpreters").join(format!("qemu-{}", template.name));
    let made = match &cpu {
        Some(cpu) => {
            let (qemu, cpu, file) = (qemu.clone(), cpu.clone(), file.clone());
            blocking(move || self_contained_file(&qemu, &cpu, &file)).await
        }
        None => Err("no processor model is configured".to_owned()),
    };
    let mut detail = format!("qemu {version}");
    let (interpreter, is_self_contained) = match made {
        Ok(()) => {
            detail.push_str(&format!(", {}, self-contained", cpu.as_deref().unwrap_or_default()));
            (file, true)
        }
        Err(reason) => {
            detail
                .push_str(&format!(", default processor, builds can steer it by QEMU_ variables ({reason})"));
            (qemu, false)
        }
    };
    if version.starts_with("7.") {
        detail.push_str(", reverses the order of the environment at every exec: 10.0 or later does not");
    }
    let is_used = |known: &&Processor| known.system == system && cpu.as_deref() == Some(known.model);
    let expected_hwcap = PROCESSORS.iter().find(is_used).map(|known| known.hwcap);
    Ok(Emulator { rule: template.with_interpreter(interpreter), detail, expected_hwcap, is_self_contained })
}

fn find(template: &RuleTemplate, emulation: &Emulation) -> Result<PathBuf, String> {
    if let Some(qemu) = &emulation.qemu {
        let missing = || format!("the configured emulator '{}' does not exist", qemu.display());
        return qemu.is_file().then(|| qemu.clone()).ok_or_else(missing);
    }
    let names = [format!("qemu-{}-static", template.name), format!("qemu-{}", template.name)];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = std::env::split_paths(&path).collect();
    let mut candidates =
        names.iter().flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
    candidates.find(|candidate| candidate.is_file()).ok_or_else(|| {
        format!("no emulator: neither {} nor {} is in PATH; install a static qemu-user", names[0], names[1])
    })
}

/// The version that an emulator says it has.
pub async fn version(qemu: &Path) -> Result<String, String> {
    let asked = tokio::process::Command::new(qemu).arg("--version").kill_on_drop(true).output();
    let output = tokio::time::timeout(VERSION_WAIT, asked)
        .await
        .map_err(|_| format!("'{} --version' does not end", qemu.display()))?
        .map_err(|error| format!("cannot run '{} --version': {error}", qemu.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace().skip_while(|word| *word != "version").skip(1);
    let version = words.next().ok_or_else(|| format!("'{} --version' names no version", qemu.display()))?;
    Ok(version.to_owned())
}

/// Writes the self-contained copy of a static qemu to `file`, whole or not at all; an equal one stays.
///
/// # Errors
/// For people: why the copy cannot be made.
pub fn self_contained_file(qemu: &Path, cpu: &str, file: &Path) -> Result<(), String> {
    let problem = |action: &str, path: &Path, error: io::Error| {
        format!("cannot {action} '{}': {error}", path.display())
    };
    let program = read_bounded(qemu).map_err(|error| problem("read", qemu, error))?;
    let copy = self_contained(&program, cpu).map_err(|error| chain(&error))?;
    if read_bounded(file).is_ok_and(|existing| existing == copy) {
        return Ok(());
    }
    let directory = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(|error| problem("create", directory, error))?;
    let beside = file.with_extension("new");
    std::fs::write(&beside, copy).map_err(|error| problem("write", &beside, error))?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o555))
        .map_err(|error| problem("make executable", &beside, error))?;
    std::fs::rename(&beside, file).map_err(|error| problem("move into place", file, error))
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    if size > PROGRAM_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {PROGRAM_BYTES_MAX} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The host's registration for a system, if it works inside a sandbox.
pub fn host_registration(system: &str) -> Option<Registration> {
    let template = rule_for(system)?;
    let entries = std::fs::read_dir("/proc/sys/fs/binfmt_misc").ok()?;
    let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    texts
        .filter_map(|text| parse_registration(&text, &template))
        .find(|registration| registration.pinned && registration.keeps_argument_zero)
}
