//! `cargo xtask tidy`: the rules of this house that no compiler checks. Also a test, so that nobody forgets it.

mod documents;
mod layers;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::{capture, command};

/// A rule that is broken: where, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Path below the repository, with a line where there is one.
    pub place: String,
    /// What is wrong.
    pub text: String,
}

impl Complaint {
    fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }
}

/// Checks everything; prints every complaint, then fails if there was one.
pub fn run() -> Result<()> {
    let root = crate::repository();
    let complaints = check(&root)?;
    for complaint in &complaints {
        println!("{}: {}", complaint.place, complaint.text);
    }
    println!("tidy: building scheduler and model where there is no operating system");
    capture(
        command("cargo", &["build", "-p", "scheduler", "-p", "model", "--target", "x86_64-unknown-none"])
            .current_dir(root),
    )
    .context("scheduler and model must build for x86_64-unknown-none: they may do no I/O")?;
    if !complaints.is_empty() {
        bail!("tidy: {} complaints", complaints.len());
    }
    println!("tidy: fine");
    Ok(())
}

/// All rules but the build for a machine without an operating system.
fn check(root: &Path) -> Result<Vec<Complaint>> {
    let files = files(root)?;
    let mut complaints = layers::check(root)?;
    for path in &files {
        // A file with other bytes than UTF-8 is data: no rule here is about data.
        let Ok(text) = fs::read_to_string(root.join(path)) else { continue };
        let name = path.to_string_lossy();
        complaints.extend(sources::check(&name, &text));
        if name.ends_with(".md") {
            complaints.extend(documents::check(root, &name, &text));
        }
    }
    Ok(complaints)
}

/// What git tracks, or would track.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let listed = capture(
        command("git", &["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root),
    )?;
    Ok(listed.lines().map(PathBuf::from).filter(|path| root.join(path).is_file()).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let complaints = super::check(&crate::repository()).unwrap();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}
