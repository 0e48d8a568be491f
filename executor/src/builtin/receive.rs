//! Where downloaded bytes go: into a file, or through xz and an archive into a tree.
use super::Stop;
use crate::tree::{self, TreeError};
use bytes::Bytes;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use node::exit::chain;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Bytes copied at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Memory that unpacking xz may take: four times what its highest preset needs.
const XZ_MEMORY_BYTES_MAX: u64 = 256 << 20;

/// What is to become of the bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// What is made.
    pub path: PathBuf,
    /// The bytes are an archive (NAR), not a file.
    pub unpack: bool,
    /// The archive is compressed with xz.
    pub xz: bool,
    /// Bytes of the file or the unpacked archive.
    pub bytes_max: u64,
}

impl Target {
    /// Takes all bytes; what was made so far stays when that fails.
    pub fn receive(&self, bytes: &mut dyn Read) -> Result<(), Stop> {
        if !self.unpack {
            return self.file(bytes);
        }
        if self.xz {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_BYTES_MAX, CONCATENATED)
                .map_err(|error| Stop::Failed(format!("cannot unpack xz: {error}")))?;
            return self.tree(&mut XzDecoder::new_stream(bytes, stream));
        }
        self.tree(bytes)
    }

    fn file(&self, bytes: &mut dyn Read) -> Result<(), Stop> {
        let disk = |error: &io::Error| Stop::disk("write", &self.path, error);
        let mut file = File::create_new(&self.path).map_err(|error| disk(&error))?;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut size: u64 = 0;
        loop {
            let count = bytes.read(&mut buffer).map_err(|error| Stop::Failed(error.to_string()))?;
            if count == 0 {
                return Ok(());
            }
            size = size.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            if size > self.bytes_max {
                return Err(too_large(self.bytes_max));
            }
            file.write_all(&buffer[..count]).map_err(|error| disk(&error))?;
        }
    }

    fn tree(&self, bytes: &mut dyn Read) -> Result<(), Stop> {
        match tree::unpack(bytes, self.bytes_max, &self.path) {
            Ok(_) => Ok(()),
            Err(error) if error.is_out_of_disk() => {
                Err(Stop::disk("unpack into", &self.path, &io::ErrorKind::StorageFull.into()))
            }
            Err(TreeError::Malformed { source, .. }) => {
                Err(Stop::Failed(format!("cannot unpack the archive: {}", chain(&source))))
            }
            Err(error) => Err(Stop::Failed(chain(&error))),
        }
    }
}

/// A file or archive is beyond what this executor takes.
pub fn too_large(bytes_max: u64) -> Stop {
    Stop::Failed(format!(
        "it is larger than {bytes_max} bytes, which `downloads.bytes_max` of this executor allows"
    ))
}

/// Makes what was downloaded executable, if it is a plain file.
pub fn make_executable(path: &Path) -> Result<(), Stop> {
    use std::os::unix::fs::PermissionsExt;
    let status = std::fs::symlink_metadata(path).map_err(|error| Stop::disk("examine", path, &error))?;
    if status.is_symlink() {
        // Changing its mode would change a file outside.
        return Err(Stop::Failed("cannot make a symlink executable".into()));
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| Stop::disk("change mode of", path, &error))
}

/// The chunks of a channel as a blocking reader. An end without [`Chunk::End`] is an error: nobody sends any more.
pub struct Chunks {
    receiver: mpsc::Receiver<Chunk>,
    current: Bytes,
    has_ended: bool,
}

/// What goes through the channel.
#[derive(Debug)]
pub enum Chunk {
    /// The next bytes.
    Bytes(Bytes),
    /// These were all.
    End,
}

impl Chunks {
    /// Reads what is sent.
    pub fn new(receiver: mpsc::Receiver<Chunk>) -> Self {
        Self { receiver, current: Bytes::new(), has_ended: false }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.has_ended {
            match self.receiver.blocking_recv() {
                Some(Chunk::Bytes(chunk)) => self.current = chunk,
                Some(Chunk::End) => self.has_ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
