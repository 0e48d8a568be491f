//! `__json`: what is accepted is written as JSON that reads as the same value.
#![no_main]
use libfuzzer_sys::fuzz_target;
use nix_formats::structured::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = Value::parse(bytes) else { return };
    let written = value.to_json();
    assert_eq!(Value::parse(&written).map(|again| again.to_json()), Ok(written));
});
