//! Reads the text of a derivation (ATerm), strictly: what is read is written back byte for byte.
use super::{Derivation, Method, Output};
use crate::hash::{Hash, HashAlgorithm};
use crate::store_path::{StoreDir, StorePath, name_problem};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Longest list of anything in one derivation.
const LIST_MAX: usize = 1 << 20;

/// Why a text is not a derivation that can be built.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum DerivationError {
    /// The grammar is broken.
    #[error("the text of a derivation is malformed at byte {offset}: {problem}")]
    Malformed {
        /// Where, in bytes.
        offset: usize,
        /// What was wrong there.
        problem: String,
    },
    /// The grammar is kept, the meaning is not allowed.
    #[error("a derivation is not allowed: {0}")]
    Illegal(String),
    /// Legal in Nix, not supported here.
    #[error("a derivation is not supported: {0}")]
    Unsupported(&'static str),
}

/// Reads a derivation. Only the canonical text is accepted: its hash is its identity.
pub fn parse(text: &[u8], store: &StoreDir) -> Result<Derivation, DerivationError> {
    if text.starts_with(b"DrvWithVersion(") {
        return Err(DerivationError::Unsupported(
            "it depends on outputs of outputs (a dynamic derivation, DrvWithVersion): build with a Nix that has \
             `dynamic-derivations` on a machine of its own, or name the inner derivation by a `.drv` of the evaluation",
        ));
    }
    let mut reader = Reader { text, offset: 0, store };
    let derivation = reader.derivation()?;
    check_outputs(&derivation)?;
    if derivation.to_aterm(store) != text {
        return Err(DerivationError::Illegal("its text is not in the canonical form that Nix writes".into()));
    }
    Ok(derivation)
}

/// Outputs are all of one kind; a fixed one stands alone and is called `out`.
fn check_outputs(derivation: &Derivation) -> Result<(), DerivationError> {
    let illegal = |problem: &str| Err(DerivationError::Illegal(problem.to_owned()));
    let mut kinds: Vec<_> = derivation.outputs.values().map(std::mem::discriminant).collect();
    kinds.dedup();
    match (kinds.len(), derivation.outputs.values().next()) {
        (0, _) | (_, None) => illegal("it has no outputs"),
        (1, Some(Output::Fixed { .. }))
            if derivation.fixed_output().is_none() || derivation.outputs.len() > 1 =>
        {
            illegal("a fixed output must be the only one and be called `out`")
        }
        (1, _) => Ok(()),
        _ => illegal("its outputs are of different kinds"),
    }
}

/// The kind of an output whose path follows from what the build makes.
fn floating(field: &str) -> Parsed<Output> {
    match method_and_algorithm(field)? {
        (Method::Text, _) => Err(DerivationError::Unsupported(
            "its output is a text that is known only after the build (`outputHashMode = \"text\"`), which is for dynamic \
             derivations: use `recursive` or `flat`",
        )),
        (method, algorithm) => Ok(Output::Floating { method, algorithm }),
    }
}

/// `sha256`, `r:sha256`, `text:sha256`.
fn method_and_algorithm(field: &str) -> Parsed<(Method, HashAlgorithm)> {
    let (method, algorithm) = match field.split_once(':') {
        None => (Method::Flat, field),
        Some(("r", algorithm)) => (Method::Recursive, algorithm),
        Some(("text", "sha256")) => (Method::Text, "sha256"),
        Some(_) => return Err(DerivationError::Unsupported("the hash method of its output is not known")),
    };
    match HashAlgorithm::parse(algorithm) {
        Some(algorithm) => Ok((method, algorithm)),
        None => Err(DerivationError::Unsupported("the hash algorithm of its output is not known")),
    }
}

struct Reader<'a> {
    text: &'a [u8],
    offset: usize,
    store: &'a StoreDir,
}

type Parsed<T> = Result<T, DerivationError>;

impl Reader<'_> {
    fn malformed<T>(&self, problem: impl Into<String>) -> Parsed<T> {
        Err(DerivationError::Malformed { offset: self.offset, problem: problem.into() })
    }

    fn expect(&mut self, expected: &str) -> Parsed<()> {
        if self.text[self.offset..].starts_with(expected.as_bytes()) {
            self.offset += expected.len();
            return Ok(());
        }
        self.malformed(format!("expected `{expected}`"))
    }

    fn bytes(&mut self) -> Parsed<Vec<u8>> {
        self.expect("\"")?;
        let mut value = Vec::new();
        loop {
            let rest = &self.text[self.offset..];
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
                return self.malformed("a string has no end");
            };
            value.extend_from_slice(&rest[..end]);
            self.offset += end + 1;
            if rest[end] == b'"' {
                return Ok(value);
            }
            value.push(match rest.get(end + 1) {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(&other) => other,
                None => return self.malformed("a string ends in an escape"),
            });
            self.offset += 1;
        }
    }

    fn string(&mut self) -> Parsed<String> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes).or_else(|_| self.malformed("a name is not UTF-8"))
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.expect("[")?;
        let mut items = Vec::new();
        if self.text[self.offset..].starts_with(b"]") {
            self.offset += 1;
            return Ok(items);
        }
        loop {
            if items.len() == LIST_MAX {
                return self.malformed("a list is too long");
            }
            items.push(item(self)?);
            if self.text[self.offset..].starts_with(b"]") {
                self.offset += 1;
                return Ok(items);
            }
            self.expect(",")?;
        }
    }

    fn path(&mut self) -> Parsed<StorePath> {
        let text = self.string()?;
        self.store.parse(&text).or_else(|error| self.malformed(error.to_string()))
    }

    fn output_name(&mut self) -> Parsed<String> {
        let name = self.string()?;
        match name_problem(&name) {
            Some(problem) => self.malformed(format!("output name `{name}`: {problem}")),
            None => Ok(name),
        }
    }

    fn output(&mut self) -> Parsed<(String, Output)> {
        self.expect("(")?;
        let name = self.output_name()?;
        self.expect(",")?;
        let path = self.string()?;
        self.expect(",")?;
        let algorithm = self.string()?;
        self.expect(",")?;
        let hash = self.string()?;
        self.expect(")")?;
        let output = match (path.as_str(), algorithm.as_str(), hash.as_str()) {
            ("", "", "") => Output::Deferred,
            ("", algorithm, "") => floating(algorithm)?,
            ("", "r:sha256", "impure") => Output::Impure,
            ("", _, "impure") => {
                return Err(DerivationError::Unsupported(
                    "its outputs are impure: build it with a Nix that has `impure-derivations`",
                ));
            }
            (path, "", "") => Output::InputAddressed { path: self.parse_path(path)? },
            (path, algorithm, hash) => self.fixed(path, algorithm, hash)?,
        };
        Ok((name, output))
    }

    fn parse_path(&self, path: &str) -> Parsed<StorePath> {
        self.store.parse(path).or_else(|error| self.malformed(error.to_string()))
    }

    fn fixed(&self, path: &str, algorithm: &str, hash: &str) -> Parsed<Output> {
        let path = self.parse_path(path)?;
        let (method, algorithm) = method_and_algorithm(algorithm)?;
        match crate::hash::parse_hex(hash).and_then(|digest| Hash::new(algorithm, &digest)) {
            Some(hash) => Ok(Output::Fixed { path, method, hash }),
            None => self.malformed(format!("`{hash}` is not a {algorithm} hash in base 16")),
        }
    }

    fn input_derivation(&mut self) -> Parsed<(StorePath, BTreeSet<String>)> {
        self.expect("(")?;
        let path = self.path()?;
        if !path.is_derivation() {
            return self.malformed(format!("input derivation `{path}` is not called *.drv"));
        }
        self.expect(",")?;
        let outputs: BTreeSet<_> = self.list(Self::output_name)?.into_iter().collect();
        if outputs.is_empty() {
            return self.malformed(format!("no output of input derivation `{path}` is named"));
        }
        self.expect(")")?;
        Ok((path, outputs))
    }

    fn variable(&mut self) -> Parsed<(Vec<u8>, Vec<u8>)> {
        self.expect("(")?;
        let name = self.bytes()?;
        self.expect(",")?;
        let value = self.bytes()?;
        self.expect(")")?;
        Ok((name, value))
    }

    fn derivation(&mut self) -> Parsed<Derivation> {
        self.expect("Derive(")?;
        let outputs: BTreeMap<_, _> = self.list(Self::output)?.into_iter().collect();
        self.expect(",")?;
        let input_derivations: BTreeMap<_, _> = self.list(Self::input_derivation)?.into_iter().collect();
        self.expect(",")?;
        let input_sources: BTreeSet<_> = self.list(Self::path)?.into_iter().collect();
        self.expect(",")?;
        let system = self.string()?;
        self.expect(",")?;
        let builder = self.bytes()?;
        self.expect(",")?;
        let arguments = self.list(Self::bytes)?;
        self.expect(",")?;
        let environment: BTreeMap<_, _> = self.list(Self::variable)?.into_iter().collect();
        self.expect(")")?;
        if self.offset != self.text.len() {
            return self.malformed("text follows the end");
        }
        Ok(Derivation { outputs, input_derivations, input_sources, system, builder, arguments, environment })
    }
}
