//! JSON values with Nix's numbers: integers stay integers, doubles print as its library prints them.
//!
//! serde_json prints floating-point numbers differently, and its features that keep them exact would change
//! every other crate of the program.
use super::grisu;
use std::collections::BTreeMap;
use thiserror::Error;

/// Deepest nesting that is read, within the stack of any thread.
const DEPTH_MAX: usize = 1024;

/// Why a text is not JSON.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("JSON is not valid at byte {offset}: {problem}")]
pub struct JsonError {
    /// Where, in bytes.
    pub offset: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// A JSON value. Objects are sorted by key; a doubled key keeps its last value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that fits 64 bits with a sign.
    Integer(i64),
    /// A larger one that fits without.
    Unsigned(u64),
    /// Any other number.
    Double(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// Reads a whole text.
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        let mut reader = Reader { text, offset: 0 };
        let value = reader.value(0)?;
        reader.white_space();
        if reader.offset == text.len() { Ok(value) } else { reader.fail("text follows the value") }
    }

    /// Compact text, keys sorted bytewise.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.write(&mut text);
        text
    }

    /// A member of an object.
    pub fn get(&self, key: &str) -> Option<&Self> {
        if let Self::Object(members) = self { members.get(key) } else { None }
    }

    /// The items of an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    /// The members of an object.
    pub fn as_object(&self) -> Option<&BTreeMap<String, Self>> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    /// A string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// What kind of value this is, in the words of Nix's JSON library.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Integer(_) | Self::Unsigned(_) | Self::Double(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// Nix's refusal of a value of the wrong kind.
    pub fn not_of_kind(&self, expected: &str) -> String {
        let shown = String::from_utf8_lossy(&self.to_json()).into_owned();
        format!("Expected JSON value to be of type '{expected}' but it is of type '{}': {shown}", self.kind())
    }

    /// Applies a function to every string in it, keys left alone.
    pub fn map_strings(&mut self, change: &impl Fn(&str) -> String) {
        match self {
            Self::String(text) => *text = change(text),
            Self::Array(items) => items.iter_mut().for_each(|item| item.map_strings(change)),
            Self::Object(members) => members.values_mut().for_each(|value| value.map_strings(change)),
            _ => (),
        }
    }

    fn write(&self, text: &mut Vec<u8>) {
        match self {
            Self::Null => text.extend_from_slice(b"null"),
            Self::Bool(value) => text.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Integer(value) => text.extend_from_slice(value.to_string().as_bytes()),
            Self::Unsigned(value) => text.extend_from_slice(value.to_string().as_bytes()),
            Self::Double(value) => text.extend_from_slice(double(*value).as_bytes()),
            Self::String(value) => write_string(value, text),
            Self::Array(items) => {
                text.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        text.push(b',');
                    }
                    item.write(text);
                }
                text.push(b']');
            }
            Self::Object(members) => {
                text.push(b'{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        text.push(b',');
                    }
                    write_string(key, text);
                    text.push(b':');
                    value.write(text);
                }
                text.push(b'}');
            }
        }
    }
}

fn write_string(value: &str, text: &mut Vec<u8>) {
    text.push(b'"');
    for character in value.bytes() {
        match character {
            b'"' => text.extend_from_slice(b"\\\""),
            b'\\' => text.extend_from_slice(b"\\\\"),
            8 => text.extend_from_slice(b"\\b"),
            12 => text.extend_from_slice(b"\\f"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\t' => text.extend_from_slice(b"\\t"),
            control @ 0..=31 => text.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
            other => text.push(other),
        }
    }
    text.push(b'"');
}

/// A double as Nix's JSON library prints it: decimal while the point is within -4 < n <= 15.
fn double(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value == 0.0 {
        return format!("{sign}0.0");
    }
    let (digits, last) = grisu::digits(value.abs());
    let digits = String::from_utf8_lossy(&digits);
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let point = count + last;
    let position = usize::try_from(point).unwrap_or(0);
    if count <= point && point <= 15 {
        format!("{sign}{digits}{}.0", "0".repeat(position - digits.len()))
    } else if 0 < point && point <= 15 {
        format!("{sign}{}.{}", &digits[..position], &digits[position..])
    } else if -4 < point && point <= 0 {
        format!("{sign}0.{}{digits}", "0".repeat(usize::try_from(-point).unwrap_or(0)))
    } else {
        let fraction = if digits.len() > 1 { format!(".{}", &digits[1..]) } else { String::new() };
        let exponent_sign = if point < 1 { '-' } else { '+' };
        format!("{sign}{}{fraction}e{exponent_sign}{:02}", &digits[..1], (point - 1).unsigned_abs())
    }
}

struct Reader<'a> {
    text: &'a [u8],
    offset: usize,
}

impl Reader<'_> {
    fn fail<T>(&self, problem: &'static str) -> Result<T, JsonError> {
        Err(JsonError { offset: self.offset, problem })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.offset += 1;
        }
    }

    fn consume(&mut self, expected: u8) -> bool {
        self.white_space();
        let is_there = self.peek() == Some(expected);
        self.offset += usize::from(is_there);
        is_there
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > DEPTH_MAX {
            return self.fail("it is nested too deeply");
        }
        self.white_space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word(b"null", Value::Null),
            Some(b't') => self.word(b"true", Value::Bool(true)),
            Some(b'f') => self.word(b"false", Value::Bool(false)),
            _ => self.fail("a value was expected"),
        }
    }

    fn word(&mut self, word: &[u8], value: Value) -> Result<Value, JsonError> {
        if !self.text[self.offset..].starts_with(word) {
            return self.fail("a value was expected");
        }
        self.offset += word.len();
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.offset += 1;
        let mut items = Vec::new();
        if self.consume(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.consume(b']') {
                return Ok(Value::Array(items));
            }
            if !self.consume(b',') {
                return self.fail("`,` or `]` was expected");
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.offset += 1;
        let mut members = BTreeMap::new();
        if self.consume(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.white_space();
            let key = self.string()?;
            if !self.consume(b':') {
                return self.fail("`:` was expected");
            }
            members.insert(key, self.value(depth + 1)?);
            if self.consume(b'}') {
                return Ok(Value::Object(members));
            }
            if !self.consume(b',') {
                return self.fail("`,` or `}` was expected");
            }
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        if self.peek() != Some(b'"') {
            return self.fail("a string was expected");
        }
        self.offset += 1;
        let mut bytes = Vec::new();
        loop {
            match self.peek() {
                None => return self.fail("a string has no end"),
                Some(b'"') => {
                    self.offset += 1;
                    return String::from_utf8(bytes).or_else(|_| self.fail("a string is not UTF-8"));
                }
                Some(b'\\') => self.escape(&mut bytes)?,
                Some(0..=31) => return self.fail("a control character stands in a string"),
                Some(byte) => {
                    bytes.push(byte);
                    self.offset += 1;
                }
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), JsonError> {
        let escaped = self.text.get(self.offset + 1).copied();
        self.offset += 2;
        bytes.push(match escaped {
            Some(b'"' | b'\\' | b'/') => escaped.unwrap_or_default(),
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let character = self.code_point()?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return self.fail("an escape is not known"),
        });
        Ok(())
    }

    fn code_point(&mut self) -> Result<char, JsonError> {
        let first = self.four_digits()?;
        let code = match first {
            0xd800..=0xdbff if self.text[self.offset..].starts_with(b"\\u") => {
                self.offset += 2;
                let second = self.four_digits()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return self.fail("a surrogate stands alone");
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            other => other,
        };
        char::from_u32(code).map_or_else(|| self.fail("a surrogate stands alone"), Ok)
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let digits =
            self.text.get(self.offset..self.offset + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        let is_hex = |digits: &&str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = digits.filter(is_hex).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.offset += 4;
        value.map_or_else(|| self.fail("`\\u` needs four digits"), Ok)
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.offset;
        let digits = |reader: &mut Self| {
            let before = reader.offset;
            while reader.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                reader.offset += 1;
            }
            reader.offset - before
        };
        self.offset += usize::from(self.peek() == Some(b'-'));
        let leading_zero = self.peek() == Some(b'0');
        let count = digits(self);
        if count == 0 || (leading_zero && count > 1) {
            return self.fail("a number is not written right");
        }
        let mut is_integer = true;
        if self.peek() == Some(b'.') {
            self.offset += 1;
            is_integer = false;
            if digits(self) == 0 {
                return self.fail("a number is not written right");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.offset += 1;
            is_integer = false;
            self.offset += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if digits(self) == 0 {
                return self.fail("a number is not written right");
            }
        }
        let text = std::str::from_utf8(&self.text[start..self.offset]).unwrap_or_default();
        if is_integer {
            if let Ok(value) = text.parse() {
                return Ok(Value::Integer(value));
            }
            if let Ok(value) = text.parse() {
                return Ok(Value::Unsigned(value));
            }
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Value::Double(value)),
            _ => self.fail("a number is out of range"),
        }
    }
}
