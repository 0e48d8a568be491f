//! The programs under test: from `ELSEWHERE_BIN`, or built once by cargo into the directory this test came from.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

use crate::host::Bind;

/// Where hosts see the programs.
const IN_HOSTS: &str = "/opt/elsewhere";

static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// A directory with `elsewhere`, `elsewhere-coordinator`, `elsewhere-executor`, `elsewhere-launcher` and `xtask`.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Finds them; builds them first unless `ELSEWHERE_BIN` says where they are.
    ///
    /// # Errors
    /// They do not compile, or one is missing.
    pub fn find() -> Result<Self> {
        let found = BUILT.get_or_init(|| find().map_err(|error| format!("{error:#}")));
        let directory = found.clone().map_err(|error| anyhow!(error))?;
        Ok(Self { directory })
    }

    /// A program on the machine itself.
    #[must_use]
    pub fn outside(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A program in a host that has [`Programs::bind`].
    #[must_use]
    pub fn inside(&self, name: &str) -> String {
        format!("{IN_HOSTS}/{name}")
    }

    /// Makes the programs visible in a host.
    #[must_use]
    pub fn bind(&self) -> Bind {
        Bind { source: self.directory.clone(), target: IN_HOSTS.into(), writable: false }
    }
}

fn find() -> Result<PathBuf> {
    let directory = match std::env::var_os("ELSEWHERE_BIN") {
        Some(directory) => PathBuf::from(directory),
        None => build()?,
    };
    for name in ["elsewhere", "elsewhere-coordinator", "elsewhere-executor", "elsewhere-launcher", "xtask"] {
        ensure!(directory.join(name).exists(), "{} is missing", directory.join(name).display());
    }
    Ok(directory)
}

/// The test runs from TARGET/PROFILE/deps: the same target directory and profile are used for the programs.
fn build() -> Result<PathBuf> {
    let test = std::env::current_exe().context("find this test's own path")?;
    let profile = test.ancestors().nth(2).context("this test is in no target directory")?;
    let target = profile.parent().context("this test is in no target directory")?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The whole workspace: a part of it would ask for other features, and compile every dependency again.
    cargo.args(["build", "--quiet", "--workspace", "--bins", "--target-dir"]).arg(target);
    cargo.current_dir(workspace);
    for (name, _) in std::env::vars_os() {
        // Of the test's own package; build scripts look at these, and everything would be compiled again.
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            cargo.env_remove(name);
        }
    }
    match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") => {}
        Some(name) => {
            cargo.args(["--profile", name]);
        }
        None => return Err(anyhow!("{} is no profile's directory", profile.display())),
    }
    let status = cargo.status().context("start cargo")?;
    ensure!(status.success(), "build the programs under test: {status}");
    Ok(profile.to_owned())
}
