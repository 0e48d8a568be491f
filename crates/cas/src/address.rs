//! Computes, while a NAR streams by, what its content address would be by the method that it claims.
use nix_formats::content_address::ContentAddress;
use nix_formats::hash::{HashAlgorithm, Hasher};
use nix_formats::nar::Event;

/// Hashes as one content address asks for.
#[derive(Debug)]
pub(crate) enum AddressHasher {
    /// The contents of the one regular file that the NAR must be.
    File { hasher: Hasher, is_text: bool, is_plain_file: bool },
    /// The NAR.
    Archive { hasher: Hasher, without_own_hash: Option<SelfReferences> },
}

impl AddressHasher {
    /// For a claimed address; `own_hash_part` is the path's, when its references name itself.
    pub fn new(claimed: &ContentAddress, own_hash_part: Option<&str>) -> Self {
        let file =
            |algorithm, is_text| Self::File { hasher: Hasher::new(algorithm), is_text, is_plain_file: false };
        match claimed {
            ContentAddress::Text(_) => file(HashAlgorithm::Sha256, true),
            ContentAddress::Flat(hash) => file(hash.algorithm, false),
            ContentAddress::Recursive(hash) => Self::Archive {
                hasher: Hasher::new(hash.algorithm),
                without_own_hash: own_hash_part.map(SelfReferences::new),
            },
        }
    }

    /// The next bytes of the NAR, as they are.
    pub fn bytes(&mut self, chunk: &[u8]) {
        match self {
            Self::File { .. } => {}
            Self::Archive { hasher, without_own_hash: None } => hasher.update(chunk),
            Self::Archive { hasher, without_own_hash: Some(references) } => {
                references.push(chunk, |bytes| hasher.update(bytes));
            }
        }
    }

    /// The next event of the NAR.
    pub fn event(&mut self, event: &Event<'_>) {
        let Self::File { hasher, is_plain_file, .. } = self else { return };
        match event {
            // The hash does not cover the executable bit: such a file cannot be what was hashed.
            Event::File { is_executable, .. } => *is_plain_file = !is_executable,
            Event::Contents(bytes) => hasher.update(bytes),
            Event::FileEnd => {}
            Event::Entry { .. } | Event::Symlink { .. } | Event::Directory | Event::DirectoryEnd => {
                *is_plain_file = false;
            }
        }
    }

    /// The address of what came; `Err` says what it is when it can have none by this method.
    pub fn finish(self) -> Result<ContentAddress, &'static str> {
        match self {
            Self::File { is_plain_file: false, .. } => Err("no single file that is not executable"),
            Self::File { hasher, is_text, .. } => Ok(match hasher.finish() {
                hash if is_text => ContentAddress::Text(hash.digest().try_into().unwrap_or([0; 32])),
                hash => ContentAddress::Flat(hash),
            }),
            Self::Archive { mut hasher, without_own_hash } => {
                if let Some(references) = without_own_hash {
                    references.finish(|bytes| hasher.update(bytes));
                }
                Ok(ContentAddress::Recursive(hasher.finish()))
            }
        }
    }
}

/// Replaces a path's own hash part by zero bytes, and adds where it stood: so content can name the path that its hash makes.
#[derive(Debug)]
pub(crate) struct SelfReferences {
    hash_part: Vec<u8>,
    /// Bytes not passed on yet: the beginning of a hash part may be among them.
    pending: Vec<u8>,
    /// Where `pending` begins, in bytes from the beginning.
    offset: u64,
    found: Vec<u64>,
}

impl SelfReferences {
    fn new(hash_part: &str) -> Self {
        Self { hash_part: hash_part.as_bytes().to_vec(), pending: Vec::new(), offset: 0, found: Vec::new() }
    }

    fn push(&mut self, chunk: &[u8], mut pass_on: impl FnMut(&[u8])) {
        self.pending.extend_from_slice(chunk);
        let length = self.hash_part.len();
        let mut done = 0;
        while let Some(at) = position(&self.pending[done..], &self.hash_part) {
            pass_on(&self.pending[done..done + at]);
            pass_on(&vec![0; length]);
            self.found.push(self.offset + (done + at) as u64);
            done += at + length;
        }
        // Anything that could still become a hash part stays.
        let safe = self.pending.len().saturating_sub(length - 1).max(done);
        pass_on(&self.pending[done..safe]);
        self.pending.drain(..safe);
        self.offset += safe as u64;
    }

    fn finish(self, mut pass_on: impl FnMut(&[u8])) {
        pass_on(&self.pending);
        for offset in self.found {
            pass_on(format!("|{offset}").as_bytes());
        }
    }
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|&byte| byte == first) {
        let at = from + at;
        match haystack.get(at..at + needle.len()) {
            None => return None,
            Some(window) if window == needle => return Some(at),
            Some(_) => from = at + 1,
        }
    }
    None
}

/// What came, for a message: an address, or why there is none.
pub(crate) fn shown(came: &Result<ContentAddress, &'static str>) -> String {
    match came {
        Ok(address) => address.to_string(),
        Err(problem) => format!("none: it is {problem}"),
    }
}

/// Whether two addresses are the same. A hash that was cut to another size is not one.
pub(crate) fn is_same(came: &Result<ContentAddress, &'static str>, claimed: &ContentAddress) -> bool {
    came.as_ref().is_ok_and(|came| came == claimed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix_formats::hash::Hash;

    fn modulo(nar: &[u8], hash_part: &str, chunk: usize) -> String {
        let claimed = ContentAddress::Recursive(Hash::new(HashAlgorithm::Sha256, &[0; 32]).unwrap());
        let mut hasher = AddressHasher::new(&claimed, Some(hash_part));
        for chunk in nar.chunks(chunk) {
            hasher.bytes(chunk);
        }
        shown(&hasher.finish())
    }

    /// By the rule: every occurrence zeroed, then `|offset` for each.
    fn by_rule(nar: &[u8], hash_part: &str) -> String {
        let mut text = nar.to_vec();
        let mut offsets = Vec::new();
        let mut at = 0;
        while at + 32 <= text.len() {
            if &text[at..at + 32] == hash_part.as_bytes() {
                text[at..at + 32].fill(0);
                offsets.push(at);
                at += 32;
            } else {
                at += 1;
            }
        }
        for offset in offsets {
            text.extend_from_slice(format!("|{offset}").as_bytes());
        }
        let digest = nix_formats::hash::sha256(&text);
        ContentAddress::Recursive(Hash::new(HashAlgorithm::Sha256, &digest).unwrap()).to_string()
    }

    #[test]
    fn own_hash_parts_are_left_out_wherever_chunks_end() {
        let own = "9p0nl625gm5mli8h2xfsgma0zz31g9yc";
        let text = format!("{own}x{own}{own}99p0nl{}{own}", &own[..31]);
        for text in [text.as_str(), own, "", "9p0nl625gm5mli8h2xfsgma0zz31g9y", &format!("ab{own}")] {
            for chunk in 1..80 {
                let expected = by_rule(text.as_bytes(), own);
                assert_eq!(modulo(text.as_bytes(), own, chunk), expected, "{text} in chunks of {chunk}");
            }
        }
    }
}
