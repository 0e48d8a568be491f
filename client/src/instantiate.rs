//! From a Nix file to derivations, with the board's own `nix-instantiate`.
use crate::wanted::{self, Target};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{fs, io};
use thiserror::Error;
use tokio::process::Command;

/// Output of nix-instantiate that is read, in bytes: ten thousand paths.
const OUTPUT_BYTES_MAX: usize = 2 << 20;

/// Why there are no derivations.
#[derive(Debug, Error)]
pub enum Error {
    /// The program cannot be started.
    #[error("start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has said why on standard error.
    #[error("nix-instantiate failed ({status})")]
    Failed {
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// It printed something else than derivations.
    #[error("understand what nix-instantiate printed")]
    Output(#[source] wanted::Error),
    /// It printed more than anyone wants built.
    #[error("nix-instantiate printed more than {OUTPUT_BYTES_MAX} bytes")]
    TooMuch,
    /// The directory that keeps the derivations from being collected.
    #[error("use {}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Keeps derivations alive: links in a directory that goes away with this.
#[derive(Debug)]
pub struct Roots {
    _directory: tempfile::TempDir,
}

/// Instantiates; nix-instantiate's own messages go to our standard error.
#[tracing::instrument(name = "instantiate", skip_all)]
pub async fn instantiate(arguments: &[OsString], state: &Path) -> Result<(Vec<Target>, Roots), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    let roots = state.join("elsewhere/roots");
    fs::create_dir_all(&roots).map_err(failed(&roots))?;
    let directory = tempfile::TempDir::new_in(&roots).map_err(failed(&roots))?;
    let program = PathBuf::from("nix-instantiate");
    let output = Command::new(&program)
        .args(arguments)
        .args([OsStr::new("--indirect"), OsStr::new("--add-root")])
        .arg(directory.path().join("drv"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| Error::Start { program, source })?;
    if !output.status.success() {
        return Err(Error::Failed { status: output.status });
    }
    if output.stdout.len() > OUTPUT_BYTES_MAX {
        return Err(Error::TooMuch);
    }
    let mut targets = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // The link that was asked for, then `!output` where the attribute names another output than `out`.
        let (link, output) = line.split_once('!').map_or((line, None), |(link, output)| (link, Some(output)));
        let link = Path::new(link);
        let derivation = if link.starts_with(directory.path()) {
            fs::read_link(link).map_err(failed(link))?
        } else {
            link.to_owned()
        };
        let mut argument = derivation.to_string_lossy().into_owned();
        if let Some(output) = output {
            argument.push('!');
            argument.push_str(output);
        }
        targets.push(Target::parse(&argument).map_err(Error::Output)?);
    }
    Ok((targets, Roots { _directory: directory }))
}
