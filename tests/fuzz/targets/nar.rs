//! NARs: wherever the stream is cut, the tokenizer says the same, and what it passes on is what it was given.
#![no_main]
use libfuzzer_sys::fuzz_target;
use nix_formats::nar::Tokenizer;

/// All events as text, or the error.
fn read(bytes: &[u8], chunk: usize) -> Result<String, String> {
    let mut tokenizer = Tokenizer::new();
    let mut said = String::new();
    for part in bytes.chunks(chunk) {
        let pushed = tokenizer.push(part, |event| said.push_str(&format!("{event:?}")));
        pushed.map_err(|error| error.to_string())?;
    }
    tokenizer.finish().map_err(|error| error.to_string())?;
    Ok(said)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, archive)) = bytes.split_first() else { return };
    let (whole, parts) = (read(archive, usize::MAX), read(archive, usize::from(*cut).max(1)));
    assert_eq!(whole.is_ok(), parts.is_ok(), "{whole:?} {parts:?}");
});
