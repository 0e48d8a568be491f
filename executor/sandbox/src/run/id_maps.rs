//! Who is who in the outer user namespace: 0 is the executor, 1 the build. Root writes the maps, others ask newuidmap.
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

use crate::failure::{StepError, failed};
use crate::probe::find_in_path;
use crate::spec::Ids;

/// Longest complaint of newuidmap that is repeated, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 2000;

/// Maps executor and build into the user namespace of `process`.
pub fn write(process: Pid, own: Ids, build: Ids) -> Result<(), StepError> {
    let maps =
        [("uid_map", "newuidmap", own.user, build.user), ("gid_map", "newgidmap", own.group, build.group)];
    if own.user == 0 {
        for (file, _, own, build) in maps {
            let path = format!("/proc/{process}/{file}");
            let text = format!("0 {own} 1\n1 {build} 1\n");
            std::fs::write(&path, text).map_err(failed("write id map", &path))?;
        }
        return Ok(());
    }
    // Both at once: each is a process start.
    let mut running = Vec::new();
    for (_, program, own, build) in maps {
        running.push((program, start(program, process, own, build)?));
    }
    running.into_iter().try_for_each(|(program, child)| finish(program, child))
}

fn start(program: &'static str, process: Pid, own: u32, build: u32) -> Result<Child, StepError> {
    let path = find_in_path(program).ok_or_else(|| {
        let missing = io::Error::other("not in PATH: install the package uidmap (shadow on NixOS)");
        failed("map ids with", program)(missing)
    })?;
    let numbers = [0, own, 1, 1, build, 1].map(|number| number.to_string());
    Command::new(path)
        .arg(process.to_string())
        .args(numbers)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("map ids with", program))
}

fn finish(program: &'static str, mut child: Child) -> Result<(), StepError> {
    let mut complaint = String::new();
    if let Some(stderr) = child.stderr.take() {
        // What it says only matters when it fails, and then unreadable text is no second failure.
        let _unreadable = stderr.take(COMPLAINT_BYTES_MAX).read_to_string(&mut complaint);
    }
    let status = child.wait().map_err(failed("map ids with", program))?;
    if status.success() {
        return Ok(());
    }
    let text = format!("{status}: {}", complaint.trim());
    Err(failed("map ids with", program)(io::Error::other(text)))
}
