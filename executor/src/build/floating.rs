//! Outputs whose paths follow from their content: hashed modulo what they say of themselves, then rewritten from where they were
//! made to where they belong. Outputs of one derivation refer to each other by their last paths.
use super::outputs::{Examined, Floating, OutputsError, read_flat};
use crate::store::base_name;
use crate::tree::{self, Unpacked};
use model::StorePath;
use nix_archive::nar::Error as NarError;
use nix_formats::content_address::ContentAddress;
use nix_formats::hash::{Hash, HashAlgorithm};
use nix_formats::rewrite::{Rewriter, SelfHasher};
use nix_formats::store_path::{StoreDir, StorePath as BaseName};
use std::io::{self, Write};
use std::path::Path;

/// Gives floating outputs their paths. They come in the order of their references; others stay as they are.
///
/// `workshop` does not exist, and lies beside the outputs.
///
/// # Errors
/// Content that cannot be addressed as the derivation asks, or this executor's own trouble.
pub fn settle(ordered: Vec<Examined>, workshop: &Path) -> Result<Vec<Examined>, OutputsError> {
    let mut settled: Vec<Examined> = Vec::with_capacity(ordered.len());
    for output in ordered {
        let output = match output.expected.floating {
            Some(floating) => settle_one(output, floating, &settled, workshop)?,
            None => output,
        };
        settled.push(output);
    }
    Ok(settled)
}

/// An output's temporary path and its last one.
type Moved = (BaseName, BaseName);

fn settle_one(
    mut output: Examined,
    floating: Floating,
    earlier: &[Examined],
    workshop: &Path,
) -> Result<Examined, OutputsError> {
    let temporary = output.expected.path.clone();
    if !floating.is_recursive {
        // Before anything is rewritten: whether it is a plain file at all.
        read_flat(&output.tree, &temporary, &mut |_| {})?;
    }
    let moved: Vec<&Examined> = earlier
        .iter()
        .filter(|other| {
            output.expected.discard_references || output.references.contains(&other.expected.path)
        })
        .collect();
    let pairs = moved.iter().map(|other| pair(&other.expected.path, &other.path));
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    if !pairs.is_empty() {
        rewrite(&mut output, &pairs, workshop)?;
        for reference in &mut output.references {
            if let Some(other) = moved.iter().find(|other| other.expected.path == *reference) {
                *reference = other.path.clone();
            }
        }
    }
    let (hash, self_references) = self_hash(&output, floating)?;
    let path = address(&mut output, floating, hash)?;
    if self_references > 0 {
        rewrite(&mut output, &[pair(&temporary, &path)?], workshop)?;
    }
    output.references.iter_mut().filter(|path| **path == temporary).for_each(|own| *own = path.clone());
    output.references.sort();
    output.path = path;
    Ok(output)
}

fn pair(from: &StorePath, to: &StorePath) -> Result<Moved, OutputsError> {
    Ok((parsed(from)?, parsed(to)?))
}

fn parsed(path: &StorePath) -> Result<BaseName, OutputsError> {
    BaseName::parse_base_name(base_name(path)).map_err(|error| OutputsError::Rejected(error.to_string()))
}

/// The hash of an output's content modulo its own temporary name, and how often it says that name.
fn self_hash(output: &Examined, floating: Floating) -> Result<(Hash, u64), OutputsError> {
    let mut hasher = SelfHasher::new(floating.algorithm, &parsed(&output.expected.path)?);
    if floating.is_recursive {
        tree::dump(&output.tree, &mut |chunk| {
            hasher.push(chunk);
            Ok(())
        })?;
    } else {
        read_flat(&output.tree, &output.expected.path, &mut |chunk| hasher.push(chunk))?;
    }
    Ok(hasher.finish())
}

/// The path that a content hash and the references give; notes the content address.
fn address(output: &mut Examined, floating: Floating, hash: Hash) -> Result<StorePath, OutputsError> {
    let may_refer = floating.is_recursive && floating.algorithm == HashAlgorithm::Sha256;
    let temporary = parsed(&output.expected.path)?;
    if !may_refer && !output.references.is_empty() {
        return Err(OutputsError::Rejected(format!(
            "fixed output derivation '{}' is not allowed to refer to other store paths.\nYou may need to use the \
             'unsafeDiscardReferences' derivation attribute, see the manual for more details.",
            temporary.name()
        )));
    }
    let content_address =
        if floating.is_recursive { ContentAddress::Recursive(hash) } else { ContentAddress::Flat(hash) };
    let references = output.references.iter().map(parsed).collect::<Result<Vec<_>, _>>()?;
    let store = StoreDir::default();
    let path = content_address.implied_path(&store, temporary.name(), &references, &temporary);
    let path = path.ok_or_else(|| {
        OutputsError::Rejected(format!("output path '{}' has illegal content address", output.expected.path))
    })?;
    output.content_address = Some(content_address);
    Ok(StorePath::from_validated(&store.display(&path)))
}

/// Replaces hash parts in a whole tree: names of files, targets of symlinks, contents.
fn rewrite(output: &mut Examined, pairs: &[Moved], workshop: &Path) -> Result<(), OutputsError> {
    std::fs::create_dir_all(workshop)
        .map_err(|source| OutputsError::Read { path: output.expected.path.clone(), source })?;
    let copy = workshop.join(base_name(&output.expected.path));
    let Unpacked { nar_sha256, nar_size } = copy_rewritten(&output.tree, &copy, pairs, output.nar_size)?;
    tree::remove(&output.tree)?;
    tree::place(&copy, &output.tree)?;
    (output.nar_sha256, output.nar_size) = (nar_sha256, nar_size);
    Ok(())
}

/// One thread reads, this one writes; between them is a pipe, so that memory stays bounded.
fn copy_rewritten(from: &Path, to: &Path, pairs: &[Moved], nar_size: u64) -> Result<Unpacked, OutputsError> {
    let (mut reader, mut writer) =
        io::pipe().map_err(|source| tree::TreeError::Sink { path: from.to_owned(), source })?;
    let mut rewriter = Rewriter::new(pairs.iter().map(|(from, to)| (from, to)));
    std::thread::scope(|scope| {
        let read = scope.spawn(move || {
            let mut written = Ok(());
            tree::dump(from, &mut |chunk| {
                let mut write = |bytes: &[u8]| {
                    if written.is_ok() {
                        written = writer.write_all(bytes);
                    }
                };
                rewriter.push(chunk, &mut write, &mut |_| {});
                std::mem::replace(&mut written, Ok(()))
            })?;
            let mut last = Ok(());
            rewriter.finish(&mut |bytes| last = writer.write_all(bytes));
            last.map_err(|source| tree::TreeError::Sink { path: from.to_owned(), source })
        });
        let unpacked = tree::unpack(&mut reader, nar_size, to);
        // Whoever still writes must not wait for a reader that has given up.
        drop(reader);
        let read = read.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (unpacked, read) {
            // Names with hash parts in them come in another order now. Nix refuses that as well.
            (Err(tree::TreeError::Malformed { source, .. }), _) if !matches!(source, NarError::Io(_)) => {
                tracing::info!(%source, "rewritten into another order");
                Err(OutputsError::Rejected("bad archive: NAR directory is not sorted".into()))
            }
            (unpacked, read) => {
                let unpacked = unpacked?;
                read?;
                Ok(unpacked)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::outputs::{Expected, examine};
    use super::super::verdict;
    use super::*;
    use nix_formats::hash::hex;
    use nix_formats::resolve::temporary_path;
    use std::fs;

    /// As real Nix 2.34 built it: `dev` is "$dev", `out` is "a $dev $out".
    const DERIVATION: &str = "lslid2f310qsxdqh9m887cx7rvlj88aj-multi.drv";
    /// Path and NAR hash of each.
    const EXPECTED: [(&str, &str, &str); 2] = [
        (
            "dev",
            "a6kdkm8wifbk0xm05626d75gic14fndx-multi-dev",
            "dde0e12a454e82ce6fbeff561d112c244cd22567b4330d9ecde1b8716512ab9b",
        ),
        (
            "out",
            "gr9yvfwswwifq07mwd1ibgwbyh4vgdpp-multi",
            "dc0b363bde729ff56e3d7cce18d26480e537373c8d0b4f1aaa9be780112386bb",
        ),
    ];

    fn full(path: &BaseName) -> StorePath {
        StorePath::from_validated(&StoreDir::default().display(path))
    }

    struct Build {
        directory: tempfile::TempDir,
        expected: Vec<Expected>,
    }

    impl Build {
        fn new(derivation: &str, outputs: &[&str], floating: Floating) -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("store")).unwrap();
            let derivation = BaseName::parse_base_name(derivation).unwrap();
            let expected = |name: &&str| Expected {
                name: (*name).to_owned(),
                path: full(&temporary_path(&StoreDir::default(), &derivation, name).unwrap()),
                fixed: None,
                floating: Some(floating),
                discard_references: false,
            };
            Self { expected: outputs.iter().map(expected).collect(), directory }
        }

        fn path(&self, output: usize) -> &str {
            self.expected[output].path.as_str()
        }

        fn tree(&self, output: usize) -> std::path::PathBuf {
            self.directory.path().join("store").join(base_name(&self.expected[output].path))
        }

        fn settle(&self) -> Result<Vec<Examined>, OutputsError> {
            let owner = rustix::process::geteuid().as_raw();
            let paths = self.expected.iter().map(|expected| parsed(&expected.path).unwrap());
            let candidates: Vec<_> = paths.collect();
            let derivation = StorePath::from_validated("/nix/store/x.drv");
            let store = self.directory.path().join("store");
            let examined = examine(&derivation, &self.expected, &candidates, &store, owner)?;
            settle(
                verdict::in_order(&derivation, examined).unwrap(),
                &self.directory.path().join("rewritten"),
            )
        }
    }

    const NAR: Floating = Floating { is_recursive: true, algorithm: HashAlgorithm::Sha256 };

    #[test]
    fn outputs_that_refer_to_each_other_and_themselves_are_nixs() {
        let build = Build::new(DERIVATION, &["dev", "out"], NAR);
        fs::write(build.tree(0), format!("{}\n", build.path(0))).unwrap();
        fs::write(build.tree(1), format!("a {} {}\n", build.path(0), build.path(1))).unwrap();
        let settled = build.settle().unwrap();
        for (output, (name, path, nar_sha256)) in settled.iter().zip(EXPECTED) {
            assert_eq!((output.expected.name.as_str(), base_name(&output.path)), (name, path));
            assert_eq!(hex(&output.nar_sha256), nar_sha256);
            assert!(output.references.contains(&output.path), "{output:?}");
        }
        assert_eq!(settled[1].references.len(), 2);
        let text = fs::read_to_string(&settled[1].tree).unwrap();
        assert_eq!(text, format!("a {} {}\n", settled[0].path, settled[1].path));
    }

    #[test]
    fn names_and_targets_are_rewritten_and_a_large_file_too() {
        let build = Build::new(DERIVATION, &["out"], NAR);
        let (tree, own) = (build.tree(0), build.path(0));
        let hash_part = own["/nix/store/".len()..][..32].to_owned();
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join(format!("x-{hash_part}-y")), "").unwrap();
        std::os::unix::fs::symlink(format!("{own}/a"), tree.join("link")).unwrap();
        // Over the borders of whatever chunks there are.
        let large = format!("{}{own}", " ".repeat(100_001)).repeat(40);
        fs::write(tree.join("large"), &large).unwrap();
        let output = build.settle().unwrap().remove(0);
        let last = output.path.as_str();
        assert_eq!(fs::read_to_string(tree.join("large")).unwrap(), large.replace(own, last));
        assert_eq!(fs::read_link(tree.join("link")).unwrap(), Path::new(&format!("{last}/a")));
        let last_part = &last["/nix/store/".len()..][..32];
        assert!(tree.join(format!("x-{last_part}-y")).exists());
        let mut hash = sha2::Sha256::default();
        tree::dump(&tree, &mut |chunk| {
            sha2::Digest::update(&mut hash, chunk);
            Ok(())
        })
        .unwrap();
        assert_eq!(output.nar_sha256, <[u8; 32]>::from(sha2::Digest::finalize(hash)));
        // What it says of itself now gives the path that it has.
        let address = output.content_address.unwrap();
        let own = parsed(&output.path).unwrap();
        let implied =
            address.implied_path(&StoreDir::default(), own.name(), std::slice::from_ref(&own), &own);
        assert_eq!(implied, Some(own));
    }

    #[test]
    fn what_cannot_be_addressed_is_refused() {
        let flat = Floating { is_recursive: false, algorithm: HashAlgorithm::Sha256 };
        let sha512 = Floating { is_recursive: true, algorithm: HashAlgorithm::Sha512 };
        for floating in [flat, sha512] {
            let build = Build::new(DERIVATION, &["out"], floating);
            fs::write(build.tree(0), build.path(0)).unwrap();
            let error = build.settle().unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("fixed output derivation 'multi' is not allowed to refer"), "{text}");
            assert_eq!(error.class(), model::FailureClass::OutputRejected);
        }
        let build = Build::new(DERIVATION, &["out"], flat);
        fs::create_dir(build.tree(0)).unwrap();
        assert!(matches!(build.settle(), Err(OutputsError::NotFlat(_))));
        let build = Build::new(DERIVATION, &["out"], flat);
        fs::write(build.tree(0), "hello").unwrap();
        let address = build.settle().unwrap().remove(0).content_address.unwrap();
        assert_eq!(address.to_string(), "fixed:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic");
    }
}
