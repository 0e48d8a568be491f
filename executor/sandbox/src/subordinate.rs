//! Subordinate ids: which host ids the executor's user may give to builds, from the text of /etc/subuid and /etc/subgid.
use std::path::Path;

use thiserror::Error;

use crate::spec::Ids;

/// Largest `/etc/subuid` that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A run of consecutive host ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first id.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Why there are no subordinate ids.
#[derive(Debug, Error)]
pub enum SubordinateError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Too few ids.
    #[error(
        "{path} gives user {user} {have} subordinate ids and {need} are needed, one a slot: run `usermod \
         --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`"
    )]
    TooFew {
        /// Which file.
        path: String,
        /// Whose.
        user: String,
        /// How many there are.
        have: u64,
        /// How many are needed.
        need: u32,
    },
}

/// The ranges of a user (by name or numeric id) in the text of a file, in its order; lines that make no sense are
/// skipped, as newuidmap does.
pub fn ranges(text: &str, user_name: &str, user_id: u32) -> Vec<Range> {
    let user_id = user_id.to_string();
    let mut found = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [owner, first, count] = fields[..] else { continue };
        if owner.is_empty() || (owner != user_name && owner != user_id) {
            continue;
        }
        let (Ok(first), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>()) else { continue };
        if count > 0 && first.checked_add(count - 1).is_some() {
            found.push(Range { first, count });
        }
    }
    found
}

/// The first `count` ids of some ranges; fewer when there are not as many.
pub fn take(ranges: &[Range], count: u32) -> Vec<u32> {
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    ranges.iter().flat_map(|range| range.first..=range.first + (range.count - 1)).take(wanted).collect()
}

/// One pair of ids a slot, from the two files' texts.
pub fn ids_for_slots(
    subuid: &str,
    subgid: &str,
    user_name: &str,
    user_id: u32,
    slots: u32,
) -> Result<Vec<Ids>, SubordinateError> {
    let pick = |text: &str, path: &str| {
        let ranges = ranges(text, user_name, user_id);
        let ids = take(&ranges, slots);
        if ids.len() < usize::try_from(slots).unwrap_or(usize::MAX) {
            let have = ranges.iter().map(|range| u64::from(range.count)).sum();
            return Err(SubordinateError::TooFew {
                path: path.to_owned(),
                user: user_name.to_owned(),
                have,
                need: slots,
            });
        }
        Ok(ids)
    };
    let users = pick(subuid, "/etc/subuid")?;
    let groups = pick(subgid, "/etc/subgid")?;
    Ok(users.into_iter().zip(groups).map(|(user, group)| Ids { user, group }).collect())
}

/// One pair of ids a slot for a user of this host.
pub fn lookup(user_name: &str, user_id: u32, slots: u32) -> Result<Vec<Ids>, SubordinateError> {
    let subuid = read(Path::new("/etc/subuid"))?;
    let subgid = read(Path::new("/etc/subgid"))?;
    ids_for_slots(&subuid, &subgid, user_name, user_id, slots)
}

fn read(path: &Path) -> Result<String, SubordinateError> {
    use std::io::Read;
    let fail = |source| SubordinateError::Read { path: path.display().to_string(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(fail)?;
    Ok(text)
}

#[cfg(test)]
#[path = "subordinate_tests.rs"]
mod tests;
