//! The cluster's side: cases handed over by a board's client, and what of them the board's store then has.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::{Board, Client, PathInfo, Process, Verdict, for_all};

use crate::cases::{Case, Cases};
use crate::compare::Settled;
use crate::failure::of_client;

/// All cases that build, in one plan.
const PLAN_LIMIT: Duration = Duration::from_secs(600);
/// One case that fails.
const CASE_LIMIT: Duration = Duration::from_secs(90);
/// Nothing new for so long, while something waits for an executor that there is not: nothing comes any more.
const STILL_LIMIT: Duration = Duration::from_secs(20);
/// The same for one case by itself.
const STILL_LIMIT_ALONE: Duration = Duration::from_millis(1500);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a cancellation may take.
const CANCEL_LIMIT: Duration = Duration::from_secs(30);

/// What the client says when nobody can build something.
const WAITS: &str = ": no executor of the cluster offers ";

/// Settles cases: those that are to build together, every other alone, so that its exit code and messages are its own.
pub fn settle(
    client: &Client<'_>,
    board: &Board,
    cases: &Cases,
    builds: impl Fn(&Case) -> bool,
) -> Result<BTreeMap<String, Settled>> {
    let (together, alone): (Vec<_>, Vec<_>) = cases.iter().partition(|(_, case)| builds(case));
    let mut infos = BTreeMap::new();
    if !together.is_empty() {
        let wanted: Vec<String> = together.iter().map(|(_, case)| format!("{}^*", case.derivation)).collect();
        let mut arguments = vec!["build", "--no-out-link", "--log"];
        arguments.extend(wanted.iter().map(String::as_str));
        let mut built = client.start("all", &arguments)?;
        let end = end(&mut built, PLAN_LIMIT, STILL_LIMIT)?;
        let paths: Vec<String> =
            together.iter().flat_map(|(_, case)| case.outputs.values().cloned()).collect();
        infos = board.store().path_infos(&paths)?;
        ensure!(!infos.is_empty(), "nothing at all was built ({end:?}):\n{}", built.log()?);
    }
    let (mut settled, mut failing) = (BTreeMap::new(), alone);
    for (name, case) in together {
        match built(case, &infos) {
            Some(built) => drop(settled.insert(name.clone(), built)),
            None => failing.push((name, case)),
        }
    }
    let failed =
        for_all(&failing, |(name, case)| Ok(((*name).clone(), by_itself(client, board, name, case)?)))?;
    settled.extend(failed);
    Ok(settled)
}

/// A case all of whose outputs the board has.
fn built(case: &Case, infos: &BTreeMap<String, PathInfo>) -> Option<Settled> {
    let output = |(output, path): (&String, &String)| {
        infos.get(path).map(|info| (output.clone(), (path.clone(), info.clone())))
    };
    let outputs = case.outputs.iter().map(output).collect::<Option<_>>()?;
    Some(Settled::Built(Verdict::Built(outputs)))
}

/// How a client ended.
#[derive(Debug)]
enum End {
    /// By itself, with a code.
    Exit(i32),
    /// Interrupted: what it waits for does not come.
    Waits,
    /// Interrupted: it took too long.
    TooLong,
}

fn by_itself(client: &Client<'_>, board: &Board, name: &str, case: &Case) -> Result<Settled> {
    let all = format!("{}^*", case.derivation);
    let log = format!("case-{name}").replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    let mut process = client.start(&log, &["build", "--no-out-link", "--log", &all])?;
    let end = end(&mut process, CASE_LIMIT, STILL_LIMIT_ALONE)?;
    let said = process.log()?;
    Ok(match end {
        // Real Nix failed.
        End::Exit(0) => {
            let paths: Vec<String> = case.outputs.values().cloned().collect();
            let infos = board.store().path_infos(&paths)?;
            built(case, &infos).with_context(|| format!("{name}: no error, and no outputs"))?
        }
        End::Exit(code) => Settled::Failed(of_client(code, &said)),
        End::Waits => {
            let waits = said.lines().filter_map(|line| line.split_once(WAITS)).map(|(_, what)| what);
            Settled::Waits(waits.collect::<Vec<_>>().join(", "))
        }
        End::TooLong => Settled::Endless,
    })
}

/// Waits for a client's end. One that waits for an executor that there is not would never end.
fn end(process: &mut Process, limit: Duration, still_limit: Duration) -> Result<End> {
    let started = Instant::now();
    let (mut length, mut changed) = (0, Instant::now());
    let end = loop {
        if let Some(status) = process.ended()? {
            return Ok(End::Exit(status.code().context("the client was killed")?));
        }
        let said = process.log()?;
        if said.len() != length {
            (length, changed) = (said.len(), Instant::now());
        } else if changed.elapsed() > still_limit && said.contains(WAITS) {
            break End::Waits;
        } else if started.elapsed() > limit {
            break End::TooLong;
        }
        thread::sleep(POLL_INTERVAL);
    };
    // Nobody is there to be asked: it cancels its plan.
    process.signal("INT")?;
    process.wait(CANCEL_LIMIT)?;
    Ok(end)
}
