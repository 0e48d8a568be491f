//! Whether examined outputs keep what their derivation promises, and in which order they refer to each other. Pure.
use super::outputs::{Examined, Fixed};
use model::{PathFacts, StorePath};
use nix_formats::hash::HashAlgorithm;

/// Puts outputs in the order of their references, referenced ones first.
///
/// # Errors
/// A cycle, in Nix's words.
pub fn in_order(derivation: &StorePath, outputs: Vec<Examined>) -> Result<Vec<Examined>, String> {
    let mut waiting = outputs;
    let mut ordered: Vec<Examined> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let free = waiting.iter().position(|output| !waiting.iter().any(|other| refers_to(output, other)));
        match free {
            Some(index) => ordered.push(waiting.remove(index)),
            None => return Err(describe_cycle(derivation, &waiting)),
        }
    }
    Ok(ordered)
}

fn refers_to(output: &Examined, other: &Examined) -> bool {
    output.expected.path != other.expected.path && output.references.contains(&other.expected.path)
}

/// Of outputs that each refer to another one: walks from the first one on until one comes again, as Nix does.
fn describe_cycle(derivation: &StorePath, outputs: &[Examined]) -> String {
    let mut walked: Vec<usize> = vec![0];
    let mut from = 0;
    loop {
        let next = outputs.iter().position(|other| refers_to(&outputs[from], other)).unwrap_or(from);
        if walked.contains(&next) {
            let [to, from] = [next, from].map(|index| &outputs[index].expected.name);
            return format!(
                "cycle detected in build of '{derivation}' in the references of output '{to}' from output '{from}'"
            );
        }
        walked.push(next);
        from = next;
    }
}

/// Checks a fixed output's hash and references.
///
/// # Errors
/// What is wrong, in Nix's words.
pub fn check_fixed(derivation: &StorePath, output: &Examined) -> Result<(), String> {
    let (Some(fixed), Some(got)) = (&output.expected.fixed, &output.fixed_hash) else { return Ok(()) };
    // Only trees by SHA-256 have a kind of path that can refer to something at all.
    let may_refer = fixed.is_recursive && fixed.hash.algorithm == HashAlgorithm::Sha256;
    if !may_refer && !output.references.is_empty() {
        return Err(format!(
            "fixed output derivation '{}' is not allowed to refer to other store paths.\nYou may need to use the \
             'unsafeDiscardReferences' derivation attribute, see the manual for more details.",
            name(&output.expected.path)
        ));
    }
    if fixed.hash != *got {
        return Err(format!(
            "hash mismatch in fixed-output derivation '{derivation}':\n  specified: {}\n     got:    {}",
            fixed.hash.sri(),
            got.sri()
        ));
    }
    match output.references.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "fixed-output derivations must not reference store paths: '{derivation}' references {} distinct paths, \
             e.g. '{first}'",
            output.references.len()
        )),
    }
}

/// What is known about an output from now on.
pub fn facts(derivation: &StorePath, output: &Examined) -> PathFacts {
    PathFacts {
        nar_sha256: output.nar_sha256,
        nar_size: output.nar_size,
        references: output.references.clone(),
        deriver: Some(derivation.clone()),
        content_address: match &output.content_address {
            Some(address) => Some(address.to_string()),
            None => output.expected.fixed.as_ref().map(content_address),
        },
    }
}

fn content_address(fixed: &Fixed) -> String {
    let method = if fixed.is_recursive { "r:" } else { "" };
    format!("fixed:{method}{}:{}", fixed.hash.algorithm, fixed.hash.base32())
}

fn name(path: &StorePath) -> &str {
    crate::store::base_name(path).split_once('-').map_or("", |parts| parts.1)
}

#[cfg(test)]
mod tests {
    use super::super::outputs::Expected;
    use super::*;
    use nix_formats::hash::Hash;

    const DERIVATION: &str = "/nix/store/w51084ksv60sy0fkcb9hz4rxv8rv2avb-one.drv";

    fn path(name: &str) -> StorePath {
        StorePath::from_validated(&format!("/nix/store/{}-x-{name}", name.repeat(32)))
    }

    fn output(name: &str, references: &[&str]) -> Examined {
        Examined {
            expected: Expected {
                name: name.into(),
                path: path(name),
                fixed: None,
                floating: None,
                discard_references: false,
            },
            path: path(name),
            tree: Default::default(),
            nar_sha256: [1; 32],
            nar_size: 8,
            references: references.iter().map(|name| path(name)).collect(),
            fixed_hash: None,
            content_address: None,
        }
    }

    #[test]
    fn outputs_are_ordered_by_their_references_and_cycles_are_named() {
        type Case<'a> = (&'a [(&'a str, &'a [&'a str])], Result<&'a [&'a str], &'a str>);
        let cases: [Case<'_>; 5] = [
            (&[("a", &[]), ("b", &[])], Ok(&["a", "b"])),
            (&[("a", &["b", "a"]), ("b", &["b", "c"]), ("c", &[])], Ok(&["c", "b", "a"])),
            (&[("a", &["z"])], Ok(&["a"])),
            (&[("a", &["b"]), ("b", &["a"])], Err("in the references of output 'a' from output 'b'")),
            (
                &[("a", &["b"]), ("b", &["c"]), ("c", &["a"])],
                Err("in the references of output 'a' from output 'c'"),
            ),
        ];
        for (outputs, expected) in cases {
            let given = outputs.iter().map(|(name, references)| output(name, references)).collect();
            let ordered = in_order(&StorePath::from_validated(DERIVATION), given);
            let names =
                ordered.map(|all| all.into_iter().map(|output| output.expected.name).collect::<Vec<_>>());
            match (names, expected) {
                (Ok(names), Ok(expected)) => assert_eq!(names, expected),
                (Err(text), Err(end)) => {
                    assert!(text.starts_with("cycle detected") && text.ends_with(end), "{text}")
                }
                (seen, _) => panic!("{outputs:?}: {seen:?}"),
            }
        }
    }

    #[test]
    fn fixed_outputs_must_hash_as_promised_and_refer_to_nothing() {
        let hash = |byte: u8| Hash::new(HashAlgorithm::Sha256, &[byte; 32]).unwrap();
        let check = |is_recursive, got: u8, references: &[&str], expected: Option<&str>| {
            let mut output = output("a", references);
            output.expected.fixed = Some(Fixed { is_recursive, hash: hash(1) });
            output.fixed_hash = Some(hash(got));
            let seen = check_fixed(&StorePath::from_validated(DERIVATION), &output).err();
            match (&seen, expected) {
                (None, None) => {}
                (Some(text), Some(part)) => assert!(text.contains(part), "{text}"),
                _ => panic!("{seen:?}, expected {expected:?}"),
            }
        };
        check(true, 1, &[], None);
        check(false, 1, &[], None);
        check(
            true,
            2,
            &[],
            Some("specified: sha256-AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n     got:    sha256-AgIC"),
        );
        check(true, 2, &["b"], Some("hash mismatch in fixed-output derivation"));
        check(true, 1, &["b"], Some("references 1 distinct paths, e.g. '/nix/store/bbb"));
        check(false, 1, &["b"], Some("fixed output derivation 'x-a' is not allowed to refer"));
        let mut recursive = output("a", &[]);
        recursive.expected.fixed = Some(Fixed { is_recursive: true, hash: hash(0) });
        let address = facts(&StorePath::from_validated(DERIVATION), &recursive).content_address;
        assert_eq!(address.as_deref(), Some(format!("fixed:r:sha256:{}", "0".repeat(52)).as_str()));
    }
}
