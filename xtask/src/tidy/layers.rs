//! Dependencies between our crates go one way; a new edge changes ARCHITECTURE.md and this table in the same commit.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command::{capture, command};
use crate::tidy::Complaint;

/// Every crate of ours, and the crates of ours that it may name. `tests` and `network` may name all.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("nix-formats", &[]),
    ("node", &[]),
    ("sandbox", &[]),
    ("xtask", &[]),
    ("nix-daemon", &["nix-formats"]),
    ("cas", &["nix-formats"]),
    ("scheduler", &["model"]),
    ("schedule", &["scheduler", "model", "nix-formats"]),
    ("sim", &["scheduler", "model"]),
    ("proto", &["model", "nix-formats"]),
    ("coordinator", &["scheduler", "model", "proto", "cas", "node", "nix-formats"]),
    ("executor", &["sandbox", "model", "nix-formats", "proto", "cas", "node"]),
    ("client", &["nix-daemon", "nix-formats", "model", "proto", "node"]),
    ("tests", EVERYTHING),
    ("network", EVERYTHING),
];

const EVERYTHING: &[&str] = &[
    "model",
    "nix-formats",
    "node",
    "sandbox",
    "nix-daemon",
    "cas",
    "scheduler",
    "proto",
    "coordinator",
    "executor",
    "client",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
}

/// Compares what cargo says with the table.
pub fn check(root: &Path) -> Result<Vec<Complaint>> {
    let said = capture(command("cargo", &["metadata", "--format-version=1", "--no-deps"]).current_dir(root))?;
    let metadata: Metadata = serde_json::from_str(&said).context("read cargo metadata")?;
    let edges: Vec<(String, Vec<String>)> = metadata
        .packages
        .into_iter()
        .map(|package| {
            (package.name, package.dependencies.into_iter().map(|dependency| dependency.name).collect())
        })
        .collect();
    Ok(refuse(&edges))
}

fn refuse(edges: &[(String, Vec<String>)]) -> Vec<Complaint> {
    let ours: BTreeSet<&str> = edges.iter().map(|(name, _)| name.as_str()).collect();
    let mut complaints = Vec::new();
    for (name, dependencies) in edges {
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| layer == name) else {
            complaints.push(Complaint::new(
                "Cargo.toml",
                format!("crate {name} is in no layer: see xtask/src/tidy/layers.rs"),
            ));
            continue;
        };
        for dependency in dependencies.iter().filter(|dependency| ours.contains(dependency.as_str())) {
            if !allowed.contains(&dependency.as_str()) && dependency != name {
                complaints
                    .push(Complaint::new("Cargo.toml", format!("{name} may not depend on {dependency}")));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_edges_of_the_table() {
        let check = |edges: &[(&str, &[&str])], complaints: usize| {
            let owned: Vec<(String, Vec<String>)> = edges
                .iter()
                .map(|(name, list)| {
                    ((*name).to_string(), list.iter().map(|name| (*name).to_string()).collect())
                })
                .collect();
            assert_eq!(super::refuse(&owned).len(), complaints, "{edges:?}");
        };
        check(&[("model", &[]), ("scheduler", &["model", "serde"])], 0);
        check(&[("model", &["scheduler"]), ("scheduler", &["model"])], 1);
        check(&[("client", &["coordinator"]), ("coordinator", &[])], 1);
        check(&[("helpers", &[])], 1);
    }
}
