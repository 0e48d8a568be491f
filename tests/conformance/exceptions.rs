//! Differences that are known and accepted, by version of real Nix, in `exceptions.toml`. One that is no difference any more
//! is a mistake in that file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::compare::Difference;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    exception: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    /// `native.NAME`, `emulated.NAME`, or `NAME` for all kinds; of files from elsewhere `FILE.NAME` and `FILE-emulated.NAME`.
    cases: Vec<String>,
    /// Versions of real Nix that differ: `2.34` stands for every 2.34.x.
    versions: Vec<String>,
    /// Which facts: `result`, `NAR hash`, `NAR size`, `references`, `deriver`, `exit code`, `message`, `class`, `log`.
    differs: Vec<String>,
    reason: String,
    /// Not in every run: what differs is a race, or the host's own.
    #[serde(default)]
    sometimes: bool,
}

/// What is accepted for one version.
#[derive(Debug, Default)]
pub struct Exceptions {
    /// By case and fact.
    accepted: BTreeMap<(String, String), Accepted>,
}

#[derive(Clone, Debug)]
struct Accepted {
    reason: String,
    sometimes: bool,
}

impl Exceptions {
    /// Reads the file for a version of real Nix, and those cases that there are.
    pub fn for_version(version: &str, is_case: impl Fn(&str) -> bool) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/exceptions.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let file: File = toml::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        let mut accepted = BTreeMap::new();
        for exception in file.exception {
            ensure!(!exception.reason.is_empty(), "an exception for {:?} has no reason", exception.cases);
            let reason = Accepted { reason: exception.reason, sometimes: exception.sometimes };
            if exception.versions.iter().any(|known| is_of(version, known)) {
                for case in
                    exception.cases.iter().flat_map(|case| all_kinds(case)).filter(|case| is_case(case))
                {
                    let facts = exception.differs.iter();
                    accepted.extend(facts.map(|fact| ((case.clone(), fact.clone()), reason.clone())));
                }
            }
        }
        Ok(Self { accepted })
    }

    /// Fails unless exactly the accepted differences were found.
    pub fn check(&self, found: &[Difference]) -> Result<()> {
        let key = |difference: &Difference| (difference.case.clone(), difference.fact.to_owned());
        let keys: BTreeSet<_> = found.iter().map(key).collect();
        let new: Vec<String> = found
            .iter()
            .filter(|one| !self.accepted.contains_key(&key(one)))
            .map(ToString::to_string)
            .collect();
        let stale =
            self.accepted.iter().filter(|(key, accepted)| !accepted.sometimes && !keys.contains(*key));
        let stale: Vec<String> = stale.map(|((case, fact), _)| format!("{case}: {fact}")).collect();
        ensure!(
            new.is_empty() && stale.is_empty(),
            "{} differences from real Nix:\n{}\n{} exceptions are none any more:\n{}",
            new.len(),
            new.join("\n"),
            stale.len(),
            stale.join("\n")
        );
        Ok(())
    }

    /// Whether a difference is accepted.
    pub fn accepts(&self, difference: &Difference) -> bool {
        self.accepted.contains_key(&(difference.case.clone(), difference.fact.to_owned()))
    }

    /// Reasons, each with the cases that it is for.
    pub fn by_reason(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for ((case, _), accepted) in &self.accepted {
            reasons.entry(&accepted.reason).or_default().insert(case);
        }
        reasons
    }
}

/// A name without a kind stands for the cases of all kinds.
fn all_kinds(case: &str) -> Vec<String> {
    if case.contains('.') {
        return vec![case.to_owned()];
    }
    ["native", "emulated", "armv7l", "riscv64"].map(|kind| format!("{kind}.{case}")).to_vec()
}

fn is_of(version: &str, known: &str) -> bool {
    version.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::{Accepted, Exceptions, all_kinds, is_of};
    use crate::compare::Difference;

    #[test]
    fn versions_are_compared_by_their_words() {
        for (version, known, expected) in [
            ("2.34.8", "2.34", true),
            ("2.34.8", "2.3", false),
            ("2.8.0", "2", true),
            ("2.34.8", "2.34.8", true),
        ] {
            assert_eq!(is_of(version, known), expected, "{version} {known}");
        }
    }

    #[test]
    fn a_name_without_a_kind_stands_for_all() {
        assert_eq!(all_kinds("a"), ["native.a", "emulated.a", "armv7l.a", "riscv64.a"]);
        assert_eq!(all_kinds("native.a"), ["native.a"]);
    }

    #[test]
    fn new_and_stale_differences_fail() {
        let accepted = |case: &str, sometimes| {
            ((case.to_owned(), "log".to_owned()), Accepted { reason: "why".into(), sometimes })
        };
        let exceptions =
            Exceptions { accepted: [accepted("native.a", false), accepted("native.race", true)].into() };
        let difference = |case: &str| Difference {
            case: case.into(),
            fact: "log",
            expected: String::new(),
            found: String::new(),
        };
        assert!(exceptions.check(&[difference("native.a")]).is_ok());
        assert!(exceptions.check(&[difference("native.a"), difference("native.race")]).is_ok());
        assert!(exceptions.check(&[]).is_err());
        assert!(exceptions.check(&[difference("native.a"), difference("native.b")]).is_err());
    }
}
