//! Conformance: every output and every failure of a table of derivations is what real Nix makes of it, native and emulated.
#![expect(clippy::print_stdout, reason = "how many cases were compared is worth a line")]

mod cases;
mod compare;
mod emulation;
mod exceptions;
mod failure;
mod layout;
mod served;
mod settle;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use compare::differences;
use exceptions::Exceptions;
use tests::{BoardSpec, Cluster, ClusterSpec, Host, Lab, Oracle, Verdict, run};

/// Of each side of a difference in contents.
const TEXT_BYTES_SHOWN: usize = 4000;

#[test]
fn a_cluster_makes_what_real_nix_makes() {
    run("conformance", compare_with_real_nix);
}

fn compare_with_real_nix(lab: &Lab) -> Result<()> {
    let directory = layout::make(lab)?;
    let server = served::Server::start(lab, &directory.join("served"))?;
    layout::serve(&directory, &server.url())?;
    let cluster = Cluster::start(lab, ClusterSpec::default())?;
    let interpreter = cluster.interpreter()?;
    let oracle = Oracle::start(lab, "oracle", Some(&interpreter), vec![layout::bind(&directory)])?;
    let binds = vec![layout::bind(&directory)];
    let board = cluster.board(BoardSpec { name: "board".into(), binds, ..BoardSpec::default() })?;
    let cases = cases::instantiate(&oracle.store())?;
    ensure!(
        cases == cases::instantiate(&board.store())?,
        "board and oracle instantiate different derivations"
    );

    let outputs: BTreeMap<_, _> =
        cases.values().map(|case| (case.derivation.clone(), case.outputs.clone())).collect();
    let started = Instant::now();
    let verdicts = oracle.build(&outputs)?;
    let nix_took = started.elapsed();
    let builds = |case: &cases::Case| matches!(verdicts.get(&case.derivation), Some(Verdict::Built(_)));
    let built: Vec<String> =
        cases.values().filter(|case| builds(case)).map(|case| case.derivation.clone()).collect();
    if std::env::var("ELSEWHERE_TIER").is_ok_and(|tier| tier == "long") {
        oracle.check(&built).context("a case gives other bits when real Nix builds it again")?;
    }

    let started = Instant::now();
    let settled = settle::settle(&cluster.client(&board), &board, &cases, builds)?;
    let mut found = Vec::new();
    for (name, case) in &cases {
        let expected = verdicts.get(&case.derivation).with_context(|| format!("no verdict on {name}"))?;
        let mut new = differences(name, expected, &settled[name]);
        new.iter_mut().for_each(|one| show_contents(one, oracle.host(), &board.host));
        found.extend(new);
    }
    let exceptions = Exceptions::for_version(oracle.version())?;
    println!(
        "Nix {}: {} cases, {} of them fail; real Nix took {:.0} s, the cluster {:.0} s; {} accepted differences",
        oracle.version(),
        cases.len(),
        cases.len() - built.len(),
        nix_took.as_secs_f64(),
        started.elapsed().as_secs_f64(),
        exceptions.len()
    );
    exceptions.check(&found)
}

/// Adds what both have, where that is a text, to a difference in contents.
fn show_contents(difference: &mut compare::Difference, real: &Host, board: &Host) {
    if difference.fact == compare::NAR_HASH {
        for (said, host) in [(&mut difference.expected, real), (&mut difference.found, board)] {
            let path = said.split(' ').next().map(|path| host.outside(path)).filter(|path| path.is_file());
            let text = path.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text[..text.len().min(TEXT_BYTES_SHOWN)]).into_owned();
            said.push('\n');
            said.push_str(&text);
        }
    }
}
