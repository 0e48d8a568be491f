//! Where a cluster and real Nix differ about a case. Pure.

use std::fmt;

use ::tests::Verdict;

use crate::failure::{Failure, class, of_nix};

/// The fact that contents differ.
pub const NAR_HASH: &str = "NAR hash";

/// How the cluster settled a case.
#[derive(Clone, Debug)]
pub enum Settled {
    /// As [`Verdict::Built`], from the board's store.
    Built(Verdict),
    /// The client's end.
    Failed(Failure),
    /// It waits for an executor that offers this.
    Waits(String),
    /// It did not end.
    Endless,
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Built(_) => f.write_str("built"),
            Self::Failed(Failure { exit_code, message, log }) => {
                write!(f, "fails ({exit_code}): {message}\nlog:\n{log}")
            }
            Self::Waits(requirement) => write!(f, "waits for an executor that offers {requirement}"),
            Self::Endless => f.write_str("does not end"),
        }
    }
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

/// How much of a failure is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// Every word: ours are those of this version.
    All,
    /// What kind of failure it is: this version has other words for it.
    Class,
}

/// Compares one case.
pub fn differences(case: &str, expected: &Verdict, found: &Settled, words: Words) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut fact = |fact, expected: String, found: String| {
        if expected != found {
            all.push(Difference { case: case.to_owned(), fact, expected, found });
        }
    };
    match (expected, found) {
        (Verdict::Built(expected), Settled::Built(Verdict::Built(found))) => {
            for (output, (path, info)) in expected {
                let Some((_, other)) = found.get(output) else {
                    fact("result", format!("{path} built"), "missing".into());
                    continue;
                };
                fact(NAR_HASH, format!("{path} {}", info.nar_hash), format!("{path} {}", other.nar_hash));
                fact("NAR size", info.nar_size.to_string(), other.nar_size.to_string());
                fact("references", info.references.join("\n"), other.references.join("\n"));
                fact("deriver", info.deriver.clone(), other.deriver.clone());
            }
        }
        (Verdict::Failed { exit_code, text }, Settled::Failed(found)) => {
            let expected = of_nix(*exit_code, text);
            fact("exit code", expected.exit_code.to_string(), found.exit_code.to_string());
            match words {
                Words::All => fact("message", expected.message, found.message.clone()),
                Words::Class => fact("class", class(&expected.message), class(&found.message)),
            }
            fact("log", expected.log, found.log.clone());
        }
        // What nobody can build fails in Nix, and waits in a cluster: an executor may come.
        (Verdict::Failed { text, .. }, Settled::Waits(_)) if class(text) == "requirement" => {}
        (Verdict::Failed { text, .. }, _) => fact("result", format!("fails: {text}"), found.to_string()),
        // Real Nix never ends: whatever ends is better.
        (Verdict::Hangs, Settled::Endless) => fact("result", "hangs".into(), "hangs as well".into()),
        (Verdict::Hangs, _) => {}
        (Verdict::Built(_), _) => fact("result", "built".into(), found.to_string()),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{Settled, Words, differences};
    use crate::failure::Failure;
    use ::tests::Verdict;

    #[test]
    fn what_differs_is_named() {
        let text = "error: builder for '/nix/store/x-a.drv' failed with exit code 3;\n";
        let old = Verdict::Failed { exit_code: 100, text: text.into() };
        let message =
            "error: Cannot build '/nix/store/x-a.drv'.\n       Reason: builder failed with exit code 3.";
        let ours = Settled::Failed(Failure { exit_code: 100, message: message.into(), log: String::new() });
        let facts = |expected: &Verdict, found: &Settled, words| -> Vec<&str> {
            differences("a", expected, found, words).into_iter().map(|one| one.fact).collect()
        };
        assert_eq!(facts(&old, &ours, Words::Class), [""; 0]);
        assert_eq!(facts(&old, &ours, Words::All), ["message"]);
        assert_eq!(facts(&old, &Settled::Waits("x".into()), Words::Class), ["result"]);
        assert_eq!(facts(&Verdict::Hangs, &ours, Words::All), [""; 0]);
        assert_eq!(facts(&Verdict::Hangs, &Settled::Endless, Words::All), ["result"]);
        assert_eq!(facts(&Verdict::Built([].into()), &ours, Words::All), ["result"]);
    }
}
