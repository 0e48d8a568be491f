//! `exportReferencesGraph`: closures of inputs, written for the build.
use super::{BuildFile, ProcessError, Surroundings};
use crate::base32;
use crate::derivation::Derivation;
use crate::narinfo::PathInfo;
use crate::store_path::StorePath;
use crate::structured::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The files of the plain form: pairs of a file name and a store path.
pub fn plain(
    derivation: &Derivation,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<BuildFile>, ProcessError> {
    let words = derivation.words("exportReferencesGraph").unwrap_or_default();
    if !words.len().is_multiple_of(2) {
        let text = derivation.env("exportReferencesGraph").unwrap_or_default();
        return Err(ProcessError::OddTokens(text.into_owned()));
    }
    let file = |pair: &[String]| {
        if !is_file_name(&pair[0]) {
            return Err(ProcessError::GraphFileName(pair[0].clone()));
        }
        let closure = closure(&[&pair[1]], surroundings)?;
        Ok(BuildFile { name: pair[0].clone(), contents: registration(&closure, surroundings).into_bytes() })
    };
    // A name that stands there twice is one file, the last.
    let files = words.chunks_exact(2).map(file).collect::<Result<Vec<_>, _>>()?;
    Ok(files
        .into_iter()
        .map(|file| (file.name.clone(), file))
        .collect::<BTreeMap<_, _>>()
        .into_values()
        .collect())
}

fn is_file_name(name: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_other = |byte: u8| is_first(byte) || byte.is_ascii_digit() || b".-".contains(&byte);
    name.bytes().next().is_some_and(is_first) && name.bytes().all(is_other)
}

/// The form that `nix-store --load-db` reads: path, no deriver, references.
fn registration(closure: &BTreeSet<StorePath>, surroundings: &Surroundings<'_>) -> String {
    let mut text = String::new();
    for path in closure {
        let references = surroundings.closure.get(path).map_or(&[][..], |info| &info.references);
        // Writing to a String cannot fail.
        let _ = write!(text, "{}\n\n{}\n", surroundings.store.display(path), references.len());
        for reference in references {
            let _ = writeln!(text, "{}", surroundings.store.display(reference));
        }
    }
    text
}

/// The structured form: an array of path objects for the closure of a path, or of a list of them.
pub fn structured(value: &Value, surroundings: &Surroundings<'_>) -> Result<Value, ProcessError> {
    let mut roots = Vec::new();
    collect_strings(value, &mut roots)?;
    let members = closure(&roots, surroundings)?;
    let object =
        |path: &StorePath| surroundings.closure.get(path).map(|info| path_object(info, surroundings));
    Ok(Value::Array(members.iter().filter_map(object).collect()))
}

fn collect_strings<'a>(value: &'a Value, strings: &mut Vec<&'a str>) -> Result<(), ProcessError> {
    match value {
        Value::String(text) => strings.push(text),
        Value::Array(items) => {
            for item in items {
                collect_strings(item, strings)?;
            }
        }
        _ => return Err(ProcessError::GraphKind),
    }
    Ok(())
}

fn path_object(info: &PathInfo, surroundings: &Surroundings<'_>) -> Value {
    let store = surroundings.store;
    let closure_size: u64 = reachable([info.path.clone()], surroundings)
        .iter()
        .filter_map(|path| surroundings.closure.get(path))
        .map(|member| member.nar_size)
        .sum();
    let mut references: Vec<_> = info.references.iter().map(|path| store.display(path)).collect();
    references.sort();
    let hash = format!("sha256:{}", base32::encode(&info.nar_sha256));
    let mut object = BTreeMap::from([
        ("closureSize".to_owned(), integer(closure_size)),
        ("narHash".to_owned(), Value::String(hash)),
        ("narSize".to_owned(), integer(info.nar_size)),
        ("path".to_owned(), Value::String(store.display(&info.path))),
        ("references".to_owned(), Value::Array(references.into_iter().map(Value::String).collect())),
        ("valid".to_owned(), Value::Bool(true)),
    ]);
    if let Some(address) = &info.content_address {
        object.insert("ca".to_owned(), Value::String(address.clone()));
    }
    Value::Object(object)
}

fn integer(value: u64) -> Value {
    i64::try_from(value).map_or(Value::Unsigned(value), Value::Integer)
}

fn reachable(
    roots: impl IntoIterator<Item = StorePath>,
    surroundings: &Surroundings<'_>,
) -> BTreeSet<StorePath> {
    let mut members = BTreeSet::new();
    let mut queue: Vec<_> = roots.into_iter().collect();
    while let Some(path) = queue.pop() {
        if members.insert(path.clone()) {
            let references = surroundings.closure.get(&path).map_or(&[][..], |info| &info.references);
            queue.extend(references.iter().cloned());
        }
    }
    members
}

/// The closure of paths that the build sees; with a `.drv` file also the closures of all its outputs.
fn closure(roots: &[&str], surroundings: &Surroundings<'_>) -> Result<BTreeSet<StorePath>, ProcessError> {
    let mut paths = Vec::new();
    for root in roots {
        let path = surroundings.store.find(root)?;
        if !surroundings.closure.contains_key(&path) {
            return Err(ProcessError::NotInClosure(surroundings.store.display(&path)));
        }
        paths.push(path);
    }
    let members = reachable(paths, surroundings);
    let not_valid = |path: &StorePath| ProcessError::NotValid(surroundings.store.display(path));
    let mut outputs = Vec::new();
    for derivation in members.iter().filter(|path| path.is_derivation()) {
        for output in (surroundings.outputs_of)(derivation).ok_or_else(|| not_valid(derivation))? {
            if !surroundings.closure.contains_key(&output) {
                return Err(not_valid(&output));
            }
            outputs.push(output);
        }
    }
    Ok(reachable(members.into_iter().chain(outputs), surroundings))
}
