//! Wall clocks that tests set: a library that programs load before their own C library, and an offset for each host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::host::Bind;
use crate::lab::Lab;

/// Where hosts have the library and the offsets.
const IN_HOSTS: &str = "/opt/wall-clock";

/// The wall clocks of a lab's hosts. Monotonic clocks are the machine's.
#[derive(Clone, Debug)]
pub struct WallClock {
    directory: PathBuf,
}

impl WallClock {
    /// Compiles the library.
    ///
    /// # Errors
    /// There is no gcc.
    pub fn new(lab: &Lab) -> Result<Self> {
        let directory = lab.directory().join("wall-clock");
        fs::create_dir_all(&directory)?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kit/wall_clock.c");
        let mut gcc = Command::new("gcc");
        gcc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]);
        let compiled = gcc.arg(directory.join("wall_clock.so")).arg(source).output()?;
        ensure!(compiled.status.success(), "gcc: {}", String::from_utf8_lossy(&compiled.stderr));
        Ok(Self { directory })
    }

    /// Sets a host's clock so many seconds ahead, or back.
    ///
    /// # Errors
    /// As of the file system.
    pub fn set(&self, host: &str, offset_s: i64) -> Result<()> {
        // Written in place: programs have it mapped.
        let path = self.directory.join(host);
        let mut file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        Ok(std::io::Write::write_all(&mut file, &offset_s.to_ne_bytes())?)
    }

    /// Shows it to a host.
    pub(crate) fn bind(&self) -> Bind {
        Bind { source: self.directory.clone(), target: IN_HOSTS.into(), writable: false }
    }

    /// What a host's program has in its environment.
    pub(crate) fn environment(host: &str) -> [(String, String); 2] {
        [
            ("LD_PRELOAD".into(), format!("{IN_HOSTS}/wall_clock.so")),
            ("WALL_CLOCK_OFFSET".into(), format!("{IN_HOSTS}/{host}")),
        ]
    }
}
