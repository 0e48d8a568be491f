//! What `cargo xtask conformance` asks for, in environment variables; without them the own table against Nix 2.34.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use tests::Release;

/// The variable, a JSON object.
pub const VARIABLE: &str = "ELSEWHERE_CONFORMANCE";

/// What is compared with what.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// `2.8`, `2.26` or `2.34`; all three in the tier `long` when none is named.
    pub nix: Option<String>,
    /// Only what is emulated.
    pub emulated: bool,
    /// Only cases of the own table with one of these in their names; all of them when there is none.
    pub names: Vec<String>,
    /// Nix files from anyone, instead of the own table.
    pub files: Vec<PathBuf>,
    /// Arguments of the files' functions.
    pub arguments: BTreeMap<String, String>,
}

impl Request {
    /// Reads the variable.
    pub fn from_environment() -> Result<Self> {
        let Some(text) = std::env::var_os(VARIABLE) else { return Ok(Self::default()) };
        let text = text.to_str().with_context(|| format!("{VARIABLE} is not UTF-8"))?;
        serde_json::from_str(text).with_context(|| format!("read {VARIABLE}"))
    }

    /// Whether this is the tier `long`.
    pub fn is_long(&self) -> bool {
        std::env::var("ELSEWHERE_TIER").is_ok_and(|tier| tier == "long")
    }

    /// Whether all cases of the own table are meant: by a request, and in the tier `long`.
    pub fn is_whole(&self) -> bool {
        self.is_long() || std::env::var_os(VARIABLE).is_some()
    }

    /// The releases of real Nix to compare with.
    pub fn releases(&self) -> Result<Vec<Release>> {
        match &self.nix {
            Some(version) => Ok(vec![Release::parse(version)?]),
            None if self.is_long() => Ok(vec![Release::Nix2_34, Release::Nix2_26, Release::Nix2_8]),
            None => Ok(vec![Release::Nix2_34]),
        }
    }
}
