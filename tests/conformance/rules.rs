//! The rules (`rules.toml`) and the cases that name them: no rule without a case, no case of an unknown rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Id to what it says.
    rules: BTreeMap<String, String>,
    /// Id to the file of the test, for rules that no derivation can show.
    elsewhere: BTreeMap<String, String>,
}

/// Words before the ids in the files of cases.
const NAMING: &[&str] = &["covers", "coversOne", "named"];

/// The ids that a file of cases names.
fn named_in(text: &str) -> Vec<&str> {
    let mut words = text.split_whitespace();
    let mut ids = Vec::new();
    while let Some(word) = words.next() {
        let Some(first) = words.clone().next().filter(|_| NAMING.contains(&word)) else { continue };
        if !first.starts_with('"') {
            continue;
        }
        for id in words.by_ref() {
            ids.push(id.trim_matches('"'));
            if id.ends_with('"') {
                break;
            }
        }
    }
    ids
}

#[test]
fn every_rule_has_a_case_and_every_case_a_rule() -> Result<()> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let file: File = toml::from_str(&fs::read_to_string(own.join("rules.toml"))?)?;
    let mut named = BTreeSet::new();
    for entry in fs::read_dir(own.join("cases"))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for id in named_in(&text) {
            ensure!(file.rules.contains_key(id), "{}: rule {id} is not in rules.toml", path.display());
            named.insert(id.to_owned());
        }
    }
    for (id, test) in &file.elsewhere {
        ensure!(file.rules.contains_key(id), "rules.toml: {id} is shown elsewhere, and is no rule");
        let exists = own.join("../..").join(test).is_file();
        ensure!(exists, "rules.toml: {test} is to show {id}, and is not there");
    }
    let without: Vec<_> =
        file.rules.keys().filter(|id| !named.contains(*id) && !file.elsewhere.contains_key(*id)).collect();
    ensure!(without.is_empty(), "rules without a case that covers them: {without:?}");
    ensure!(file.rules.values().all(|rule| !rule.contains('\n')), "a rule is one line");
    Ok(())
}

#[test]
fn ids_are_found_in_cases() {
    let text = "a = covers \"B1.x B2.y\" shell \"covers no\" { };\n b = named \"C1.z\" (name: x); named = rules: make: x;";
    assert_eq!(named_in(text), ["B1.x", "B2.y", "C1.z"]);
}
