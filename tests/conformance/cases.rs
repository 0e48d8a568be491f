//! The cases, as a board or the oracle instantiates them.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Deserialize;
use tests::NixStore;

use crate::layout;

/// One case: its derivation and where its outputs will be.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Case {
    /// Full path of the `.drv`.
    pub derivation: String,
    /// Output name to path.
    pub outputs: BTreeMap<String, String>,
}

/// Cases by name; the name begins with `native.` or `emulated.`.
pub type Cases = BTreeMap<String, Case>;

/// Instantiates all cases in a store.
pub fn instantiate(store: &NixStore<'_>) -> Result<Cases> {
    let file = format!("{}/cases/default.nix", layout::IN_HOSTS);
    let kinds: BTreeMap<String, Cases> = store.evaluate(&file, &["--read-write-mode"])?;
    let mut all = Cases::new();
    for (kind, cases) in kinds {
        all.extend(cases.into_iter().map(|(name, case)| (format!("{kind}.{name}"), case)));
    }
    ensure!(all.len() >= 120, "only {} cases: some file of cases is not read", all.len());
    Ok(all)
}
