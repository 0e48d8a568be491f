//! Derivations and sources as Nix would make them: right unless a test makes them wrong.
use bytes::Bytes;
use nix_formats::content_address::ContentAddress;
use nix_formats::derivation::{Derivation, Method, Output, fixed_path};
use nix_formats::hash::{Hash, HashAlgorithm, Hasher, sha256};
use nix_formats::modulo::{ModuloHash, derivation_path, hash_modulo, masked_hash, output_path};
use nix_formats::nar::{Encoder, Event};
use nix_formats::store_path::{StoreDir, StorePath};
use proto::v1;
use std::collections::{BTreeMap, BTreeSet};

/// A derivation.
#[derive(Clone)]
pub struct Drv {
    /// Full path of its file.
    pub path: String,
    /// ATerm.
    pub text: Vec<u8>,
    /// Full path of its output `out`.
    pub out: String,
    /// Its parts.
    pub derivation: Derivation,
    modulo: ModuloHash,
}

/// The store object of a full path.
pub fn base(path: &str) -> StorePath {
    StoreDir::default().parse(path).unwrap()
}

/// The text's own path; whatever else is wrong with it, its file is right.
pub fn file_of(name: &str, derivation: &Derivation) -> (String, Vec<u8>) {
    let store = StoreDir::default();
    let text = derivation.to_aterm(&store);
    let path = derivation_path(&store, &format!("{name}.drv"), &text, &derivation.references()).unwrap();
    (store.display(&path), text)
}

fn unfinished(name: &str, inputs: &[&Drv], sources: &[&str]) -> Derivation {
    let environment = [("name", name), ("system", "x86_64-linux"), ("out", "")];
    Derivation {
        outputs: BTreeMap::new(),
        input_derivations: inputs
            .iter()
            .map(|input| (base(&input.path), BTreeSet::from(["out".into()])))
            .collect(),
        input_sources: sources.iter().map(|path| base(path)).collect(),
        system: "x86_64-linux".into(),
        builder: b"/bin/sh".to_vec(),
        arguments: vec![b"-c".to_vec(), b"echo made >$out".to_vec()],
        environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
    }
}

fn finish(name: &str, mut derivation: Derivation, output: Output, inputs: &[&Drv]) -> Drv {
    let store = StoreDir::default();
    let out = store.display(output.path().unwrap());
    derivation.outputs = BTreeMap::from([("out".into(), output)]);
    derivation.environment.insert(b"out".to_vec(), out.clone().into_bytes());
    let lookup =
        |path: &StorePath| inputs.iter().find(|input| base(&input.path) == *path).map(|input| input.modulo);
    let modulo = hash_modulo(&derivation, &store, lookup).unwrap();
    let (path, text) = file_of(name, &derivation);
    Drv { path, text, out, derivation, modulo }
}

/// An input-addressed derivation.
pub fn drv(name: &str, inputs: &[&Drv], sources: &[&str]) -> Drv {
    let store = StoreDir::default();
    let mut derivation = unfinished(name, inputs, sources);
    let lookup =
        |path: &StorePath| inputs.iter().find(|input| base(&input.path) == *path).map(|input| input.modulo);
    // Any path: it is left out of what is hashed.
    let path = store.text_path(name, &[0; 32], []).unwrap();
    derivation.outputs = BTreeMap::from([("out".into(), Output::InputAddressed { path })]);
    let masked = masked_hash(&derivation, &store, lookup).unwrap();
    let path = output_path(&store, &masked, name, "out").unwrap();
    finish(name, derivation, Output::InputAddressed { path }, inputs)
}

/// A derivation whose output is addressed by its content: a file with these contents.
pub fn floating(name: &str, contents: &[u8]) -> Drv {
    let store = StoreDir::default();
    let mut derivation = unfinished(name, &[], &[]);
    let (method, algorithm) = (Method::Recursive, HashAlgorithm::Sha256);
    derivation.outputs = BTreeMap::from([("out".into(), Output::Floating { method, algorithm })]);
    let placeholder = "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9";
    derivation.environment.insert(b"out".to_vec(), placeholder.into());
    let modulo = hash_modulo(&derivation, &store, |_: &StorePath| None).unwrap();
    let (path, text) = file_of(name, &derivation);
    let nar = file(contents, false);
    let out = store.display(&store.source_path(name, &sha256(&nar), [], false).unwrap());
    Drv { path, text, out, derivation, modulo }
}

/// A fixed-output derivation.
pub fn fixed(name: &str, contents: &[u8]) -> Drv {
    let hash = hashed(HashAlgorithm::Sha256, contents);
    let path = fixed_path(&StoreDir::default(), name, "out", Method::Flat, &hash).unwrap();
    finish(name, unfinished(name, &[], &[]), Output::Fixed { path, method: Method::Flat, hash }, &[])
}

/// A hash.
pub fn hashed(algorithm: HashAlgorithm, bytes: &[u8]) -> Hash {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// A store path with its bytes.
#[derive(Clone)]
pub struct Source {
    /// Full path.
    pub path: String,
    /// What the board says of it.
    pub info: v1::PathInfo,
    /// Its bytes.
    pub nar: Vec<u8>,
}

/// The archive of one file.
pub fn file(contents: &[u8], is_executable: bool) -> Vec<u8> {
    let (mut encoder, mut nar, size) = (Encoder::new(), Vec::new(), contents.len() as u64);
    for event in [Event::File { is_executable, size }, Event::Contents(contents), Event::FileEnd] {
        encoder.write(event, &mut nar);
    }
    nar
}

/// A store path with these bytes and claims.
pub fn claimed(path: &StorePath, nar: Vec<u8>, references: &[&str], content_address: &str) -> Source {
    let path = StoreDir::default().display(path);
    let info = v1::PathInfo {
        id: Some(v1::ContentId { trust_domain: String::new(), path: path.clone() }),
        nar_sha256: Bytes::copy_from_slice(&sha256(&nar)),
        nar_size: nar.len() as u64,
        references: references.iter().map(ToString::to_string).collect(),
        content_address: content_address.into(),
        ..v1::PathInfo::default()
    };
    Source { path, info, nar }
}

/// A source as `builtins.path` adds it.
pub fn source(name: &str, contents: &[u8]) -> Source {
    let nar = file(contents, false);
    let path = StoreDir::default().source_path(name, &sha256(&nar), [], false).unwrap();
    let address = ContentAddress::Recursive(hashed(HashAlgorithm::Sha256, &nar)).to_string();
    claimed(&path, nar, &[], &address)
}

/// A text as `builtins.toFile` adds it.
pub fn text(name: &str, contents: &[u8], references: &[&str]) -> Source {
    let digest = sha256(contents);
    let others: Vec<_> = references.iter().map(|path| base(path)).collect();
    let path = StoreDir::default().text_path(name, &digest, &others).unwrap();
    claimed(&path, file(contents, false), references, &ContentAddress::Text(digest).to_string())
}

/// A path that claims no content address, as an output that was copied to the board.
pub fn unaddressed(name: &str, contents: &[u8], references: &[&str]) -> Source {
    let path = StoreDir::default().make_store_path("output:out", &"0".repeat(64), name).unwrap();
    claimed(&path, file(contents, false), references, "")
}
