//! The content store: NARs by (trust domain, store path), verified before they are visible. One trait, memory and disk.

mod address;
mod disk;
mod id;
mod memory;
mod store;
mod stream;
mod verify;

pub use disk::DiskStore;
pub use id::{BlobId, Domain};
pub use memory::MemoryStore;
pub use store::{Announced, CasError, ContentStore, NAR_BYTES_MAX, Reader, Stored, Writer};
pub use stream::{Chunks, Upload};
