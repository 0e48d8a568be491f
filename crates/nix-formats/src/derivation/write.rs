//! Writes the text of a derivation, also in the two forms that are only hashed.
use super::{Derivation, Method, Output};
use crate::store_path::{StoreDir, StorePath};
use std::collections::{BTreeMap, BTreeSet};

/// How input derivations are named in the text.
pub enum InputKey {
    /// By the paths of their `.drv` files: the file itself.
    Paths,
    /// By their hashes modulo (base 16), merged and sorted: only hashed.
    Hashes(BTreeMap<String, BTreeSet<String>>),
}

/// Writes a derivation. `masked` leaves out output paths and the variables named after outputs.
pub fn write_aterm(derivation: &Derivation, store: &StoreDir, inputs: &InputKey, masked: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(4096);
    text.extend_from_slice(b"Derive(");
    list(&mut text, derivation.outputs.iter(), |text, (name, output)| {
        write_output(text, store, name, output, masked)
    });
    text.push(b',');
    match inputs {
        InputKey::Paths => list(&mut text, derivation.input_derivations.iter(), |text, (path, outputs)| {
            write_input(text, &store.display(path), outputs);
        }),
        InputKey::Hashes(hashes) => {
            list(&mut text, hashes.iter(), |text, (hash, outputs)| write_input(text, hash, outputs));
        }
    }
    text.push(b',');
    list(&mut text, derivation.input_sources.iter(), |text, path| plain(text, &store.display(path)));
    text.push(b',');
    plain(&mut text, &derivation.system);
    text.push(b',');
    escaped(&mut text, &derivation.builder);
    text.push(b',');
    list(&mut text, derivation.arguments.iter(), |text, argument| escaped(text, argument));
    text.push(b',');
    list(&mut text, derivation.environment.iter(), |text, (name, value)| {
        let names_output = std::str::from_utf8(name).is_ok_and(|name| derivation.outputs.contains_key(name));
        text.push(b'(');
        escaped(text, name);
        text.push(b',');
        escaped(text, if masked && names_output { b"" } else { value });
        text.push(b')');
    });
    text.push(b')');
    text
}

/// The hash algorithm field of a content-addressed output: `sha256`, `r:sha256`, `text:sha256`.
pub fn algorithm_field(method: Method, algorithm: crate::hash::HashAlgorithm) -> String {
    let prefix = match method {
        Method::Flat => "",
        Method::Recursive => "r:",
        Method::Text => "text:",
    };
    format!("{prefix}{algorithm}")
}

fn write_output(text: &mut Vec<u8>, store: &StoreDir, name: &str, output: &Output, masked: bool) {
    let shown = |path: &StorePath| if masked { String::new() } else { store.display(path) };
    let [path, algorithm, hash] = match output {
        Output::InputAddressed { path } => [shown(path), String::new(), String::new()],
        Output::Fixed { path, method, hash } => {
            [shown(path), algorithm_field(*method, hash.algorithm), hash.hex()]
        }
        Output::Floating { method, algorithm } => {
            [String::new(), algorithm_field(*method, *algorithm), String::new()]
        }
        Output::Deferred => [const { String::new() }; 3],
        Output::Impure => [String::new(), "r:sha256".into(), "impure".into()],
    };
    text.push(b'(');
    plain(text, name);
    for field in [path, algorithm, hash] {
        text.push(b',');
        plain(text, &field);
    }
    text.push(b')');
}

fn write_input(text: &mut Vec<u8>, key: &str, outputs: &BTreeSet<String>) {
    text.push(b'(');
    plain(text, key);
    text.push(b',');
    list(text, outputs.iter(), |text, output| plain(text, output));
    text.push(b')');
}

fn list<T>(text: &mut Vec<u8>, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    text.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        write(text, item);
    }
    text.push(b']');
}

fn plain(text: &mut Vec<u8>, value: &str) {
    text.push(b'"');
    text.extend_from_slice(value.as_bytes());
    text.push(b'"');
}

fn escaped(text: &mut Vec<u8>, value: &[u8]) {
    text.push(b'"');
    for &byte in value {
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', byte]),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\t' => text.extend_from_slice(b"\\t"),
            other => text.push(other),
        }
    }
    text.push(b'"');
}
