//! Build logs as whole lines: the wire cuts them anywhere, and several builds write at once.
use std::collections::HashMap;

use model::StorePath;

/// A line is shown in pieces when it is longer.
const LINE_BYTES_MAX: usize = 128 << 10;

/// The beginnings of lines whose ends have not come yet.
#[derive(Debug, Default)]
pub struct Lines {
    begun: HashMap<StorePath, Vec<u8>>,
}

impl Lines {
    /// Takes the next bytes of a log, and gives what is whole of it.
    pub fn push(&mut self, derivation: &StorePath, text: &[u8]) -> Vec<u8> {
        let begun = self.begun.entry(derivation.clone()).or_default();
        begun.extend_from_slice(text);
        let whole = match begun.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if begun.len() > LINE_BYTES_MAX => begun.len(),
            None => 0,
        };
        begun.drain(..whole).collect()
    }

    /// A log has ended: what is left of it.
    pub fn end(&mut self, derivation: &StorePath) -> Vec<u8> {
        self.begun.remove(derivation).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_given_whole_and_apart() {
        let path =
            |name: &str| StorePath::from_validated(&format!("/nix/store/{}-{name}.drv", "a".repeat(32)));
        let (one, two) = (path("one"), path("two"));
        let mut lines = Lines::default();
        assert_eq!(lines.push(&one, b"first\nsec"), b"first\n");
        assert_eq!(lines.push(&two, b"other"), b"");
        assert_eq!(lines.push(&one, b"ond\nthird"), b"second\n");
        assert_eq!(lines.end(&one), b"third");
        assert_eq!(lines.end(&one), b"");
        assert_eq!(lines.push(&two, &[b'x'; LINE_BYTES_MAX]).len(), LINE_BYTES_MAX + 5);
    }
}
