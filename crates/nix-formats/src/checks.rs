//! Output checks: what a derivation allows its outputs to refer to, and how large they may be. Texts are Nix's.
use crate::options::{Checks, OutputChecks};
use crate::store_path::{StoreDir, StorePath};
use std::collections::{BTreeMap, BTreeSet};

/// What the checks look at, of an output or of an input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Size of the NAR in bytes.
    pub nar_size: u64,
    /// References.
    pub references: BTreeSet<StorePath>,
}

/// Everything that is known when outputs are checked.
pub struct Known<'a> {
    /// The store's directory.
    pub store: &'a StoreDir,
    /// The `.drv` path.
    pub derivation_path: &'a StorePath,
    /// The new outputs by name.
    pub outputs: &'a BTreeMap<String, StorePath>,
    /// Facts of the new outputs and of the closure of the inputs.
    pub facts: &'a BTreeMap<StorePath, Facts>,
}

/// Checks all outputs. `Err` says what is not allowed.
pub fn check_outputs(checks: &OutputChecks, known: &Known<'_>) -> Result<(), String> {
    for (name, path) in known.outputs {
        let checks = match checks {
            OutputChecks::All(checks) => Some(checks),
            OutputChecks::Each(checks) => checks.get(name),
        };
        if let Some(checks) = checks {
            known.check(name, path, checks)?;
        }
    }
    Ok(())
}

/// An absolute path without what means nothing in it.
fn canonical(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if path.starts_with('/') { format!("/{}", parts.join("/")) } else { path.to_owned() }
}

impl Known<'_> {
    fn closure(&self, path: &StorePath) -> BTreeSet<StorePath> {
        let mut members = BTreeSet::new();
        let mut queue = vec![path.clone()];
        while let Some(path) = queue.pop() {
            if members.insert(path.clone()) {
                queue.extend(
                    self.facts.get(&path).into_iter().flat_map(|facts| facts.references.iter().cloned()),
                );
            }
        }
        members
    }

    fn check(&self, name: &str, path: &StorePath, checks: &Checks) -> Result<(), String> {
        let shown = self.store.display(path);
        let size = |path: &StorePath| self.facts.get(path).map_or(0, |facts| facts.nar_size);
        if let Some(limit) = checks.size_max.filter(|&limit| size(path) > limit) {
            return Err(format!(
                "path '{shown}' is too large at {} bytes; limit is {limit} bytes",
                size(path)
            ));
        }
        if let Some(limit) = checks.closure_size_max {
            let total: u64 = self.closure(path).iter().map(size).sum();
            if total > limit {
                return Err(format!(
                    "closure of path '{shown}' is too large at {total} bytes; limit is {limit} bytes"
                ));
            }
        }
        let references = || self.facts.get(path).map(|facts| facts.references.clone()).unwrap_or_default();
        let requisites = || {
            let mut closure = self.closure(path);
            if checks.ignores_self_references {
                closure.remove(path);
            }
            closure
        };
        if let Some(allowed) = &checks.allowed_references {
            self.refuse(name, path, allowed, references(), true)?;
        }
        if let Some(allowed) = &checks.allowed_requisites {
            self.refuse(name, path, allowed, requisites(), true)?;
        }
        self.refuse(name, path, &checks.disallowed_references, references(), false)?;
        self.refuse(name, path, &checks.disallowed_requisites, requisites(), false)
    }

    fn refuse(
        &self,
        output: &str,
        path: &StorePath,
        specifiers: &[String],
        used: BTreeSet<StorePath>,
        is_allowed: bool,
    ) -> Result<(), String> {
        let named =
            specifiers.iter().map(|text| self.specifier(output, text)).collect::<Result<BTreeSet<_>, _>>()?;
        let bad: Vec<_> = used.into_iter().filter(|path| named.contains(path) != is_allowed).collect();
        if bad.is_empty() {
            return Ok(());
        }
        let list: String = bad.iter().map(|path| format!("\n  {}", self.store.display(path))).collect();
        let shown = self.store.display(path);
        Err(format!("output '{shown}' is not allowed to refer to the following paths:{list}"))
    }

    fn specifier(&self, output: &str, text: &str) -> Result<StorePath, String> {
        if let Ok(path) = self.store.parse(text) {
            return Ok(path);
        }
        if self.store.parse(&canonical(text)).is_ok() {
            // Nix sees that it means a store path, and then reads it as it is written.
            return self.store.find(text).map_err(|problem| problem.to_string());
        }
        let derivation = self.store.display(self.derivation_path);
        let valid: Vec<_> = self.outputs.keys().map(String::as_str).collect();
        self.outputs.get(text).cloned().ok_or_else(|| {
            format!(
                "derivation '{derivation}' output check for '{output}' contains output name '{text}', but this is not a \
                 valid output of this derivation. (Valid outputs are [{}].)",
                valid.join(", ")
            )
        })
    }
}
