//! Results on disk until the coordinator has acknowledged them: one file each, what the lease is for and the message.
use super::messages;
use crate::lease::{Finished, LeaseKey, Subject};
use crate::store::write_whole;
use prost::Message;
use proto::v1;
use std::io;
use std::path::{Path, PathBuf};

/// Largest result that is read back, in bytes.
const RESULT_BYTES_MAX: u64 = 64 << 20;

/// The directory of results.
#[derive(Debug)]
pub struct Results {
    directory: PathBuf,
}

impl Results {
    /// Opens or creates the directory; returns the results in it with what they are of. Damaged ones are removed.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn open(directory: &Path) -> io::Result<(Self, Vec<(LeaseKey, Subject)>)> {
        std::fs::create_dir_all(directory)?;
        let results = Self { directory: directory.to_owned() };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            match read(&path) {
                Some((key, subject, _)) if results.path(key) == path => found.push((key, subject)),
                _ => std::fs::remove_file(&path)?,
            }
        }
        Ok((results, found))
    }

    /// Keeps a result; once this returns it survives the process.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn keep(&self, finished: &Finished) -> io::Result<()> {
        let lease = messages::running_lease(finished.key, Some(&finished.subject));
        let mut bytes = lease.encode_length_delimited_to_vec();
        bytes.extend(messages::report(finished).encode_to_vec());
        write_whole(&self.path(finished.key), &bytes)
    }

    /// The message of a kept result.
    pub fn report(&self, key: LeaseKey) -> Option<v1::Report> {
        read(&self.path(key)).map(|(_, _, report)| report)
    }

    /// Drops an acknowledged result.
    pub fn remove(&self, key: LeaseKey) {
        let _ = std::fs::remove_file(self.path(key));
    }

    fn path(&self, key: LeaseKey) -> PathBuf {
        self.directory.join(format!("{key}.result"))
    }
}

fn read(path: &Path) -> Option<(LeaseKey, Subject, v1::Report)> {
    if std::fs::metadata(path).ok()?.len() > RESULT_BYTES_MAX {
        return None;
    }
    let contents = bytes::Bytes::from(std::fs::read(path).ok()?);
    let mut rest = contents;
    let lease = v1::RunningLease::decode_length_delimited(&mut rest).ok()?;
    let (key, subject) = messages::subject(lease).ok()?;
    Some((key, subject, v1::Report::decode(rest).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Times;
    use model::{ContentId, Epoch, FailureClass, LeaseId, Outcome, Platform, StorePath, System, TrustDomain};

    fn finished(id: u64) -> Finished {
        let path = StorePath::from_validated("/nix/store/w51084ksv60sy0fkcb9hz4rxv8rv2avb-one.drv");
        Finished {
            key: LeaseKey { id: LeaseId(id), epoch: Epoch(3) },
            subject: Subject {
                derivation: ContentId { domain: TrustDomain::Board("one".into()), path },
                platform: Some(Platform::Native(System("x86_64-linux".into()))),
            },
            outcome: Outcome::Failed(crate::build::failure::failure(FailureClass::BuildFailed, "no")),
            times: Times { build_ms: 5, ..Times::default() },
        }
    }

    #[test]
    fn results_survive_a_restart_until_they_are_removed_and_damage_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let (results, found) = Results::open(directory.path()).unwrap();
        assert!(found.is_empty());
        for id in [1, 2] {
            results.keep(&finished(id)).unwrap();
        }
        std::fs::write(directory.path().join("9-9.result"), "junk").unwrap();
        let (results, mut found) = Results::open(directory.path()).unwrap();
        found.sort_by_key(|(key, _)| *key);
        let expected: Vec<_> = [1, 2].map(|id| (finished(id).key, finished(id).subject)).into();
        assert_eq!(found, expected);
        assert_eq!(results.report(finished(1).key), Some(messages::report(&finished(1))));
        results.remove(finished(1).key);
        let (_, found) = Results::open(directory.path()).unwrap();
        assert_eq!(found.len(), 1);
    }
}
