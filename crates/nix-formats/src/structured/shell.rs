//! `.attrs.sh`: structured attributes as declarations of bash.
use super::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The script that declares every attribute that bash can hold.
pub fn attributes_script(attributes: &BTreeMap<String, Value>) -> String {
    let mut script = String::new();
    for (name, value) in attributes {
        if !is_variable_name(name) {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = match value {
            Value::Array(items) => match items.iter().map(simple).collect::<Option<Vec<_>>>() {
                Some(items) => writeln!(script, "declare -a {name}=({})", spaced(&items)),
                None => Ok(()),
            },
            Value::Object(members) => {
                let pair =
                    |(key, value): (&String, &Value)| Some(format!("[{}]={}", quoted(key), simple(value)?));
                match members.iter().map(pair).collect::<Option<Vec<_>>>() {
                    Some(pairs) => writeln!(script, "declare -A {name}=({})", spaced(&pairs)),
                    None => Ok(()),
                }
            }
            value => match simple(value) {
                Some(value) => writeln!(script, "declare {name}={value}"),
                None => Ok(()),
            },
        };
    }
    script
}

fn is_variable_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

fn spaced(words: &[String]) -> String {
    words.iter().fold(String::new(), |text, word| text + word + " ")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn simple(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(quoted(text)),
        Value::Null => Some("''".to_owned()),
        Value::Bool(true) => Some("1".to_owned()),
        Value::Bool(false) => Some(String::new()),
        Value::Integer(value) => Some(wrapped(*value).to_string()),
        Value::Unsigned(value) => Some(wrapped(value.cast_signed()).to_string()),
        Value::Double(value) => whole(*value),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Nix casts integers to a C `int`, which wraps.
fn wrapped(value: i64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// Nix tests a double as a 32-bit float for being whole, then truncates it to `int`; x86-64 gives the smallest one
/// for all that is out of range.
#[expect(clippy::cast_possible_truncation, reason = "the rule of Nix that is followed here is such a cast")]
fn whole(value: f64) -> Option<String> {
    let narrow = value as f32;
    if narrow.ceil().to_bits() != narrow.to_bits() && narrow != 0.0 {
        return None;
    }
    let in_range = value > -2_147_483_649.0 && value < 2_147_483_648.0;
    Some(if in_range { value as i32 } else { i32::MIN }.to_string())
}
