//! Known archives of Nix, hostile trees, canonical metadata, removal of what a build may leave.
use super::*;
use sha2::{Digest, Sha256};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn own_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn dumped(path: &Path) -> Result<Vec<u8>, TreeError> {
    let mut bytes = Vec::new();
    let size = dump(path, &mut |chunk| {
        assert!(chunk.len() <= CHUNK_BYTES);
        bytes.extend_from_slice(chunk);
        Ok(())
    })?;
    assert_eq!(size, bytes.len() as u64);
    Ok(bytes)
}

type Make = fn(&Path);

/// Sizes and hashes that `nix-store --dump` of real Nix gives.
#[test]
fn dumps_are_those_of_nix() {
    let cases: [(&str, Make, usize, &str); 4] = [
        (
            "file",
            |path| fs::write(path, "hello").unwrap(),
            120,
            "0a430879c266f8b57f4092a0f935cf3facd48bbccde5760d4748ca405171e969",
        ),
        (
            "executable",
            |path| {
                fs::write(path, "#!/bin/sh\n").unwrap();
                fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
            },
            160,
            "6283c1668260f903d1a895c0cd6b822fa4b68762bb0b17cedef2d39d97e26554",
        ),
        (
            "empty directory",
            |path| fs::create_dir(path).unwrap(),
            96,
            "a50a5ab6d992f5598edd92105059fae9acfc192981e08bd88534c2167e92526a",
        ),
        (
            "directory",
            |path| {
                fs::create_dir(path).unwrap();
                fs::write(path.join("a"), "x").unwrap();
                symlink("a", path.join("b")).unwrap();
            },
            480,
            "ee2df35a339f47f9d984099f5aaf80eed4800fb8e0f4e628dff6d000fe2d47f2",
        ),
    ];
    for (name, make, size, hash) in cases {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        make(&tree);
        let bytes = dumped(&tree).unwrap();
        assert_eq!((bytes.len(), hex(&Sha256::digest(&bytes)).as_str()), (size, hash), "{name}");

        let copy = directory.path().join("copy");
        let unpacked = unpack(&mut bytes.as_slice(), size as u64, &copy).unwrap();
        assert_eq!((unpacked.nar_size, hex(&unpacked.nar_sha256).as_str()), (size as u64, hash), "{name}");
        assert_eq!(dumped(&copy).unwrap(), bytes, "{name}: unpacked and dumped again");
    }
}

/// A tree with contents longer than a chunk, odd names and every canonical mode.
fn rich_tree(tree: &Path) {
    fs::create_dir_all(tree.join("d/e")).unwrap();
    fs::write(tree.join("d/long"), vec![7; CHUNK_BYTES * 2 + 13]).unwrap();
    fs::write(tree.join("new\nline"), "").unwrap();
    fs::write(tree.join("run"), "#!").unwrap();
    fs::set_permissions(tree.join("run"), Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(tree.join("new\nline"), Permissions::from_mode(0o000)).unwrap();
    symlink("nowhere", tree.join("link")).unwrap();
    fs::hard_link(tree.join("run"), tree.join("d/again")).unwrap();
    fs::set_permissions(tree.join("d/e"), Permissions::from_mode(0o1000)).unwrap();
}

fn modes_and_times(tree: &Path, names: &[&str]) -> Vec<(u32, i64)> {
    let status = |name: &&str| fs::symlink_metadata(tree.join(name)).unwrap();
    names.iter().map(|name| (status(name).mode() & 0o7777, status(name).mtime())).collect()
}

#[test]
fn metadata_becomes_canonical_in_place_and_by_unpacking() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    rich_tree(&tree);
    canonicalise(&tree, own_id()).unwrap();
    let names = ["", "d", "d/e", "d/long", "new\nline", "run", "d/again", "link"];
    let expected = [0o555, 0o555, 0o555, 0o444, 0o444, 0o555, 0o555, 0o777].map(|mode| (mode, 1));
    assert_eq!(modes_and_times(&tree, &names), expected);

    let bytes = dumped(&tree).unwrap();
    let copy = directory.path().join("copy");
    unpack(&mut bytes.as_slice(), u64::MAX, &copy).unwrap();
    let placed = directory.path().join("placed");
    place(&copy, &placed).unwrap();
    assert_eq!(modes_and_times(&placed, &names), expected);
    assert_eq!(dumped(&placed).unwrap(), bytes);
    assert!(!copy.exists());
}

#[test]
fn extended_attributes_go_away() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    let set = rustix::fs::setxattr(&file, "user.note", b"secret", rustix::fs::XattrFlags::empty());
    assert_eq!(set, Ok(()), "the file system of the temporary directory must carry user attributes");
    canonicalise(&file, own_id()).unwrap();
    assert_eq!(rustix::fs::listxattr(&file, &mut [0u8; 256][..]), Ok(0));
}

/// What an output must not contain, and what is said about it.
#[test]
fn trees_that_a_nar_cannot_carry_are_refused() {
    fn nested(path: &Path, levels: usize, leaf: bool) {
        let deepest = (1..levels).fold(path.to_owned(), |path, _| path.join("d"));
        fs::create_dir_all(&deepest).unwrap();
        if leaf {
            fs::write(deepest.join("f"), "").unwrap();
        }
    }
    let cases: [(&str, Make, Option<&str>); 5] = [
        ("63 levels and a file", |path| nested(path, 63, true), None),
        ("64 levels", |path| nested(path, 64, false), None),
        (
            "64 levels and a file",
            |path| nested(path, 64, true),
            Some("/f' exceeds maximum NAR directory depth of 64"),
        ),
        (
            "FIFO",
            |path| {
                fs::create_dir(path).unwrap();
                let made = rustix::fs::mknodat(
                    rustix::fs::CWD,
                    path.join("p"),
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RUSR,
                    0,
                );
                made.unwrap();
            },
            Some("/p\" has an unsupported type"),
        ),
        (
            "socket",
            |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
            Some("has an unsupported type"),
        ),
    ];
    for (name, make, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("t");
        make(&tree);
        for result in [dumped(&tree).map(drop), canonicalise(&tree, own_id())] {
            match (result, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(text)) => {
                    assert!(error.to_string().contains(text), "{name}: {error}");
                    assert!(error.is_rejection(), "{name}");
                }
                (result, _) => panic!("{name}: {result:?}, expected {expected:?}"),
            }
        }
    }
}

#[test]
fn foreign_owners_and_open_tops_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(canonicalise(&file, own_id() + 1), Err(TreeError::InvalidOwnership(_))));
    let cases =
        [(0o644, 0, true), (0o664, 0, false), (0o646, 0, false), (0o644, 1, false), (0o4755, 0, true)];
    for (mode, other, accepted) in cases {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let result = check_top_level(&file, "out", own_id() + other);
        assert_eq!(result.is_ok(), accepted, "{mode:o} {other}: {result:?}");
    }
    let link = directory.path().join("link");
    symlink("file", &link).unwrap();
    check_top_level(&link, "out", own_id()).unwrap();
}

/// Archives that must not be unpacked; nothing may appear outside the destination.
#[test]
fn hostile_archives_are_refused() {
    fn archive(tokens: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for token in [b"nix-archive-1".as_slice()].iter().chain(tokens) {
            bytes.extend_from_slice(&(token.len() as u64).to_le_bytes());
            bytes.extend_from_slice(token);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes
    }
    fn directory_with(name: &[u8]) -> Vec<&[u8]> {
        let mut tokens: Vec<&[u8]> =
            vec![b"(", b"type", b"directory", b"entry", b"(", b"name", name, b"node"];
        tokens.extend([b"(".as_slice(), b"type", b"regular", b"contents", b"x", b")", b")", b")"]);
        tokens
    }
    let long_name = [b'n'; 256];
    let long_target = [b't'; 4096];
    let whole = archive(&directory_with(b"f"));
    let cases: Vec<(&str, Vec<u8>, u64)> = vec![
        ("parent", archive(&directory_with(b"..")), 1 << 20),
        ("slash", archive(&directory_with(b"a/b")), 1 << 20),
        ("empty name", archive(&directory_with(b"")), 1 << 20),
        ("long name", archive(&directory_with(&long_name)), 1 << 20),
        ("long target", archive(&[b"(", b"type", b"symlink", b"target", &long_target, b")"]), 1 << 20),
        ("truncated", whole[..whole.len() - 8].to_vec(), 1 << 20),
        ("trailing", [whole.as_slice(), &[0; 8]].concat(), 1 << 20),
        ("longer than said", whole.clone(), whole.len() as u64 - 1),
    ];
    for (name, bytes, size_max) in cases {
        let directory = tempfile::tempdir().unwrap();
        let result = unpack(&mut bytes.as_slice(), size_max, &directory.path().join("t"));
        assert!(result.is_err(), "{name}: {result:?}");
        let left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|entry| entry == "t"), "{name}: {left:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    unpack(&mut whole.as_slice(), whole.len() as u64, &directory.path().join("t")).unwrap();
}

#[test]
fn trees_of_any_depth_and_mode_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path().join("top");
    fs::create_dir(&top).unwrap();
    rich_tree(&top.join("rich"));
    // Deeper than PATH_MAX and than any stack of descriptors: built from the inside out.
    let mut chain = top.join("chain");
    fs::create_dir(&chain).unwrap();
    for level in 0..3000 {
        let outer = top.join(format!("chain{level}"));
        fs::create_dir(&outer).unwrap();
        fs::rename(&chain, outer.join("d")).unwrap();
        chain = outer;
    }
    symlink("/", top.join("root")).unwrap();
    fs::set_permissions(&top, Permissions::from_mode(0o0)).unwrap();
    remove(&top).unwrap();
    assert!(!top.exists());
    remove(&top).unwrap();
}
