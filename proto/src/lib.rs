//! The wire, `elsewhere.v1`, and the door between it and the words of `model`.

pub mod chunk;
pub mod convert;

/// Generated messages, clients and servers.
#[expect(missing_docs, reason = "generated from the .proto files, which carry the documentation")]
#[expect(clippy::all, clippy::too_many_lines, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("elsewhere.v1");
}

/// The encoded `FileDescriptorSet`: for the test that enumerates every call.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
