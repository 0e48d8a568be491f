//! The cluster's side: cases handed over by a board's client, and what of them the board's store then has.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Board, Client, Verdict, for_all};

use crate::cases::{Case, Cases};
use crate::compare::Settled;
use crate::failure::{self, of_client};

/// All cases that build, in one plan.
const PLAN_LIMIT: Duration = Duration::from_secs(600);
/// One case that fails.
const CASE_LIMIT: Duration = Duration::from_secs(60);

/// Settles cases: those that are to build together, every other alone, so that its exit code and messages are its own.
pub fn settle(
    client: &Client<'_>,
    board: &Board,
    cases: &Cases,
    builds: impl Fn(&Case) -> bool,
) -> Result<BTreeMap<String, Settled>> {
    let (together, alone): (Vec<_>, Vec<_>) = cases.iter().partition(|(_, case)| builds(case));
    let wanted: Vec<String> = together.iter().map(|(_, case)| format!("{}^*", case.derivation)).collect();
    let mut arguments = vec!["build", "--no-out-link", "--log"];
    arguments.extend(wanted.iter().map(String::as_str));
    let mut built = client.start("all", &arguments)?;
    let end = built.wait(PLAN_LIMIT)?;
    let said = built.log()?;
    let paths: Vec<String> = together.iter().flat_map(|(_, case)| case.outputs.values().cloned()).collect();
    let infos = board.store().path_infos(&paths)?;
    ensure!(!infos.is_empty(), "nothing at all was built ({end}):\n{said}");
    let (mut settled, mut failing) = (BTreeMap::new(), alone);
    for (name, case) in together {
        let outputs = case
            .outputs
            .iter()
            .map(|(output, path)| infos.get(path).map(|info| (output.clone(), (path.clone(), info.clone()))));
        match outputs.collect::<Option<_>>() {
            Some(outputs) => drop(settled.insert(name.clone(), Settled::Built(Verdict::Built(outputs)))),
            None => failing.push((name, case)),
        }
    }
    let failed =
        for_all(&failing, |(name, case)| Ok(((*name).clone(), Settled::Failed(failed(client, case)?))))?;
    settled.extend(failed);
    Ok(settled)
}

fn failed(client: &Client<'_>, case: &Case) -> Result<failure::Failure> {
    let all = format!("{}^*", case.derivation);
    let finished = client.run(CASE_LIMIT, &["build", "--no-out-link", "--log", &all])?;
    Ok(of_client(finished.status.code().context("the client was killed")?, &finished.stderr))
}
