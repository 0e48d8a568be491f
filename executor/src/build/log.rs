//! Splits a build's output into what people see and what `@nix ` lines say. Pure.
use nix_formats::structured::Value;

/// Longest `@nix ` line that is held back to be understood, in bytes; a longer one is shown as it is.
const CONTROL_LINE_BYTES_MAX: usize = 64 << 10;
/// Messages above this level (information) are for those who ask Nix for more words.
const SHOWN_LEVEL_MAX: i32 = 3;
/// The activity of a download.
const FILE_TRANSFER: i32 = 101;
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

impl Splitter {
    /// Splits the next bytes. After a carriage return a line begins anew, unless it ends there.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        for line in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let returns = line.ends_with(b"\r");
            if self.within_text {
                text.extend_from_slice(line);
                self.within_text = !returns;
            } else {
                if self.held.ends_with(b"\r") && !matches!(line[0], b'\n' | b'\r') {
                    text.append(&mut self.held);
                }
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
                self.within_text = !returns;
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
        let message = line.strip_prefix(PREFIX).and_then(|json| Value::parse(json).ok());
        match message.as_ref().and_then(control) {
            None => text.extend_from_slice(&line),
            Some(Control::Phase(phase)) => return Some(Piece::Phase(phase)),
            Some(Control::Shown(words)) => text.extend_from_slice(format!("{words}\n").as_bytes()),
            Some(Control::Nothing) => {}
        }
        None
    }
}

/// What a control line is for.
enum Control {
    Phase(String),
    Shown(String),
    Nothing,
}

/// A control line as Nix understands it; one that it does not understand is shown as it is.
fn control(message: &Value) -> Option<Control> {
    let text = |name| message.get(name)?.as_str();
    let number = |name| number(message.get(name)?);
    match text("action")? {
        "setPhase" => text("phase").map(|phase| Control::Phase(phase.to_owned())),
        "msg" => Some(shown(number("level")?, text("msg")?.replace('\r', ""))),
        // Of all activities Nix listens to downloads only.
        "start" if number("type")? == FILE_TRANSFER => {
            number("id")?;
            let (level, words) = (number("level")?, text("text")?);
            Some(if words.is_empty() { Control::Nothing } else { shown(level, format!("{words}...")) })
        }
        "stop" | "result" => number("id").map(|_| Control::Nothing),
        // Actions of other versions.
        _ => Some(Control::Nothing),
    }
}

fn shown(level: i32, words: String) -> Control {
    if level <= SHOWN_LEVEL_MAX { Control::Shown(words) } else { Control::Nothing }
}

/// A number as Nix takes it, however it is written: 32 bits are left of it.
#[expect(clippy::cast_possible_truncation, reason = "such casts are what is followed here")]
fn number(value: &Value) -> Option<i32> {
    match value {
        Value::Integer(value) => Some(*value as i32),
        Value::Unsigned(value) => Some(value.cast_signed() as i32),
        Value::Double(value) if (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(value) => {
            Some(*value as i32)
        }
        Value::Double(_) => Some(i32::MIN),
        _ => None,
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
        check(b"@nix {\"action\":\"start\",\"type\":105,\"id\":1}\nc\n", b"c\n", &[]);
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
    fn control_lines_mean_what_they_mean_to_nix() {
        for (message, shown) in [
            (
                r#"{"action":"start","id":1,"level":0,"type":101,"text":"getting","fields":["x",5]}"#,
                Some("getting...\n"),
            ),
            (r#"{"action":"start","id":1,"level":4,"type":101,"text":"four"}"#, Some("")),
            (r#"{"action":"start","id":1,"level":0,"type":101,"text":""}"#, Some("")),
            (r#"{"action":"start","id":true,"level":0,"type":101,"text":"x"}"#, None),
            (r#"{"action":"start","id":1,"type":101,"text":"x"}"#, None),
            (r#"{"action":"start","id":1,"level":0,"type":101}"#, None),
            (r#"{"action":"start","id":1,"level":0,"type":"101","text":"x"}"#, None),
            (r#"{"action":"stop"}"#, None),
            (r#"{"action":"stop","id":1.5}"#, Some("")),
            (r#"{"action":"result","id":"x"}"#, None),
            (r#"{"action":"unknown","id":"x"}"#, Some("")),
            (r#"{"action":5}"#, None),
            (r#"{"action":"msg","level":3.9,"msg":"three"}"#, Some("three\n")),
            (r#"{"action":"msg","level":-1,"msg":"minus"}"#, Some("minus\n")),
            (r#"{"action":"msg","level":1e99,"msg":"huge"}"#, Some("huge\n")),
            (r#"{"action":"msg","level":18446744073709551615,"msg":"wraps"}"#, Some("wraps\n")),
            (r#"{"action":"msg","level":4,"msg":"four"}"#, Some("")),
            (r#"{"action":"msg","level":0,"msg":"x","msg":"last"}"#, Some("last\n")),
            (r#"{"action":"msg","level":"0","msg":"x"}"#, None),
            (r#"{"action":"setPhase","phase":5}"#, None),
            ("null", None),
        ] {
            let line = format!("@nix {message}\n");
            check(line.as_bytes(), shown.unwrap_or(&line).as_bytes(), &[]);
        }
    }

    #[test]
    fn a_control_line_may_follow_a_carriage_return() {
        let stop = "@nix {\"action\":\"stop\",\"id\":5}";
        for (input, expected) in [
            (format!("x\r{stop}\nend\n"), "x\rend\n"),
            (format!("\r{stop}\n"), "\r"),
            (format!("{stop}\r\n{stop}\r\r"), ""),
            (format!("{stop}\rshown\n"), "@nix {\"action\":\"stop\",\"id\":5}\rshown\n"),
            ("a\r\nb\r\r\n\r".into(), "a\r\nb\r\r\n\r"),
        ] {
            check(input.as_bytes(), expected.as_bytes(), &[]);
        }
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
