//! Configuration files: TOML into a serde struct; errors name the file, the line and the column.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// A configuration file that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}:{line}:{column}: {problem}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// From 1; 0 when unknown.
        line: usize,
        /// From 1; 0 when unknown.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
}

/// Reads a file. Unknown keys are errors when `T` says `#[serde(deny_unknown_fields)]`.
///
/// # Errors
/// The file cannot be read, is no TOML, or does not fit `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
    parse(&text, path)
}

/// Reads text that came from `path`.
///
/// # Errors
/// It is no TOML or does not fit `T`.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = error.span().map_or((0, 0), |span| position(text, span.start));
        ConfigError::Parse { path: path.to_path_buf(), line, column, problem: error.message().to_owned() }
    })
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[expect(dead_code, reason = "only its type matters")]
        slots: u32,
    }

    fn check(text: &str, expected: &str) {
        let said = parse::<Example>(text, Path::new("a.toml"))
            .map_or_else(|error| error.to_string(), |_| String::new());
        assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "{said}");
    }

    #[test]
    fn problems_are_located() {
        check("slots = 1\n", "");
        check("slots = 1\nslot = 2\n", "a.toml:2:1: unknown field `slot`");
        check("\n\n  slots = \"x\"\n", "a.toml:3:11: invalid type: string");
        check("slots = \n", "a.toml:1:");
        check("", "a.toml:1:1: missing field `slots`");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Example>(Path::new("/nowhere/b.toml")).unwrap_err();
        assert_eq!(error.to_string(), "read configuration file /nowhere/b.toml");
    }
}
