//! Nix's own builders, done by the executor itself: no foreign code runs, so there is no sandbox (decision 003).

mod buildenv;
mod control;
mod download;
mod fetchurl;
mod receive;
pub mod view;

#[cfg(test)]
mod tests;

pub use control::Control;
pub use download::Downloader;

use crate::blocking::blocking;
use crate::build::failure::failure;
use crate::build::run::Ended;
use model::{Failure, FailureClass};
use nix_formats::derivation::Derivation;
use std::io;
use std::path::{Path, PathBuf};
use view::View;

/// What every builtin's name begins with.
const PREFIX: &str = "builtin:";

/// One derivation with a builder of Nix's own.
#[derive(Clone, Debug)]
pub struct Task {
    /// The derivation.
    pub derivation: Derivation,
    /// Where its output `out` is made on this machine; nothing is there yet.
    pub output: PathBuf,
    /// The inputs.
    pub view: View,
    /// Whether this executor gives fixed outputs a network at all.
    pub has_network: bool,
}

impl Task {
    /// An attribute that the builder cannot do without.
    fn attribute(&self, name: &str) -> Result<&[u8], Stop> {
        let found = self.derivation.environment.get(name.as_bytes());
        found.map(Vec::as_slice).ok_or_else(|| Stop::Failed(format!("attribute '{name}' missing")))
    }

    /// The name of the builtin.
    fn name(&self) -> String {
        let builder = String::from_utf8_lossy(&self.derivation.builder);
        builder.strip_prefix(PREFIX).unwrap_or(&builder).to_owned()
    }
}

/// Why a builtin did not make its output.
#[derive(Debug)]
pub enum Stop {
    /// It failed as its builder would: this is said in the log, and the exit code is 1.
    Failed(String),
    /// It was ended.
    Ended(Ended),
    /// This executor's own trouble.
    Own(Failure),
}

impl Stop {
    /// This machine's file system refused something.
    fn disk(action: &str, path: &Path, error: &io::Error) -> Self {
        let class = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureClass::OutOfDisk,
            _ => FailureClass::Infrastructure,
        };
        Self::Own(failure(class, format!("cannot {action} '{}': {error}", path.display())))
    }
}

/// Does what a derivation asks for.
///
/// # Errors
/// This executor's own trouble; what the builder does is in the result.
pub async fn perform(
    task: Task,
    downloader: &Downloader,
    mut control: Control<'_>,
) -> Result<Ended, Failure> {
    let done = match task.name().as_str() {
        "fetchurl" => fetchurl::perform(&task, downloader, &mut control).await,
        "buildenv" => build_environment(task, &mut control).await,
        "unpack-channel" => {
            let advice = "let the board do it: `--max-jobs 1` there, or any other machine of its own";
            let known = "is not among those that this executor performs (fetchurl, buildenv)";
            Err(Stop::Failed(format!("builtin builder 'unpack-channel' {known}: {advice}")))
        }
        other => Err(Stop::Failed(format!("unsupported builtin builder '{other}'"))),
    };
    match done {
        Ok(()) => Ok(Ended::Exited(0)),
        Err(Stop::Failed(text)) => match control.say(&format!("\x1b[31;1merror:\x1b[0m {text}\n")).await {
            Err(Stop::Ended(ended)) => Ok(ended),
            _ => Ok(Ended::Exited(1)),
        },
        Err(Stop::Ended(ended)) => Ok(ended),
        Err(Stop::Own(failure)) => Err(failure),
    }
}

async fn build_environment(task: Task, control: &mut Control<'_>) -> Result<(), Stop> {
    let (bell, warnings) = control.aside();
    let working = blocking(move || buildenv::perform(&task, bell));
    let (heard, worked) = tokio::join!(control.repeat(warnings), working);
    // Whoever listens knows best why the work was given up.
    heard.and(worked)
}
