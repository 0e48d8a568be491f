//! Chunks of NARs: a frame from anyone gives at most what is allowed; what is packed comes out again.
#![no_main]
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proto::chunk::{Chunk, Packer, Unpacker};

const LONGEST: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let mut unpacker = Unpacker::default();
    if let Ok(content) = unpacker.unpack(Chunk::Zstd(Bytes::copy_from_slice(bytes)), LONGEST) {
        assert!(content.len() <= LONGEST);
    }
    let content = Bytes::copy_from_slice(&bytes[..bytes.len().min(LONGEST)]);
    let packed = Packer::new().pack(content.clone());
    assert_eq!(unpacker.unpack(packed, LONGEST), Ok(content));
});
