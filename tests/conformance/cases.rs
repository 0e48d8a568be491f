//! The cases: the own table, or every derivation that files from anyone evaluate to.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tests::NixStore;

use crate::layout;
use crate::request::Request;

/// One case: its derivation and where its outputs will be.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Case {
    /// Full path of the `.drv`.
    pub derivation: String,
    /// Output name to path.
    pub outputs: BTreeMap<String, String>,
    /// Ids of the rules that it is about; files from anyone name none.
    #[serde(default)]
    pub rules: Vec<String>,
}

/// Cases by name; of the own table the name begins with `native.`, `emulated.` (aarch64), `armv7l.` or
/// `riscv64.`, of a file with the file's (`FILE-emulated.`).
pub type Cases = BTreeMap<String, Case>;

/// What there is to compare.
#[derive(Debug, Default)]
pub struct Found {
    /// The cases.
    pub cases: Cases,
    /// Names of what does not evaluate to a derivation with known outputs, and why not.
    pub not_evaluated: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    case: Case,
}

/// Instantiates all cases of a request in a store.
pub fn find(store: &NixStore<'_>, request: &Request) -> Result<Found> {
    if request.files.is_empty() {
        let mut cases = instantiate(store)?;
        cases.retain(|name, _| !request.emulated || !name.starts_with("native."));
        let is_named = |name: &String| request.names.iter().any(|part| name.contains(part));
        cases.retain(|name, _| request.names.is_empty() || is_named(name));
        ensure!(!cases.is_empty(), "no case has {:?} in its name", request.names);
        if !request.is_whole() {
            cases.retain(|name, case| is_of_every_tier(name, case));
        }
        return Ok(Found { cases, ..Found::default() });
    }
    let mut found = Found::default();
    for (number, file) in request.files.iter().enumerate() {
        let inside = layout::file_in_hosts(number, file)?;
        let before = found.cases.len();
        of_file(store, file, &inside, request, &mut found)
            .with_context(|| format!("evaluate {}", file.display()))?;
        ensure!(found.cases.len() > before, "{} has no derivation that evaluates", file.display());
    }
    Ok(found)
}

/// Of the foreign systems beside aarch64 the tier `test` builds what can differ between them: sandbox and emulation.
fn is_of_every_tier(name: &str, case: &Case) -> bool {
    let is_of_all_kinds = ["native.", "emulated."].iter().any(|kind| name.starts_with(kind));
    is_of_all_kinds || case.rules.iter().any(|rule| rule.starts_with("H2.") || rule.starts_with('C'))
}

/// Instantiates the own table.
pub fn instantiate(store: &NixStore<'_>) -> Result<Cases> {
    let file = format!("{}/cases/default.nix", layout::IN_HOSTS);
    let kinds: BTreeMap<String, Cases> = store.evaluate(&file, &["--read-write-mode"])?;
    let mut all = Cases::new();
    for (kind, cases) in kinds {
        all.extend(cases.into_iter().map(|(name, case)| (format!("{kind}.{name}"), case)));
    }
    ensure!(all.len() >= 120, "only {} cases: some file of cases is not read", all.len());
    for (name, case) in &all {
        ensure!(!case.rules.is_empty(), "case {name} names no rule that it covers (rules.toml)");
    }
    Ok(all)
}

/// Of `walk.nix`.
struct Arguments<'a> {
    file: &'a str,
    given: &'a str,
}

impl<'a> Arguments<'a> {
    fn wanting(&self, want: &'a str) -> [&'a str; 10] {
        let Self { file, given } = *self;
        let [name, file_name, arguments, wanted] = ["--argstr", "file", "arguments", "want"];
        ["--read-write-mode", name, file_name, file, name, arguments, given, name, wanted, want]
    }
}

/// All of a file in one go; where that fails, each by itself, so that one mistake does not hide all others.
fn of_file(
    store: &NixStore<'_>,
    file: &Path,
    inside: &str,
    request: &Request,
    found: &mut Found,
) -> Result<()> {
    let mut given = request.arguments.clone();
    if request.emulated {
        // What files that build for several systems like to call it.
        for (name, value) in [("system", "aarch64-linux"), ("arch", "arm64")] {
            given.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    let given = serde_json::to_string(&given)?;
    let walk = format!("{}/walk.nix", layout::IN_HOSTS);
    let arguments = Arguments { file: inside, given: &given };
    let names: Vec<String> = store.evaluate(&walk, &arguments.wanting("names"))?;
    let stem = file.file_stem().and_then(|stem| stem.to_str()).context("its name is not UTF-8")?;
    let stem = if request.emulated { format!("{stem}-emulated") } else { stem.to_owned() };
    let one = |index: usize| store.evaluate::<Described>(&walk, &arguments.wanting(&index.to_string()));
    let described: Vec<Result<Described>> =
        match store.evaluate::<Vec<Described>>(&walk, &arguments.wanting("all")) {
            Ok(described) => described.into_iter().map(Ok).collect(),
            // One after the other: several at once have been seen to fail where each alone does not.
            Err(_) => (0..names.len()).map(one).collect(),
        };
    for (name, described) in names.into_iter().zip(described) {
        match described {
            Ok(one) if one.case.outputs.values().all(|path| path.starts_with("/nix/store/")) => {
                found.cases.insert(format!("{stem}.{}", one.name), one.case);
            }
            Ok(_) => {
                let why = "its outputs have no paths before they are built".to_owned();
                found.not_evaluated.insert(format!("{stem}.{name}"), why);
            }
            Err(error) => {
                let said = format!("{error:#}");
                let why = said.lines().rfind(|line| line.trim_start().starts_with("error: "));
                found.not_evaluated.insert(format!("{stem}.{name}"), why.unwrap_or(&said).trim().to_owned());
            }
        }
    }
    Ok(())
}
