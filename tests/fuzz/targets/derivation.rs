//! `.drv` texts: what is accepted is written again byte for byte; all that is computed from it ends.
#![no_main]
use libfuzzer_sys::fuzz_target;
use nix_formats::derivation;
use nix_formats::modulo;
use nix_formats::store_path::StoreDir;

fuzz_target!(|bytes: &[u8]| {
    let store = StoreDir::default();
    let Ok(parsed) = derivation::parse(bytes, &store) else { return };
    assert_eq!(parsed.to_aterm(&store), bytes);
    let _ = parsed.references();
    let _ = modulo::masked_hash(&parsed, &store, |_| None);
    let _ = nix_formats::target::target_of("name", &parsed);
});
