//! The serial console of the virtual machine: what each part of its script has written.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// Begins a part.
const MARK: &str = "=== ";

/// The parts, by name.
#[derive(Debug)]
pub struct Console {
    parts: BTreeMap<String, String>,
}

impl Console {
    /// Takes a console apart; what is before the first part is the kernel's and systemd's.
    pub fn parse(text: &str) -> Self {
        let mut parts: BTreeMap<String, String> = BTreeMap::new();
        let mut current = None;
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            match line.strip_prefix(MARK) {
                Some(name) => {
                    parts.entry(name.to_owned()).or_default();
                    current = Some(name.to_owned());
                }
                None => {
                    if let Some(part) = current.as_ref().and_then(|name| parts.get_mut(name)) {
                        part.push_str(line);
                        part.push('\n');
                    }
                }
            }
        }
        Self { parts }
    }

    /// What a part has written.
    ///
    /// # Errors
    /// The machine did not come as far.
    pub fn part(&self, name: &str) -> Result<&str> {
        let text = self.parts.get(name).map(String::as_str);
        text.with_context(|| format!("the virtual machine did not come to the part '{name}'"))
    }

    /// Fails unless a part has written all of these.
    ///
    /// # Errors
    /// With what the part has written.
    pub fn expect(&self, name: &str, words: &[&str]) -> Result<()> {
        let text = self.part(name)?;
        for word in words {
            ensure!(text.contains(word), "part '{name}' does not say {word:?}:\n{text}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Console;

    #[test]
    fn parts_are_told_apart_and_what_is_missing_is_an_error() {
        let console = Console::parse("boot\r\n=== one\r\na\r\nrc 0\r\n=== two words\nb\n=== one\nc\n");
        assert_eq!(console.part("one").unwrap(), "a\nrc 0\nc\n");
        console.expect("two words", &["b"]).unwrap();
        assert!(console.expect("two words", &["a"]).is_err());
        assert!(console.part("boot").is_err() && console.part("three").is_err());
    }
}
