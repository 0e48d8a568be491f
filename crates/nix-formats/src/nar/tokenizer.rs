//! Reads an archive as it arrives, in chunks of any size, strictly and in constant memory.
use super::{DEPTH_MAX, ENTRY_NAME_BYTES_MAX, Event, LINK_TARGET_BYTES_MAX};
use thiserror::Error;

/// Why bytes are not an archive.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("the NAR is not valid at byte {offset}: {problem}")]
pub struct NarError {
    /// Where, in bytes from the beginning.
    pub offset: u64,
    /// What is wrong there.
    pub problem: String,
}

/// What the next string must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    Magic,
    Open,
    Type,
    Kind,
    /// After `regular`: `executable` or `contents`.
    FileField,
    ExecutableMark,
    ContentsField,
    /// Raw contents: the length only; the bytes are passed on.
    Contents,
    TargetField,
    Target,
    /// The `)` of a file or link.
    Close,
    /// In a directory: `entry` or `)`.
    EntryOrClose,
    EntryOpen,
    NameField,
    Name,
    NodeField,
    /// The `)` of a directory entry, behind its node.
    EntryClose,
    Nothing,
}

#[derive(Debug)]
enum State {
    /// Collecting the eight bytes of a length.
    Length,
    /// Collecting a string of this many bytes.
    Text(usize),
    /// Passing contents on: bytes left, padding after them.
    Contents { left: u64, padding: usize },
    /// Skipping zero bytes.
    Padding(usize),
}

/// The push tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    expect: Expect,
    state: State,
    buffer: Vec<u8>,
    is_executable: bool,
    /// The last name seen in every open directory.
    last_names: Vec<Vec<u8>>,
    offset: u64,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Tokenizer {
    /// At the beginning of an archive.
    pub fn new() -> Self {
        Self {
            expect: Expect::Magic,
            state: State::Length,
            buffer: Vec::with_capacity(LINK_TARGET_BYTES_MAX + 1),
            is_executable: false,
            last_names: Vec::new(),
            offset: 0,
        }
    }

    /// Whether the archive is complete.
    pub fn is_complete(&self) -> bool {
        self.expect == Expect::Nothing && matches!(self.state, State::Length)
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads a chunk; returns how many of its bytes belong to the archive (fewer only when it ended inside).
    pub fn push(&mut self, chunk: &[u8], mut on_event: impl FnMut(Event<'_>)) -> Result<usize, NarError> {
        let mut rest = chunk;
        while !rest.is_empty() && !self.is_complete() {
            let taken = self.step(rest, &mut on_event)?;
            self.offset += taken as u64;
            rest = &rest[taken..];
        }
        Ok(chunk.len() - rest.len())
    }

    /// Says whether the archive was complete when the stream ended.
    pub fn finish(&self) -> Result<(), NarError> {
        if self.is_complete() { Ok(()) } else { self.fail("it ends too early") }
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, NarError> {
        Err(NarError { offset: self.offset, problem: problem.into() })
    }

    fn step(&mut self, rest: &[u8], on_event: &mut impl FnMut(Event<'_>)) -> Result<usize, NarError> {
        match self.state {
            State::Length => self.length(rest, on_event),
            State::Text(length) => self.text(length, rest, on_event),
            State::Contents { left, padding } => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                on_event(Event::Contents(&rest[..taken]));
                let left = left - taken as u64;
                self.state = State::Contents { left, padding };
                if left == 0 {
                    on_event(Event::FileEnd);
                    self.expect = Expect::Close;
                    self.pad(padding);
                }
                Ok(taken)
            }
            State::Padding(left) => {
                let taken = left.min(rest.len());
                if rest[..taken].iter().any(|&byte| byte != 0) {
                    return self.fail("padding is not zero");
                }
                self.pad(left - taken);
                Ok(taken)
            }
        }
    }

    fn pad(&mut self, left: usize) {
        self.state = if left == 0 { State::Length } else { State::Padding(left) };
    }

    fn length(&mut self, rest: &[u8], on_event: &mut impl FnMut(Event<'_>)) -> Result<usize, NarError> {
        let taken = (8 - self.buffer.len()).min(rest.len());
        self.buffer.extend_from_slice(&rest[..taken]);
        let Ok(bytes) = <[u8; 8]>::try_from(self.buffer.as_slice()) else { return Ok(taken) };
        self.buffer.clear();
        let length = u64::from_le_bytes(bytes);
        if self.expect == Expect::Contents {
            on_event(Event::File { is_executable: self.is_executable, size: length });
            let padding = usize::try_from(length.wrapping_neg() % 8).unwrap_or(0);
            self.state = State::Contents { left: length, padding };
            if length == 0 {
                on_event(Event::FileEnd);
                self.expect = Expect::Close;
                self.state = State::Length;
            }
            return Ok(taken);
        }
        let longest = match self.expect {
            Expect::Name => ENTRY_NAME_BYTES_MAX,
            Expect::Target => LINK_TARGET_BYTES_MAX,
            _ => 16,
        };
        match usize::try_from(length) {
            Ok(0) => self.token(&[], on_event).map(|()| taken),
            Ok(length) if length <= longest => {
                self.state = State::Text(length);
                Ok(taken)
            }
            _ => self.fail(format!("a string of {length} bytes is too long here (at most {longest})")),
        }
    }

    fn text(
        &mut self,
        length: usize,
        rest: &[u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, NarError> {
        let taken = (length - self.buffer.len()).min(rest.len());
        self.buffer.extend_from_slice(&rest[..taken]);
        if self.buffer.len() == length {
            let text = std::mem::take(&mut self.buffer);
            self.pad(length.wrapping_neg() % 8);
            self.token(&text, on_event)?;
            self.buffer = text;
            self.buffer.clear();
        }
        Ok(taken)
    }

    /// A complete string: what it means here, and what must come next.
    fn token(&mut self, text: &[u8], on_event: &mut impl FnMut(Event<'_>)) -> Result<(), NarError> {
        self.expect = match (self.expect, text) {
            (Expect::Magic, b"nix-archive-1") => Expect::Open,
            (Expect::Open, b"(") => Expect::Type,
            (Expect::Type, b"type") => Expect::Kind,
            (Expect::Kind, b"regular") => {
                self.is_executable = false;
                Expect::FileField
            }
            (Expect::Kind, b"symlink") => Expect::TargetField,
            (Expect::Kind, b"directory") => {
                on_event(Event::Directory);
                self.last_names.push(Vec::new());
                Expect::EntryOrClose
            }
            (Expect::FileField, b"executable") => {
                self.is_executable = true;
                Expect::ExecutableMark
            }
            (Expect::ExecutableMark, b"") => Expect::ContentsField,
            (Expect::FileField | Expect::ContentsField, b"contents") => Expect::Contents,
            (Expect::TargetField, b"target") => Expect::Target,
            (Expect::Target, target) => self.target(target, on_event)?,
            (Expect::Close, b")") => self.after_node(),
            (Expect::EntryOrClose, b")") => {
                on_event(Event::DirectoryEnd);
                self.last_names.pop();
                self.after_node()
            }
            (Expect::EntryOrClose, b"entry") => Expect::EntryOpen,
            (Expect::EntryOpen, b"(") => Expect::NameField,
            (Expect::NameField, b"name") => Expect::Name,
            (Expect::Name, name) => self.name(name, on_event)?,
            (Expect::NodeField, b"node") => Expect::Open,
            (Expect::EntryClose, b")") => Expect::EntryOrClose,
            (expected, text) => {
                return self.fail(format!("`{}` where {expected:?} was expected", text.escape_ascii()));
            }
        };
        Ok(())
    }

    fn after_node(&self) -> Expect {
        if self.last_names.is_empty() { Expect::Nothing } else { Expect::EntryClose }
    }

    fn target(&self, target: &[u8], on_event: &mut impl FnMut(Event<'_>)) -> Result<Expect, NarError> {
        if target.is_empty() || target.contains(&0) {
            return self.fail("the target of a symbolic link is empty or has a NUL");
        }
        on_event(Event::Symlink { target });
        Ok(Expect::Close)
    }

    fn name(&mut self, name: &[u8], on_event: &mut impl FnMut(Event<'_>)) -> Result<Expect, NarError> {
        let shown = name.escape_ascii().to_string();
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return self.fail(format!("`{shown}` is not a file name"));
        }
        if self.last_names.len() >= DEPTH_MAX {
            return self.fail(format!("directories are nested deeper than {DEPTH_MAX}"));
        }
        let Some(last) = self.last_names.last_mut() else { return Ok(Expect::Nothing) };
        if name <= last.as_slice() {
            return self.fail(format!("entry `{shown}` is out of order or doubled"));
        }
        last.clear();
        last.extend_from_slice(name);
        on_event(Event::Entry { name });
        Ok(Expect::NodeField)
    }
}
