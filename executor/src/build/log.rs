//! Splits a build's output into what people see and what `@nix ` lines say. Pure.
use serde::Deserialize;

/// Longest `@nix ` line that is held back to be understood, in bytes; a longer one is shown as it is.
const CONTROL_LINE_BYTES_MAX: usize = 64 << 10;
/// Messages above this level (information) are for those who ask Nix for more words.
const SHOWN_LEVEL_MAX: u64 = 3;
const PREFIX: &[u8] = b"@nix ";

/// A piece of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Bytes for people, as the build wrote them.
    Text(Vec<u8>),
    /// The build entered a phase.
    Phase(String),
}

/// Takes the bytes as they come, in pieces of any size.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The beginning of a line that is, or may become, a control line.
    held: Vec<u8>,
    /// Whether the current line is known to be text.
    within_text: bool,
}

#[derive(Deserialize)]
struct Control {
    action: String,
    #[serde(default)]
    phase: Option<String>,
    #[serde(default)]
    msg: Option<String>,
    #[serde(default)]
    level: Option<u64>,
}

impl Splitter {
    /// Splits the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        while !bytes.is_empty() {
            let end =
                bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |position| position + 1);
            let (line, rest) = bytes.split_at(end);
            bytes = rest;
            if self.within_text {
                text.extend_from_slice(line);
            } else {
                self.held.extend_from_slice(line);
            }
            if line.ends_with(b"\n") {
                if let Some(piece) = self.end_of_line(&mut text) {
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(piece);
                }
                self.within_text = false;
            } else if !self.within_text && !self.may_be_control() {
                text.append(&mut self.held);
                self.within_text = true;
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        pieces
    }

    /// What is left when the build ends without a last line feed.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut text = Vec::new();
        let phase = self.end_of_line(&mut text);
        let text = (!text.is_empty()).then_some(Piece::Text(text));
        text.into_iter().chain(phase).collect()
    }

    fn may_be_control(&self) -> bool {
        let length = self.held.len().min(PREFIX.len());
        self.held[..length] == PREFIX[..length] && self.held.len() <= CONTROL_LINE_BYTES_MAX
    }

    /// Decides about a whole held line: shown, consumed, or a phase.
    fn end_of_line(&mut self, text: &mut Vec<u8>) -> Option<Piece> {
        let line = std::mem::take(&mut self.held);
        let control = line.strip_prefix(PREFIX).and_then(|json| serde_json::from_slice::<Control>(json).ok());
        let Some(control) = control else {
            text.extend_from_slice(&line);
            return None;
        };
        match (control.action.as_str(), control.phase, control.msg.zip(control.level)) {
            ("setPhase", Some(phase), _) => return Some(Piece::Phase(phase)),
            ("msg", _, Some((message, level))) if level <= SHOWN_LEVEL_MAX => {
                text.extend_from_slice(message.as_bytes());
                text.push(b'\n');
            }
            // What they must have is missing: Nix shows such a line.
            ("setPhase", ..) | ("msg", _, None) => text.extend_from_slice(&line),
            // Activities of downloads, and actions of other versions: consumed, as Nix does.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text and phases of an input, whatever the sizes of the pieces it comes in.
    fn check(input: &[u8], text: &[u8], phases: &[&str]) {
        for size in [1, 2, 3, 7, 4096] {
            let mut splitter = Splitter::default();
            let mut pieces: Vec<_> = input.chunks(size).flat_map(|chunk| splitter.push(chunk)).collect();
            pieces.extend(splitter.finish());
            let mut seen = (Vec::new(), Vec::new());
            for piece in pieces {
                match piece {
                    Piece::Text(bytes) => seen.0.extend(bytes),
                    Piece::Phase(phase) => seen.1.push(phase),
                }
            }
            let shown = String::from_utf8_lossy(&seen.0).into_owned();
            assert_eq!(
                (seen.0.as_slice(), seen.1),
                (text, phases.iter().map(|p| p.to_string()).collect()),
                "{shown}"
            );
        }
    }

    #[test]
    fn control_lines_are_consumed_and_everything_else_is_shown() {
        check(b"", b"", &[]);
        check(b"a\nb", b"a\nb", &[]);
        check(b"\xff\x00\r\x1b[1mbold\n", b"\xff\x00\r\x1b[1mbold\n", &[]);
        check(b"a\n@nix {\"action\":\"setPhase\",\"phase\":\"x\"}\nb\n", b"a\nb\n", &["x"]);
        check(b"@nix {\"action\":\"setPhase\",\"phase\":\"x\"}", b"", &["x"]);
        check(b"@nix {\"action\":\"msg\",\"level\":1,\"msg\":\"hi\"}\n", b"hi\n", &[]);
        check(b"@nix {\"action\":\"start\",\"type\":101,\"id\":1}\nc\n", b"c\n", &[]);
        check(b"@nix not json\n@nix {}\n@nix []\n@ni\n@", b"@nix not json\n@nix {}\n@nix []\n@ni\n@", &[]);
        check(
            b" @nix {\"action\":\"setPhase\",\"phase\":\"x\"}\n",
            b" @nix {\"action\":\"setPhase\",\"phase\":\"x\"}\n",
            &[],
        );
        check(
            b"a @nix {\"action\":\"setPhase\",\"phase\":\"x\"}\n",
            b"a @nix {\"action\":\"setPhase\",\"phase\":\"x\"}\n",
            &[],
        );
    }

    #[test]
    fn an_endless_control_line_is_not_held() {
        let mut line = b"@nix ".to_vec();
        line.resize(3 * CONTROL_LINE_BYTES_MAX, b'x');
        check(&line, &line, &[]);
        let mut splitter = Splitter::default();
        splitter.push(&line);
        assert!(splitter.held.is_empty());
    }
}
