//! The words of the protocol as bytes: integers, padded strings, lists. Decoding is pure and has a limit everywhere.
use bytes::{BufMut, BytesMut};
use nix_formats::store_path::StorePath;

/// Longest store path, name, key or signature, in bytes.
pub(crate) const WORD_BYTES_MAX: usize = 4096;
/// Longest message for people, in bytes; longer ones are a protocol error.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Most entries of a list.
pub(crate) const LIST_MAX: usize = 100_000;

/// Why a value could not be taken from the bytes at hand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bytes end too early: more may come.
    Incomplete,
    /// No bytes that follow can make it right.
    Malformed(String),
}

pub(crate) fn malformed<T>(problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Malformed(problem.into()))
}

/// Reads values from bytes, front to back.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// How many bytes have been read.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let end = self.position.checked_add(count).ok_or(Fault::Incomplete)?;
        let taken = self.bytes.get(self.position..end).ok_or(Fault::Incomplete)?;
        self.position = end;
        Ok(taken)
    }

    pub(crate) fn number(&mut self) -> Result<u64, Fault> {
        let mut word = [0; 8];
        word.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(word))
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Fault> {
        Ok(self.number()? != 0)
    }

    /// A count or length that may not exceed a limit.
    pub(crate) fn length(&mut self, what: &str, max: usize) -> Result<usize, Fault> {
        let length = self.number()?;
        match usize::try_from(length) {
            Ok(length) if length <= max => Ok(length),
            _ => malformed(format!("{what}: a length of {length} is more than {max}")),
        }
    }

    pub(crate) fn bytes(&mut self, what: &str, max: usize) -> Result<&'a [u8], Fault> {
        let length = self.length(what, max)?;
        let bytes = self.take(length)?;
        let padding = self.take(length.wrapping_neg() % 8)?;
        if padding.iter().any(|byte| *byte != 0) {
            return malformed(format!("{what}: the padding is not zero"));
        }
        Ok(bytes)
    }

    /// A word that machines read: UTF-8, of limited length.
    pub(crate) fn word(&mut self, what: &str) -> Result<String, Fault> {
        match std::str::from_utf8(self.bytes(what, WORD_BYTES_MAX)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => malformed(format!("{what}: is not UTF-8")),
        }
    }

    /// A word, or nothing when it is empty.
    pub(crate) fn optional_word(&mut self, what: &str) -> Result<Option<String>, Fault> {
        Ok(Some(self.word(what)?).filter(|word| !word.is_empty()))
    }

    /// A full store path, in whatever directory this daemon's store is.
    pub(crate) fn store_path(&mut self, what: &str) -> Result<String, Fault> {
        let path = self.word(what)?;
        let base_name = path.rsplit_once('/').map(|(_, base_name)| StorePath::parse_base_name(base_name));
        match base_name {
            Some(Ok(_)) if path.starts_with('/') => Ok(path),
            _ => malformed(format!("{what}: `{}` is not a store path", path.escape_debug())),
        }
    }

    /// Text for people: any bytes, without terminal control sequences.
    pub(crate) fn message(&mut self, what: &str) -> Result<String, Fault> {
        let bytes = self.bytes(what, MESSAGE_BYTES_MAX)?;
        Ok(plain_text(&String::from_utf8_lossy(bytes)))
    }

    pub(crate) fn list<T>(
        &mut self,
        what: &str,
        mut entry: impl FnMut(&mut Self) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let count = self.length(what, LIST_MAX)?;
        // The count is the peer's claim: room is made for what is there, not for what is announced.
        let mut entries = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            entries.push(entry(self)?);
        }
        Ok(entries)
    }

    pub(crate) fn store_paths(&mut self, what: &str) -> Result<Vec<String>, Fault> {
        self.list(what, |cursor| cursor.store_path(what))
    }
}

/// Drops terminal escape sequences and control characters other than line feed and tab.
///
/// Nix colours its messages; what a daemon sends must not steer the user's terminal.
pub(crate) fn plain_text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            if rest.next_if_eq(&'[').is_some() {
                // The parameters of a control sequence end with a byte from @ to ~.
                while rest.next().is_some_and(|parameter| !('@'..='~').contains(&parameter)) {}
            }
        } else if !character.is_control() || character == '\n' || character == '\t' {
            plain.push(character);
        }
    }
    plain
}

/// Appends values to a request.
pub(crate) trait Put {
    fn put_number(&mut self, number: u64);
    fn put_bytes(&mut self, bytes: &[u8]);

    fn put_boolean(&mut self, value: bool) {
        self.put_number(u64::from(value));
    }

    fn put_word(&mut self, word: &str) {
        self.put_bytes(word.as_bytes());
    }

    fn put_words<T: AsRef<str>>(&mut self, words: &[T]) {
        self.put_number(words.len() as u64);
        for word in words {
            self.put_word(word.as_ref());
        }
    }
}

impl Put for BytesMut {
    fn put_number(&mut self, number: u64) {
        self.put_u64_le(number);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_number(bytes.len() as u64);
        self.put_slice(bytes);
        BufMut::put_bytes(self, 0, bytes.len().wrapping_neg() % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of a build hook's request, as real Nix sends it.
    #[test]
    fn words_are_counted_and_padded() {
        let mut bytes = BytesMut::new();
        bytes.put_word("try");
        assert_eq!(bytes.as_ref(), b"\x03\0\0\0\0\0\0\0try\0\0\0\0\0");
        let mut cursor = Cursor::new(&bytes);
        assert_eq!((cursor.word("a word"), cursor.position()), (Ok("try".into()), 16));
    }

    /// What follows the NAR when real Nix 2.8 exports a file with one reference: 344 bytes with the NAR of 168.
    #[test]
    fn what_describes_an_exported_path_is_laid_out_as_nix_does() {
        let (path, reference) = (
            "/nix/store/c426lska1dcs57a969vcsihm5ddwlbmd-r.txt",
            "/nix/store/9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt",
        );
        let mut bytes = BytesMut::new();
        bytes.put_number(0x4558_494e);
        bytes.put_word(path);
        bytes.put_words(&[reference]);
        // No deriver, no signature, nothing more.
        bytes.put_word("");
        bytes.put_number(0);
        bytes.put_number(0);
        assert_eq!(&bytes[..8], b"\x4e\x49\x58\x45\0\0\0\0");
        assert_eq!(8 + 168 + bytes.len(), 344);
        let mut cursor = Cursor::new(&bytes[8..]);
        assert_eq!(cursor.store_path("path"), Ok(path.into()));
        assert_eq!(cursor.store_paths("references"), Ok(vec![reference.into()]));
        assert_eq!(cursor.optional_word("deriver"), Ok(None));
    }
}
