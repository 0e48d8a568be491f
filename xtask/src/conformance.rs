//! `cargo xtask conformance`: real Nix and a cluster build the same derivations, and every difference is named.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::{command, run as run_command};
use crate::setup;

/// How the test program is told what is asked for.
const VARIABLE: &str = "ELSEWHERE_CONFORMANCE";
/// Its one test that compares.
const TEST: &str = "a_cluster_makes_what_real_nix_makes";

/// What is compared with what.
#[derive(clap::Args, Clone)]
pub struct Request {
    /// Version of real Nix: 2.8, 2.26 or 2.34 (default: the one whose behaviour is ours, 2.34)
    #[arg(long, value_name = "VERSION")]
    nix: Option<setup::NixVersion>,
    /// Only what is emulated; functions of files that want a `system` or an `arch` get aarch64-linux and arm64
    #[arg(long)]
    emulated: bool,
    /// Only cases of the own table with this in their names (may be given several times)
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    case: Vec<String>,
    /// Compare every derivation that this Nix file evaluates to, instead of the own table (its directory is visible to Nix)
    #[arg(long, value_name = "FILE.nix")]
    file: Vec<PathBuf>,
    /// Pass a string to the files' functions
    #[arg(long, num_args = 2, value_names = ["NAME", "VALUE"], action = clap::ArgAction::Append)]
    argstr: Vec<String>,
}

/// Sets up, and runs the comparison; a difference that is no named exception is an error.
pub fn run(request: &Request) -> Result<()> {
    setup::run()?;
    if let Some(old) = request.nix {
        setup::old_nix(&[old])?;
    }
    let files = request.file.iter().map(|file| absolute(file)).collect::<Result<Vec<_>>>()?;
    let arguments = request.argstr.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone().into()));
    let asked = serde_json::json!({
        "nix": request.nix.map(setup::NixVersion::version),
        "emulated": request.emulated,
        "names": request.case,
        "files": files,
        "arguments": arguments.collect::<serde_json::Map<String, serde_json::Value>>(),
    });
    let mut cargo =
        command("cargo", &["test", "--workspace", "--test", "conformance", "--", "--exact", TEST]);
    cargo.arg("--nocapture").env(VARIABLE, asked.to_string()).current_dir(crate::repository());
    if run_command(&mut cargo).is_err() {
        bail!("real Nix and the cluster differ (or one of them did not start): see above");
    }
    Ok(())
}

/// A file's own path, links resolved: its directory is what hosts see.
fn absolute(file: &Path) -> Result<PathBuf> {
    let file = if file.is_dir() { file.join("default.nix") } else { file.to_owned() };
    let found = file.canonicalize().with_context(|| format!("find {}", file.display()))?;
    // A path that JSON cannot carry cannot be named to Nix either.
    found.to_str().with_context(|| format!("{}: rename it, it is not UTF-8", found.display()))?;
    Ok(found)
}
