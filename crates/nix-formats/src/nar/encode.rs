//! Writes the bytes of an archive, event by event, into a buffer that the caller drains.
use super::Event;

/// Turns events into bytes. The caller gives well-formed sequences: names in order, contents of the announced size.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Whether the magic is written.
    has_begun: bool,
    /// Whether each open directory is itself an entry, outermost first.
    open_directories: usize,
    /// Contents still to come in the current file.
    contents_left: u64,
    padding: usize,
}

impl Encoder {
    /// At the beginning of an archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the bytes of one event. `Contents` are appended as they are: large files are better passed in chunks.
    pub fn write(&mut self, event: Event<'_>, buffer: &mut Vec<u8>) {
        if !self.has_begun {
            self.has_begun = true;
            string(buffer, b"nix-archive-1");
        }
        match event {
            Event::Entry { name } => {
                for text in [b"entry".as_slice(), b"(", b"name", name, b"node"] {
                    string(buffer, text);
                }
            }
            Event::File { is_executable, size } => {
                open(buffer, b"regular");
                if is_executable {
                    string(buffer, b"executable");
                    string(buffer, b"");
                }
                string(buffer, b"contents");
                buffer.extend_from_slice(&size.to_le_bytes());
                self.contents_left = size;
                self.padding = usize::try_from(size.wrapping_neg() % 8).unwrap_or(0);
            }
            Event::Contents(bytes) => {
                debug_assert!(bytes.len() as u64 <= self.contents_left, "more contents than announced");
                self.contents_left = self.contents_left.saturating_sub(bytes.len() as u64);
                buffer.extend_from_slice(bytes);
            }
            Event::FileEnd => {
                buffer.extend_from_slice(&[0; 8][..self.padding]);
                self.close(buffer);
            }
            Event::Symlink { target } => {
                open(buffer, b"symlink");
                string(buffer, b"target");
                string(buffer, target);
                self.close(buffer);
            }
            Event::Directory => {
                open(buffer, b"directory");
                self.open_directories += 1;
            }
            Event::DirectoryEnd => {
                self.open_directories -= 1;
                self.close(buffer);
            }
        }
    }

    /// The end of a node, and of the entry that it is in.
    fn close(&self, buffer: &mut Vec<u8>) {
        string(buffer, b")");
        if self.open_directories > 0 {
            string(buffer, b")");
        }
    }
}

fn open(buffer: &mut Vec<u8>, kind: &[u8]) {
    for text in [b"(".as_slice(), b"type", kind] {
        string(buffer, text);
    }
}

fn string(buffer: &mut Vec<u8>, text: &[u8]) {
    buffer.extend_from_slice(&(text.len() as u64).to_le_bytes());
    buffer.extend_from_slice(text);
    buffer.extend_from_slice(&[0; 8][..text.len().wrapping_neg() % 8]);
}
