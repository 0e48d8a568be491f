//! Where a cluster and real Nix differ about a case. Pure.

use std::fmt;

use tests::Verdict;

use crate::failure::{Failure, of_nix};

/// The fact that contents differ.
pub const NAR_HASH: &str = "NAR hash";

/// How the cluster settled a case.
#[derive(Clone, Debug)]
pub enum Settled {
    /// As [`Verdict::Built`], from the board's store.
    Built(Verdict),
    /// The client's end.
    Failed(Failure),
}

/// One fact about one case that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `native.NAME` or `emulated.NAME`.
    pub case: String,
    /// Which fact.
    pub fact: &'static str,
    /// Real Nix.
    pub expected: String,
    /// The cluster.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, fact, expected, found } = self;
        writeln!(f, "{case}: {fact}\n--- real Nix\n{expected}\n--- cluster\n{found}")
    }
}

/// Compares one case.
pub fn differences(case: &str, expected: &Verdict, found: &Settled) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut fact = |fact, expected: String, found: String| {
        if expected != found {
            all.push(Difference { case: case.to_owned(), fact, expected, found });
        }
    };
    match (expected, found) {
        (Verdict::Built(expected), Settled::Built(Verdict::Built(found))) => {
            for (output, (path, info)) in expected {
                let other = found.get(output).map(|(_, info)| info);
                let hash = other.map_or("missing", |other| other.nar_hash.as_str());
                fact(NAR_HASH, format!("{path} {}", info.nar_hash), format!("{path} {hash}"));
                let references = other.map(|other| other.references.join("\n")).unwrap_or_default();
                fact("references", info.references.join("\n"), references);
            }
        }
        (Verdict::Failed { exit_code, text }, Settled::Failed(found)) => {
            let expected = of_nix(*exit_code, text);
            fact("exit code", expected.exit_code.to_string(), found.exit_code.to_string());
            fact("message", expected.message, found.message.clone());
            fact("log", expected.log, found.log.clone());
        }
        (Verdict::Failed { text, .. }, Settled::Built(_)) => {
            fact("result", format!("fails: {text}"), "built".into());
        }
        (Verdict::Built(_), Settled::Failed(failure)) => {
            fact("result", "built".into(), format!("fails: {failure:?}"));
        }
        (Verdict::Built(_), Settled::Built(Verdict::Failed { text, .. })) => {
            fact("result", "built".into(), text.clone());
        }
    }
    all
}
