//! Chunks of a NAR on the wire: as they are, or each as a zstd frame of its own, where that is smaller.
use crate::convert::WireError;
use bytes::Bytes;
use model::limits;
use zstd::bulk::{Compressor, Decompressor};

/// Fast enough that a board's link, not its processor, is what an upload waits for.
const LEVEL: i32 = 3;
/// A frame must save one byte in this many, or the chunk travels as it is.
const SAVED_ONE_IN: usize = 16;
/// Most chunks in a row that go untried, after chunks that did not shrink.
const UNTRIED_MAX: u32 = 32;

/// A chunk in the form that travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// As it is.
    Plain(Bytes),
    /// One zstd frame.
    Zstd(Bytes),
}

/// The sender's side, for one NAR.
pub struct Packer {
    compressor: Option<Compressor<'static>>,
    /// Chunks that still go untried.
    untried: u32,
    /// How many go untried after the next one that does not shrink.
    patience: u32,
}

impl Packer {
    /// A sender that tries to make chunks smaller.
    pub fn new() -> Self {
        // Without memory for a compressor, chunks travel as they are.
        Self { compressor: Compressor::new(LEVEL).ok(), untried: 0, patience: 1 }
    }

    /// For a receiver that did not say that it takes frames.
    pub fn plain() -> Self {
        Self { compressor: None, untried: 0, patience: 1 }
    }

    /// The smaller form. Data that does not shrink is tried less and less often.
    pub fn pack(&mut self, chunk: Bytes) -> Chunk {
        let Some(compressor) = &mut self.compressor else { return Chunk::Plain(chunk) };
        if self.untried > 0 {
            self.untried -= 1;
            return Chunk::Plain(chunk);
        }
        match compressor.compress(&chunk) {
            Ok(frame) if frame.len() <= chunk.len() - chunk.len() / SAVED_ONE_IN => {
                self.patience = 1;
                Chunk::Zstd(frame.into())
            }
            _ => {
                self.untried = self.patience;
                self.patience = (self.patience * 2).min(UNTRIED_MAX);
                Chunk::Plain(chunk)
            }
        }
    }
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

/// The receiver's side, for one NAR.
#[derive(Default)]
pub struct Unpacker {
    /// Made with the first frame.
    decompressor: Option<Decompressor<'static>>,
}

impl Unpacker {
    /// The bytes of a NAR that a message carries.
    ///
    /// # Errors
    /// More than `longest` bytes, whatever a frame claims, or not a frame.
    pub fn unpack(&mut self, chunk: Chunk, longest: usize) -> Result<Bytes, WireError> {
        let longest = longest.min(limits::CLUSTER_CHUNK_BYTES_MAX);
        match chunk {
            Chunk::Plain(bytes) if bytes.len() <= longest => Ok(bytes),
            Chunk::Plain(bytes) => {
                Err(WireError::new("chunk", format!("has {} bytes, more than {longest}", bytes.len())))
            }
            Chunk::Zstd(frame) => {
                let refused = |error| {
                    WireError::new(
                        "zstd_chunk",
                        format!("is not a frame of at most {longest} bytes: {error}"),
                    )
                };
                let decompressor = match &mut self.decompressor {
                    Some(made) => made,
                    none => none.insert(Decompressor::new().map_err(refused)?),
                };
                decompressor.decompress(&frame, longest).map(Bytes::from).map_err(refused)
            }
        }
    }
}

/// The parts of a stream that carry chunks.
macro_rules! part {
    ($module:ident) => {
        impl From<Chunk> for crate::v1::$module::Part {
            fn from(chunk: Chunk) -> Self {
                match chunk {
                    Chunk::Plain(bytes) => Self::Chunk(bytes),
                    Chunk::Zstd(frame) => Self::ZstdChunk(frame),
                }
            }
        }

        impl TryFrom<Option<crate::v1::$module::Part>> for Chunk {
            type Error = WireError;

            fn try_from(part: Option<crate::v1::$module::Part>) -> Result<Self, WireError> {
                use crate::v1::$module::Part;
                match part {
                    Some(Part::Chunk(bytes)) => Ok(Self::Plain(bytes)),
                    Some(Part::ZstdChunk(frame)) => Ok(Self::Zstd(frame)),
                    _ => Err(WireError::new("part", "a later one is not a chunk")),
                }
            }
        }
    };
}

part!(upload_request);
part!(download_response);

#[cfg(test)]
mod tests {
    use super::*;

    fn text(size: usize) -> Bytes {
        (0..size).map(|at| b"what a compiler reads "[at % 22] ^ u8::from(at % 977 == 0)).collect()
    }

    fn noise(size: usize) -> Bytes {
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..size).map(|_| next()).collect()
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let (mut packer, mut unpacker) = (Packer::new(), Unpacker::default());
        for size in [0, 1, 7, 4096, 64 << 10, 256 << 10] {
            for chunk in [text(size), noise(size)] {
                let packed = packer.pack(chunk.clone());
                assert_eq!(unpacker.unpack(packed, 256 << 10).expect("fits"), chunk);
            }
        }
    }

    #[test]
    fn text_shrinks_and_noise_is_tried_less_and_less() {
        let mut packer = Packer::new();
        assert!(matches!(packer.pack(text(64 << 10)), Chunk::Zstd(frame) if frame.len() < 16 << 10));
        for _ in 0..8 {
            assert!(matches!(packer.pack(noise(64 << 10)), Chunk::Plain(_)));
        }
        let until_tried = (0..64).take_while(|_| matches!(packer.pack(text(4096)), Chunk::Plain(_))).count();
        assert!((1..=32).contains(&until_tried), "text was tried again after {until_tried} chunks");
        assert!(matches!(packer.pack(text(4096)), Chunk::Zstd(_)), "and then always");
    }

    #[test]
    fn a_receiver_that_takes_no_frames_gets_none() {
        assert_eq!(Packer::plain().pack(text(4096)), Chunk::Plain(text(4096)));
    }

    #[test]
    fn hostile_frames_are_refused_at_the_cost_of_one_chunk() {
        let mut unpacker = Unpacker::default();
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).expect("compresses");
        let frame = |bytes: &[u8]| Chunk::Zstd(Bytes::copy_from_slice(bytes));
        let error = unpacker.unpack(frame(&bomb), 64 << 10).expect_err("64 MiB of zeros");
        assert!(
            error.to_string().starts_with("field `zstd_chunk` of a message: is not a frame of at most 65536")
        );
        let whole = zstd::bulk::compress(&text(4096), 3).expect("compresses");
        assert!(unpacker.unpack(frame(&whole[..whole.len() - 1]), 4096).is_err(), "cut");
        assert!(unpacker.unpack(frame(&text(100)), 4096).is_err(), "no frame");
        let twice = [&whole[..], &whole[..]].concat();
        assert!(unpacker.unpack(frame(&twice), 4096).is_err(), "two frames are more than the limit together");
        assert!(unpacker.unpack(Chunk::Plain(text(4097)), 4096).is_err(), "plain and too long");
        assert_eq!(unpacker.unpack(frame(&whole), 4096).expect("still works"), text(4096));
    }
}
