//! What a comparison found, as a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::cases::Found;
use crate::compare::Difference;
use crate::exceptions::Exceptions;

/// One row: cases whose names begin alike.
#[derive(Debug, Default)]
struct Row {
    rules: BTreeSet<String>,
    cases: usize,
    fail: usize,
    equal: usize,
    excepted: usize,
    hang: usize,
    change: usize,
    differ: usize,
}

/// What is known about the cases of a comparison.
#[derive(Debug, Default)]
pub struct Facts {
    /// Cases that fail in real Nix.
    pub failing: BTreeSet<String>,
    /// Cases that hang for ever in real Nix.
    pub hanging: BTreeSet<String>,
    /// Cases that real Nix itself does not build twice alike.
    pub changing: BTreeSet<String>,
}

/// The table, and what it leaves out.
pub struct Report<'a> {
    /// Of real Nix.
    pub version: &'a str,
    /// The cases.
    pub found: &'a Found,
    /// About them.
    pub facts: &'a Facts,
    /// Without those of changing cases.
    pub differences: &'a [Difference],
    /// What is accepted.
    pub exceptions: &'a Exceptions,
}

impl Report<'_> {
    fn rows(&self) -> BTreeMap<&str, Row> {
        let mut by_case: BTreeMap<&str, bool> = BTreeMap::new();
        for difference in self.differences {
            let accepted = by_case.entry(&difference.case).or_insert(true);
            *accepted &= self.exceptions.accepts(difference);
        }
        let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
        for (name, case) in &self.found.cases {
            let row = rows.entry(name.split('.').next().unwrap_or(name)).or_default();
            row.rules.extend(case.rules.iter().cloned());
            row.cases += 1;
            row.fail += usize::from(self.facts.failing.contains(name));
            let place = match by_case.get(name.as_str()) {
                Some(true) => &mut row.excepted,
                Some(false) => &mut row.differ,
                None if self.facts.hanging.contains(name) => &mut row.hang,
                None if self.facts.changing.contains(name) => &mut row.change,
                None => &mut row.equal,
            };
            *place += 1;
        }
        rows
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>6} {:>6} {:>6} {:>6} {:>9} {:>6} {:>7} {:>7}",
            format!("Nix {}", self.version),
            "rules",
            "cases",
            "(fail)",
            "equal",
            "exception",
            "hang*",
            "change*",
            "DIFFER"
        )?;
        for (name, row) in self.rows() {
            let Row { rules, cases, fail, equal, excepted, hang, change, differ } = row;
            let rules = rules.len();
            writeln!(
                f,
                "{name:<16} {rules:>6} {cases:>6} {fail:>6} {equal:>6} {excepted:>9} {hang:>6} {change:>7} {differ:>7}"
            )?;
        }
        for (what, cases) in
            [("hangs for ever", &self.facts.hanging), ("is not twice the same", &self.facts.changing)]
        {
            if !cases.is_empty() {
                let names: Vec<&str> = cases.iter().map(String::as_str).collect();
                writeln!(f, "* {what} in real Nix itself: {}", names.join(" "))?;
            }
        }
        for (reason, cases) in self.exceptions.by_reason() {
            let names: Vec<&str> = cases.into_iter().collect();
            writeln!(f, "exception: {} ({reason})", names.join(" "))?;
        }
        for (name, why) in &self.found.not_evaluated {
            writeln!(f, "not compared: {name}: {why}")?;
        }
        Ok(())
    }
}
