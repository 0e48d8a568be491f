//! The attributes that control a build rather than reach it: plain ones are text, structured ones have kinds, and Nix
//! refuses others before anything is built. Texts are Nix's.
use crate::derivation::Derivation;
use crate::structured::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a derivation demands of its build.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// It wants no sandbox (`__noChroot`).
    pub no_sandbox: bool,
    /// Paths of the host that it wants to see (`__impureHostDeps`).
    pub host_dependencies: BTreeSet<String>,
    /// Outputs whose references are not looked for (`unsafeDiscardReferences`): structured only.
    pub discarded: BTreeSet<String>,
    /// What outputs may refer to, and how large they may be.
    pub checks: OutputChecks,
}

/// For which outputs checks are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutputChecks {
    /// The same for all, plain attributes.
    All(Checks),
    /// Some, by name.
    Each(BTreeMap<String, Checks>),
}

impl Default for OutputChecks {
    fn default() -> Self {
        Self::All(Checks::default())
    }
}

/// The checks of one output.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checks {
    /// Of its NAR, in bytes.
    pub size_max: Option<u64>,
    /// Of all NARs of its closure, in bytes.
    pub closure_size_max: Option<u64>,
    /// Paths and names of outputs, as the derivation writes them.
    pub allowed_references: Option<Vec<String>>,
    /// For the closure.
    pub allowed_requisites: Option<Vec<String>>,
    /// None of these.
    pub disallowed_references: Vec<String>,
    /// None of these in the closure.
    pub disallowed_requisites: Vec<String>,
    /// Whether an output may always have itself in its closure.
    pub ignores_self_references: bool,
}

/// Structured attributes with a kind, beside those that are read.
const BOOLEANS: &[&str] = &["__darwinAllowLocalNetworking", "preferLocalBuild", "allowSubstitutes"];
const LISTS: &[&str] = &["requiredSystemFeatures", "impureEnvVars"];

impl Options {
    /// Reads them all.
    ///
    /// # Errors
    /// A structured attribute of another kind than it must be, in Nix's words.
    pub fn of(derivation: &Derivation) -> Result<Self, String> {
        match derivation.environment.get(b"__json".as_slice()) {
            Some(json) => structured(&Value::parse(json).map_err(|error| error.to_string())?),
            None => Ok(plain(derivation)),
        }
    }
}

fn plain(derivation: &Derivation) -> Options {
    let words = |name| derivation.words(name);
    Options {
        no_sandbox: derivation.env_is_true("__noChroot"),
        host_dependencies: words("__impureHostDeps").into_iter().flatten().collect(),
        discarded: BTreeSet::new(),
        checks: OutputChecks::All(Checks {
            allowed_references: words("allowedReferences"),
            allowed_requisites: words("allowedRequisites"),
            disallowed_references: words("disallowedReferences").unwrap_or_default(),
            disallowed_requisites: words("disallowedRequisites").unwrap_or_default(),
            ignores_self_references: true,
            ..Checks::default()
        }),
    }
}

fn structured(attributes: &Value) -> Result<Options, String> {
    let mut checks = BTreeMap::new();
    if let Some(all) = attributes.get("outputChecks") {
        for (output, value) in members(all)? {
            checks.insert(output.clone(), checks_of_output(value)?);
        }
    }
    let mut discarded = BTreeSet::new();
    if let Some(named) = attributes.get("unsafeDiscardReferences") {
        for (output, value) in members(named)? {
            if boolean(value)? {
                discarded.insert(output.clone());
            }
        }
    }
    if let Some(profile) = attributes.get("__sandboxProfile") {
        profile.as_str().ok_or_else(|| profile.not_of_kind("string"))?;
    }
    for value in BOOLEANS.iter().filter_map(|name| attributes.get(name)) {
        boolean(value)?;
    }
    for value in LISTS.iter().filter_map(|name| attributes.get(name)) {
        strings(value)?;
    }
    Ok(Options {
        no_sandbox: attributes.get("__noChroot").map(boolean).transpose()?.unwrap_or_default(),
        host_dependencies: match attributes.get("__impureHostDeps") {
            Some(value) => strings(value)?.into_iter().collect(),
            None => BTreeSet::new(),
        },
        discarded,
        checks: OutputChecks::Each(checks),
    })
}

fn checks_of_output(checks: &Value) -> Result<Checks, String> {
    members(checks)?;
    let list = |name| checks.get(name).map(strings).transpose();
    let size = |name| checks.get(name).map(size).transpose();
    Ok(Checks {
        size_max: size("maxSize")?,
        closure_size_max: size("maxClosureSize")?,
        allowed_references: list("allowedReferences")?,
        allowed_requisites: list("allowedRequisites")?,
        disallowed_references: list("disallowedReferences")?.unwrap_or_default(),
        disallowed_requisites: list("disallowedRequisites")?.unwrap_or_default(),
        ignores_self_references: false,
    })
}

fn members(value: &Value) -> Result<&BTreeMap<String, Value>, String> {
    value.as_object().ok_or_else(|| value.not_of_kind("object"))
}

fn boolean(value: &Value) -> Result<bool, String> {
    if let Value::Bool(value) = value { Ok(*value) } else { Err(value.not_of_kind("boolean")) }
}

fn strings(value: &Value) -> Result<Vec<String>, String> {
    let items = value.as_array().ok_or_else(|| value.not_of_kind("array"))?;
    let text = |item: &Value| item.as_str().map(str::to_owned).ok_or_else(|| item.not_of_kind("string"));
    items.iter().map(text).collect()
}

/// As Nix's JSON library makes a number of 64 bits without sign of it: negative ones become very large.
fn size(value: &Value) -> Result<u64, String> {
    match value {
        Value::Integer(value) => Ok(u64::from_ne_bytes(value.to_ne_bytes())),
        Value::Unsigned(value) => Ok(*value),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "what does not count is cut off"
        )]
        Value::Double(value) => Ok(*value as u64),
        other => Err(format!("[json.exception.type_error.302] type must be number, but is {}", other.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Options, String> {
        structured(&Value::parse(json.as_bytes()).unwrap())
    }

    #[test]
    fn structured_attributes_of_a_wrong_kind_are_refused() {
        let kind = |expected, found| {
            format!("Expected JSON value to be of type '{expected}' but it is of type '{found}'")
        };
        for (json, expected) in [
            (r#"{"__noChroot":"1"}"#, kind("boolean", "string")),
            (r#"{"__impureHostDeps":"/bin"}"#, kind("array", "string")),
            (r#"{"__sandboxProfile":1}"#, kind("string", "number")),
            (r#"{"preferLocalBuild":1}"#, kind("boolean", "number")),
            (r#"{"requiredSystemFeatures":null}"#, kind("array", "null")),
            (r#"{"impureEnvVars":[1]}"#, kind("string", "number")),
            (r#"{"unsafeDiscardReferences":{"out":1}}"#, kind("boolean", "number")),
            (r#"{"outputChecks":[]}"#, kind("object", "array")),
            (r#"{"outputChecks":{"absent":{"allowedReferences":"x"}}}"#, kind("array", "string")),
            (r#"{"outputChecks":{"out":{"maxSize":true}}}"#, "must be number, but is boolean".into()),
            (r#"{"outputChecks":{"out":{"maxClosureSize":null}}}"#, "must be number, but is null".into()),
        ] {
            let error = read(json).expect_err(json);
            assert!(error.contains(&expected), "{json}: {error}");
        }
    }

    #[test]
    fn structured_attributes_say_what_plain_ones_say() {
        let options = read(
            r#"{"__noChroot":true,"__impureHostDeps":["/b","/a"],"unsafeDiscardReferences":{"lib":true,"out":false},
               "outputChecks":{"out":{"maxSize":-1,"maxClosureSize":9.9}},"allowedReferences":7}"#,
        )
        .unwrap();
        assert!(options.no_sandbox);
        assert_eq!(options.host_dependencies, ["/a", "/b"].map(str::to_owned).into());
        assert_eq!(options.discarded, ["lib".to_owned()].into());
        let checks = Checks { size_max: Some(u64::MAX), closure_size_max: Some(9), ..Checks::default() };
        assert_eq!(options.checks, OutputChecks::Each([("out".to_owned(), checks)].into()));
    }
}
