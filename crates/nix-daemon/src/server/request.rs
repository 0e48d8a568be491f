//! What Nix asks of a store that it builds on.
use crate::wire::{Cursor, Fault, WORD_BYTES_MAX, malformed};

/// Longest argument or environment variable of a derivation, in bytes.
const VALUE_BYTES_MAX: usize = 8 << 20;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// IsValidPath.
    IsValidPath(String),
    /// QueryValidPaths: which of these.
    QueryValidPaths(Vec<String>),
    /// QueryPathInfo.
    QueryPathInfo(String),
    /// NarFromPath.
    NarFromPath(String),
    /// AddTempRoot or EnsurePath.
    Keep(String),
    /// SetOptions; nothing of it counts here.
    SetOptions,
    /// QueryRealisation.
    QueryRealisation(String),
    /// BuildDerivation.
    BuildDerivation(BuildRequest),
    /// AddMultipleToStore of no paths: what is left to send when all are said to be valid.
    AddNothing,
    /// One that is not served; what follows it cannot be read.
    Other(u64),
}

/// A derivation to build, as far as it is of interest: its file says the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// Full path of the `.drv`.
    pub derivation: String,
    /// Names and paths; a path is empty before its content is known.
    pub outputs: Vec<(String, String)>,
    /// Build again what is there (`--check`, `--repair`).
    pub again: bool,
}

/// Decodes a request.
pub(super) fn request(cursor: &mut Cursor<'_>) -> Result<Request, Fault> {
    Ok(match cursor.number()? {
        1 => Request::IsValidPath(cursor.store_path("path")?),
        10 | 11 => Request::Keep(cursor.store_path("path")?),
        19 => {
            for _setting in 0..12 {
                cursor.number()?;
            }
            cursor.list("settings", |cursor| {
                cursor.bytes("name", WORD_BYTES_MAX)?;
                cursor.bytes("value", VALUE_BYTES_MAX).map(drop)
            })?;
            Request::SetOptions
        }
        26 => Request::QueryPathInfo(cursor.store_path("path")?),
        31 => {
            let paths = cursor.store_paths("paths")?;
            let _substitute = cursor.boolean()?;
            Request::QueryValidPaths(paths)
        }
        36 => Request::BuildDerivation(build(cursor)?),
        38 => Request::NarFromPath(cursor.store_path("path")?),
        44 => add_nothing(cursor)?,
        43 => Request::QueryRealisation(cursor.word("output")?),
        other => Request::Other(other),
    })
}

/// Two flags, then frames, which together say how many paths follow.
fn add_nothing(cursor: &mut Cursor<'_>) -> Result<Request, Fault> {
    let _flags = (cursor.boolean()?, cursor.boolean()?);
    let mut count = Vec::new();
    loop {
        match cursor.length("frame", VALUE_BYTES_MAX)? {
            0 => break,
            length if count.len() + length > 8 => return Ok(Request::Other(44)),
            length => count.extend_from_slice(cursor.take(length)?),
        }
    }
    if count == [0; 8] {
        Ok(Request::AddNothing)
    } else {
        malformed("paths to add were announced and not sent")
    }
}

fn build(cursor: &mut Cursor<'_>) -> Result<BuildRequest, Fault> {
    let derivation = cursor.store_path("derivation")?;
    let outputs = cursor.list("outputs", |cursor| {
        let (name, path) = (cursor.word("output name")?, cursor.word("output path")?);
        cursor.word("hash algorithm")?;
        cursor.word("hash")?;
        Ok((name, path))
    })?;
    cursor.store_paths("inputs")?;
    cursor.word("system")?;
    cursor.bytes("builder", VALUE_BYTES_MAX)?;
    cursor.list("arguments", |cursor| cursor.bytes("argument", VALUE_BYTES_MAX).map(drop))?;
    cursor.list("environment", |cursor| {
        cursor.bytes("name", VALUE_BYTES_MAX)?;
        cursor.bytes("value", VALUE_BYTES_MAX).map(drop)
    })?;
    let again = match cursor.number()? {
        0 => false,
        1 | 2 => true,
        mode => return malformed(format!("{mode} is not a build mode")),
    };
    Ok(BuildRequest { derivation, outputs, again })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Put;
    use bytes::BytesMut;

    #[test]
    fn no_paths_are_added_and_others_are_not_taken() {
        let request_of = |frames: &[&[u8]]| {
            let mut bytes = BytesMut::new();
            for number in [44, 0, 1] {
                bytes.put_number(number);
            }
            for frame in frames {
                bytes.put_number(frame.len() as u64);
                bytes.extend_from_slice(frame);
            }
            bytes.put_number(0);
            request(&mut Cursor::new(&bytes))
        };
        assert_eq!(request_of(&[&[0; 8]]), Ok(Request::AddNothing));
        assert_eq!(request_of(&[&[0; 5], &[0; 3]]), Ok(Request::AddNothing));
        assert_eq!(request_of(&[&[0; 9]]), Ok(Request::Other(44)));
        assert_eq!(request_of(&[&[1; 8], b"path"]), Ok(Request::Other(44)));
        assert!(matches!(request_of(&[&[1, 0, 0, 0, 0, 0, 0, 0]]), Err(Fault::Malformed(_))));
        assert!(matches!(request_of(&[]), Err(Fault::Malformed(_))));
    }

    #[test]
    fn a_derivation_is_read_whole() {
        let mut bytes = BytesMut::new();
        let path = "/nix/store/w51084ksv60sy0fkcb9hz4rxv8rv2avb-one";
        bytes.put_number(36);
        bytes.put_word(&format!("{path}.drv"));
        bytes.put_number(1);
        for word in ["out", path, "", ""] {
            bytes.put_word(word);
        }
        bytes.put_words(&[path]);
        bytes.put_word("x86_64-linux");
        bytes.put_word("/bin/sh");
        bytes.put_words(&["-c", "true"]);
        bytes.put_number(1);
        bytes.put_words::<&str>(&[]);
        let before_value = bytes.len() - 8;
        bytes.truncate(before_value);
        bytes.put_word("big");
        bytes.put_word(&"x".repeat(100_000));
        bytes.put_number(0);
        let whole = request(&mut Cursor::new(&bytes)).unwrap();
        let outputs = vec![("out".to_owned(), path.to_owned())];
        let expected = BuildRequest { derivation: format!("{path}.drv"), outputs, again: false };
        assert_eq!(whole, Request::BuildDerivation(expected));
        for end in [0, 8, 50, 200, bytes.len() - 1] {
            assert_eq!(request(&mut Cursor::new(&bytes[..end])), Err(Fault::Incomplete), "{end}");
        }
        let last = bytes.len() - 8;
        bytes[last] = 9;
        assert!(matches!(request(&mut Cursor::new(&bytes)), Err(Fault::Malformed(_))));
    }
}
