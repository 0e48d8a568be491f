//! Conformance: every output and every failure of a table of derivations is what real Nix makes of it, native and emulated.
//! `cargo xtask conformance` asks for other tables and other versions.
#![expect(clippy::print_stdout, reason = "how many cases were compared is worth a table")]

mod cases;
mod compare;
mod contents;
mod emulation;
mod exceptions;
mod failure;
mod files;
mod floating;
mod layout;
mod report;
mod request;
mod rules;
mod served;
mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cases::{Cases, Found};
use compare::{Difference, Settled, Words, differences};
use exceptions::Exceptions;
use report::{Facts, Report};
use request::Request;
use tests::{
    Bind, Board, BoardSpec, Cluster, ClusterSpec, Lab, Oracle, OracleSpec, Release, User, Verdict, run,
};

/// Real Nix hangs for ever where process 1 dies of a fault under qemu; no case is silent for as long otherwise.
const SILENCE_MAX_S: u32 = 30;
/// Where derivations travel from board to oracle.
const TRAVEL: &str = "/tmp/derivations";

#[test]
fn a_cluster_makes_what_real_nix_makes() {
    run("conformance", compare_with_real_nix);
}

fn compare_with_real_nix(lab: &Lab) -> Result<()> {
    let request = Request::from_environment()?;
    let directory = layout::make(lab)?;
    let server = served::Server::start(lab, &directory.join("served"))?;
    layout::serve(&directory, &server.url())?;
    let mut binds = vec![layout::bind(&directory)];
    binds.extend(layout::binds_of(&request.files)?);
    let mut spec = ClusterSpec::default();
    spec.executors.iter_mut().for_each(|executor| executor.has_shell = true);
    let cluster = Cluster::start(lab, spec)?;
    let spec = BoardSpec { name: "board".into(), binds: binds.clone(), ..BoardSpec::default() };
    let board = cluster.board(spec)?;
    // As root: files from anyone may be readable for their owner only.
    let administrator = tests::NixStore { user: User::Root, ..board.store() };
    let found = cases::find(&administrator, &request)?;
    let mut settled = None;
    let mut failed = Vec::new();
    for release in request.releases()? {
        let oracle = start_oracle(lab, &cluster, release, binds.clone(), "")?;
        bring(&found.cases, &board, &oracle)?;
        let started = Instant::now();
        let verdicts = oracle.build(&outputs_of(&found.cases))?;
        println!("real Nix {} took {:.0} s", oracle.version(), started.elapsed().as_secs_f64());
        if request.is_long() && request.files.is_empty() {
            let built = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Built(_)));
            let built: Vec<String> = built.map(|(derivation, _)| derivation.clone()).collect();
            oracle.check(&built).context("a case gives other bits when real Nix builds it again")?;
        }
        let settled = match &settled {
            Some(settled) => settled,
            None => settled.insert(settle_all(&cluster, &board, &found.cases, &verdicts)?),
        };
        let again = |cases: &Cases| -> Result<BTreeMap<String, Verdict>> {
            let fresh = start_oracle(lab, &cluster, release, binds.clone(), "-again")?;
            bring(cases, &board, &fresh)?;
            fresh.build(&outputs_of(cases))
        };
        let compared = Compared { found: &found, verdicts: &verdicts, settled, again: &again };
        if let Err(error) = compared.judge(&oracle, &board, release) {
            failed.push(format!("{error:#}"));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

fn start_oracle(
    lab: &Lab,
    cluster: &Cluster,
    release: Release,
    binds: Vec<Bind>,
    suffix: &str,
) -> Result<Oracle> {
    let spec = OracleSpec {
        name: format!("oracle-{release:?}{suffix}").replace('_', "-").to_lowercase(),
        release,
        interpreters: cluster.interpreters()?,
        binds,
        has_shell: true,
        silence_max_s: Some(SILENCE_MAX_S),
        configuration: String::new(),
    };
    Oracle::start(lab, spec)
}

/// By derivation, what it makes.
fn outputs_of(cases: &Cases) -> BTreeMap<String, BTreeMap<String, String>> {
    cases.values().map(|case| (case.derivation.clone(), case.outputs.clone())).collect()
}

/// Brings the board's derivations to the oracle: older versions would evaluate a few of them to others.
fn bring(cases: &Cases, board: &Board, oracle: &Oracle) -> Result<()> {
    let derivations: Vec<String> = cases.values().map(|case| case.derivation.clone()).collect();
    let store = tests::NixStore { user: User::Root, ..board.store() };
    store.export_derivations(&derivations, TRAVEL)?;
    let copied = std::process::Command::new("cp")
        .arg("-rT")
        .args([board.host.outside(TRAVEL), oracle.host().outside(TRAVEL)])
        .status()?;
    anyhow::ensure!(copied.success(), "copy derivations to the oracle: {copied}");
    oracle.store().import_derivations(&derivations, TRAVEL)
}

fn settle_all(
    cluster: &Cluster,
    board: &Board,
    cases: &Cases,
    verdicts: &BTreeMap<String, Verdict>,
) -> Result<BTreeMap<String, Settled>> {
    let started = Instant::now();
    let builds = |case: &cases::Case| matches!(verdicts.get(&case.derivation), Some(Verdict::Built(_)));
    let settled = settle::settle(&cluster.client(board), board, cases, builds)?;
    println!("the cluster took {:.0} s", started.elapsed().as_secs_f64());
    Ok(settled)
}

/// Both sides of a comparison.
struct Compared<'a> {
    found: &'a Found,
    verdicts: &'a BTreeMap<String, Verdict>,
    settled: &'a BTreeMap<String, Settled>,
    /// Real Nix once more, with an empty store.
    again: &'a dyn Fn(&Cases) -> Result<BTreeMap<String, Verdict>>,
}

impl Compared<'_> {
    fn judge(&self, oracle: &Oracle, board: &Board, release: Release) -> Result<()> {
        let words = if release == Release::default() { Words::All } else { Words::Class };
        let mut facts = Facts::default();
        let mut all = Vec::new();
        for (name, case) in &self.found.cases {
            let expected =
                self.verdicts.get(&case.derivation).with_context(|| format!("no verdict on {name}"))?;
            match expected {
                Verdict::Built(_) => {}
                Verdict::Failed { .. } => drop(facts.failing.insert(name.clone())),
                Verdict::Hangs => drop(facts.hanging.insert(name.clone())),
            }
            all.extend(differences(name, expected, &self.settled[name], words));
        }
        let is_case = |name: &str| self.found.cases.contains_key(name);
        let exceptions = Exceptions::for_version(oracle.version(), is_case)?;
        facts.changing = self.changing(&all, &exceptions, words)?;
        all.retain(|one| !facts.changing.contains(&one.case));
        all.iter_mut().for_each(|one| show_contents(one, oracle, board));
        let report = Report {
            version: oracle.version(),
            found: self.found,
            facts: &facts,
            differences: &all,
            exceptions: &exceptions,
        };
        println!("{report}");
        exceptions.check(&all)
    }

    /// Cases that differ, where real Nix differs from itself when it is asked once more: a race of its own, on a busy machine.
    fn changing(
        &self,
        all: &[Difference],
        exceptions: &Exceptions,
        words: Words,
    ) -> Result<BTreeSet<String>> {
        let unexpected = |one: &&Difference| !exceptions.accepts(one);
        let cases: Cases = all
            .iter()
            .filter(unexpected)
            .filter_map(|one| Some((one.case.clone(), self.found.cases.get(&one.case)?.clone())))
            .collect();
        if cases.is_empty() {
            return Ok(BTreeSet::new());
        }
        let verdicts = (self.again)(&cases).context("ask real Nix again")?;
        let is_changing = |(name, case): &(&String, &cases::Case)| {
            let Some(verdict) = verdicts.get(&case.derivation) else { return false };
            let second = differences(name, verdict, &self.settled[*name], words);
            let is_other = |one: &Difference| {
                let first = all.iter().find(|first| first.case == one.case && first.fact == one.fact);
                one.fact == compare::NAR_HASH && first.is_none_or(|first| first.expected != one.expected)
            };
            // What the cluster does, real Nix does as well, at times; or it makes other bits each time.
            second.is_empty() || second.iter().any(is_other)
        };
        Ok(cases.iter().filter(is_changing).map(|(name, _)| name.clone()).collect())
    }
}

/// Adds what only one has to a difference in contents.
fn show_contents(difference: &mut Difference, oracle: &Oracle, board: &Board) {
    if difference.fact == compare::NAR_HASH {
        let path = difference.expected.split(' ').next().unwrap_or_default().to_owned();
        let (real, ours) = contents::differing(&oracle.host().outside(&path), &board.host.outside(&path));
        difference.expected.push_str(&format!("\n{real}"));
        difference.found.push_str(&format!("\n{ours}"));
    }
}
