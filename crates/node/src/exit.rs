//! How our servers end: exit codes, and an error with its causes on standard error.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use crate::config::ConfigError;

/// It could not go on.
pub const FAILED: u8 = 1;
/// It was told something that it cannot use: command line or configuration.
pub const MISCONFIGURED: u8 = 2;

/// An error and its causes on one line, outermost first.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// The exit code of a main function; says on standard error what went wrong.
pub fn code(program: &str, result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    // A closed standard error leaves the exit code.
    let _ = writeln!(std::io::stderr(), "{program}: {}", chain(error.as_ref()));
    ExitCode::from(classify(&error))
}

fn classify(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<ConfigError>()) { MISCONFIGURED } else { FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_follow_on_one_line_and_are_not_repeated() {
        let inner = std::io::Error::other("disk full");
        let error = anyhow::Error::new(inner).context("write a").context("start");
        assert_eq!(chain(error.as_ref()), "start: write a: disk full");
        let repeated = anyhow::anyhow!("disk full").context("write: disk full");
        assert_eq!(chain(repeated.as_ref()), "write: disk full");
    }

    #[test]
    fn wrong_configuration_has_its_own_code() {
        let wrong =
            crate::config::load::<u32>(std::path::Path::new("/nowhere")).context("start").unwrap_err();
        assert_eq!(classify(&wrong), MISCONFIGURED);
        assert_eq!(classify(&anyhow::anyhow!("other")), FAILED);
    }
}
