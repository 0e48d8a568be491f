//! Derivations that were not tried because others failed, in the order in which Nix gives up on them. Pure.
use crate::ui::text;
use model::StorePath;
use nix_formats::derivation::Derivation;
use nix_formats::store_path::StoreDir;
use std::collections::BTreeSet;

/// A derivation that was not tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependent {
    /// Itself.
    pub derivation: StorePath,
    /// The derivations that it needs.
    pub inputs: BTreeSet<StorePath>,
    /// What it would have made.
    pub outputs: Vec<StorePath>,
}

impl Dependent {
    /// Reads it from its derivation, if that is still there.
    pub fn of(path: &StorePath, derivation: Option<&Derivation>) -> Self {
        let store = StoreDir::default();
        let full = |path| StorePath::from_validated(&store.display(path));
        let (mut inputs, mut outputs) = (BTreeSet::new(), Vec::new());
        if let Some(derivation) = derivation {
            inputs = derivation.input_derivations.keys().map(full).collect();
            outputs = derivation.outputs.values().filter_map(|output| output.path()).map(full).collect();
        }
        Self { derivation: path.clone(), inputs, outputs }
    }
}

/// Each after those that it needs; those that are told at once by their names.
pub fn in_order(mut waiting: Vec<Dependent>) -> Vec<Dependent> {
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let left: BTreeSet<StorePath> = waiting.iter().map(|one| one.derivation.clone()).collect();
        let (mut ready, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|one| one.inputs.is_disjoint(&left));
        if ready.is_empty() {
            // Derivations cannot need each other in a circle; if these did, they are told all the same.
            ordered.extend(later);
            break;
        }
        ready.sort_by(|one, other| {
            let key = |of: &Dependent| (text::name(&of.derivation).to_owned(), of.derivation.clone());
            key(one).cmp(&key(other))
        });
        ordered.extend(ready);
        waiting = later;
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::{Dependent, in_order};
    use model::StorePath;

    fn path(name: &str) -> StorePath {
        // The hash parts are in the opposite order.
        let digit = ["z", "y", "x", "w", "v", "s", "r"][name.len()];
        StorePath::from_validated(&format!("/nix/store/{}-{name}.drv", digit.repeat(32)))
    }

    fn check(given: &[(&str, &[&str])], expected: &[&str]) {
        let dependent = |(name, inputs): &(&str, &[&str])| Dependent {
            derivation: path(name),
            inputs: inputs.iter().map(|name| path(name)).collect(),
            outputs: Vec::new(),
        };
        let ordered = in_order(given.iter().map(dependent).collect());
        let names: Vec<&str> = ordered.iter().map(|one| crate::ui::text::name(&one.derivation)).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn what_is_needed_comes_first() {
        check(&[], &[]);
        check(&[("top", &["middle"]), ("middle", &["failed"])], &["middle", "top"]);
        check(
            &[("top", &["bb", "a", "built"]), ("bb", &["failed"]), ("a", &["failed"])],
            &["a", "bb", "top"],
        );
        check(&[("one", &["three"]), ("three", &["one"])], &["one", "three"]);
    }
}
