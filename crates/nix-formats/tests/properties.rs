//! Properties: round trips, chunks cut anywhere, and nothing that panics on arbitrary bytes; hostile archives by table.
use nix_formats::content_address::ContentAddress;
use nix_formats::derivation;
use nix_formats::hash::{Hash, HashAlgorithm};
use nix_formats::nar::{Encoder, Event, Tokenizer};
use nix_formats::references::Scanner;
use nix_formats::signature::{PublicKey, SecretKey};
use nix_formats::store_path::{StoreDir, StorePath};
use nix_formats::structured::Value;
use nix_formats::{base32, target};
use proptest::prelude::*;

/// An archive with a directory, files, a link and an empty directory.
fn sample(contents: &[u8]) -> Vec<u8> {
    let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
    let size = contents.len() as u64;
    for event in [
        Event::Directory,
        Event::Entry { name: b"a" },
        Event::File { is_executable: true, size },
        Event::Contents(contents),
        Event::FileEnd,
        Event::Entry { name: b"b" },
        Event::Directory,
        Event::DirectoryEnd,
        Event::Entry { name: b"c\xff" },
        Event::Symlink { target: b"../x" },
        Event::DirectoryEnd,
    ] {
        encoder.write(event, &mut bytes);
    }
    bytes
}

/// Reads an archive in chunks of these sizes and writes it again.
fn rewrite(archive: &[u8], chunk_sizes: &[usize]) -> Result<Vec<u8>, String> {
    let (mut tokenizer, mut encoder, mut copy) = (Tokenizer::new(), Encoder::new(), Vec::new());
    let (mut rest, mut sizes) = (archive, chunk_sizes.iter().cycle());
    while !rest.is_empty() {
        let size = sizes.next().copied().unwrap_or(1).clamp(1, rest.len());
        let taken = tokenizer
            .push(&rest[..size], |event| encoder.write(event, &mut copy))
            .map_err(|error| error.to_string())?;
        if taken < size {
            return Err("bytes follow the archive".into());
        }
        rest = &rest[size..];
    }
    tokenizer.finish().map_err(|error| error.to_string())?;
    Ok(copy)
}

proptest! {
    #[test]
    fn archives_cut_anywhere_read_the_same(
        contents in proptest::collection::vec(any::<u8>(), 0..70),
        sizes in proptest::collection::vec(1_usize..40, 1..20),
    ) {
        let archive = sample(&contents);
        prop_assert_eq!(rewrite(&archive, &sizes), Ok(archive));
    }

    #[test]
    fn a_truncated_or_changed_archive_never_reads_as_a_whole_one(cut in 0_usize..600, flip in 0_usize..600) {
        let archive = sample(b"hello");
        if cut < archive.len() {
            prop_assert!(rewrite(&archive[..cut], &[7]).is_err());
        }
        let mut changed = archive.clone();
        let index = flip % archive.len();
        changed[index] ^= 0x41;
        // Either it is refused, or what changed was payload and it is written back as it came.
        if let Ok(copy) = rewrite(&changed, &[64]) {
            prop_assert_eq!(copy, changed);
        }
    }

    #[test]
    fn references_are_found_wherever_chunks_are_cut(
        before in proptest::collection::vec(any::<u8>(), 0..100),
        after in proptest::collection::vec(any::<u8>(), 0..100),
        sizes in proptest::collection::vec(1_usize..50, 1..20),
    ) {
        let path = StorePath::parse_base_name("9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt").expect("a path");
        let other = StorePath::parse_base_name("0p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt").expect("a path");
        let bytes = [&before, path.hash_part().as_bytes(), &after].concat();
        let mut scanner = Scanner::new([path.clone(), other]);
        let (mut rest, mut sizes) = (bytes.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let size = sizes.next().copied().unwrap_or(1).min(rest.len());
            scanner.push(&rest[..size]);
            rest = &rest[size..];
        }
        prop_assert_eq!(scanner.finish().into_iter().collect::<Vec<_>>(), vec![path]);
    }

    #[test]
    fn base_32_there_and_back(bytes in any::<[u8; 20]>()) {
        prop_assert_eq!(base32::decode::<20>(base32::encode(&bytes).as_bytes()), Some(bytes));
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,100}") {
        let store = StoreDir::default();
        let _ = derivation::parse(&bytes, &store);
        let _ = derivation::parse(&[b"Derive([(\"out\",\"".as_slice(), &bytes].concat(), &store);
        let _ = rewrite(&bytes, &[3]);
        let _ = Value::parse(&bytes);
        let _ = (store.parse(&text), StorePath::parse_base_name(&text), store.parse_prefix(&text));
        let _ = (Hash::parse(&text), ContentAddress::parse(&text), target::target_of_name(&text, "x86_64-linux"));
        let _ = (PublicKey::parse(&text), SecretKey::parse(&text));
    }

    #[test]
    fn json_there_and_back(number in any::<f64>(), text in ".{0,40}") {
        prop_assume!(number.is_finite());
        let value = Value::Array(vec![Value::Double(number), Value::String(text)]);
        prop_assert_eq!(Value::parse(&value.to_json()), Ok(value));
    }
}

fn text(value: &[u8]) -> Vec<u8> {
    let mut bytes = (value.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn texts(values: &[&[u8]]) -> Vec<u8> {
    values.iter().flat_map(|value| text(value)).collect()
}

fn directory_of(names: &[&[u8]]) -> Vec<u8> {
    let mut bytes = texts(&[b"nix-archive-1", b"(", b"type", b"directory"]);
    for name in names {
        bytes.extend(texts(&[
            b"entry", b"(", b"name", name, b"node", b"(", b"type", b"symlink", b"target", b"x", b")", b")",
        ]));
    }
    bytes.extend(text(b")"));
    bytes
}

#[test]
fn hostile_archives_are_refused() {
    let long_name = vec![b'n'; 256];
    let deep: Vec<u8> = {
        let mut bytes = texts(&[b"nix-archive-1", b"(", b"type", b"directory"]);
        for _ in 0..70 {
            bytes.extend(texts(&[b"entry", b"(", b"name", b"d", b"node", b"(", b"type", b"directory"]));
        }
        bytes
    };
    let huge_length = [texts(&[b"nix-archive-1"]), u64::MAX.to_le_bytes().to_vec()].concat();
    let mut bad_padding = directory_of(&[b"a"]);
    bad_padding[21] = 1;
    let executable_with_text = texts(&[b"nix-archive-1", b"(", b"type", b"regular", b"executable", b"x"]);
    let table = [
        ("doubled", directory_of(&[b"a", b"a"])),
        ("out of order", directory_of(&[b"b", b"a"])),
        ("dot", directory_of(&[b"."])),
        ("dot dot", directory_of(&[b".."])),
        ("slash", directory_of(&[b"a/b"])),
        ("NUL", directory_of(&[b"a\0b"])),
        ("empty name", directory_of(&[b""])),
        ("long name", directory_of(&[&long_name])),
        (
            "long target",
            texts(&[b"nix-archive-1", b"(", b"type", b"symlink", b"target", &[b't'; 4096], b")"]),
        ),
        ("empty target", texts(&[b"nix-archive-1", b"(", b"type", b"symlink", b"target", b"", b")"])),
        ("too deep", deep),
        ("length bomb", huge_length),
        ("padding", bad_padding),
        ("executable with text", executable_with_text),
        ("device", texts(&[b"nix-archive-1", b"(", b"type", b"device"])),
        ("magic", texts(&[b"nix-archive-2"])),
        ("no contents", texts(&[b"nix-archive-1", b"(", b"type", b"regular", b")"])),
        ("something after it", [directory_of(&[b"a"]), text(b"x")].concat()),
        ("empty", Vec::new()),
    ];
    assert!(rewrite(&directory_of(&[b"a", b"b"]), &[5]).is_ok());
    for (what, archive) in table {
        assert!(rewrite(&archive, &[usize::MAX]).is_err(), "{what}");
    }
}

#[test]
fn hostile_derivations_are_refused() {
    let store = StoreDir::default();
    let good = r#"Derive([("out","","","")],[],[],"x86_64-linux","/bin/sh",[],[("out","")])"#;
    assert!(derivation::parse(good.as_bytes(), &store).is_ok());
    let path = "/nix/store/9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt";
    for (what, text) in [
        ("truncated", good[..good.len() - 1].to_owned()),
        ("text after it", format!("{good} ")),
        ("white space", good.replace("[],[]", "[], []")),
        ("no outputs", good.replace(r#"("out","","","")"#, "")),
        ("doubled variable", good.replace(r#"("out","")]"#, r#"("out",""),("out","")]"#)),
        ("variables out of order", good.replace(r#"("out","")]"#, r#"("out",""),("a","")]"#)),
        ("escape that is not needed", good.replace("/bin/sh", "/bin/\\sh")),
        ("output name", good.replace(r#"("out","","","")"#, r#"("o/t","","","")"#)),
        ("source elsewhere", good.replace("[],[],", r#"[],["/etc/passwd"],"#)),
        ("input that is no derivation", good.replace("[],[],", &format!(r#"[("{path}",["out"])],[],"#))),
        ("dynamic", good.replace("Derive(", r#"DrvWithVersion("xp-dyn-drv","#)),
        (
            "two kinds",
            good.replace(r#"("out","","","")"#, &format!(r#"("dev","{path}","",""),("out","","","")"#)),
        ),
        ("hash", good.replace(r#"("out","","","")"#, &format!(r#"("out","{path}","sha256","00")"#))),
        ("algorithm", good.replace(r#"("out","","","")"#, &format!(r#"("out","{path}","sha3","00")"#))),
    ] {
        assert!(derivation::parse(text.as_bytes(), &store).is_err(), "{what}: {text}");
    }
}

#[test]
fn content_addresses_imply_paths() {
    let store = StoreDir::default();
    let path = StorePath::parse_base_name("9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt").expect("a path");
    let address = ContentAddress::parse("text:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic")
        .expect("parses");
    assert_eq!(address.implied_path(&store, "t.txt", &[], &path), Some(path.clone()));
    assert_ne!(address.implied_path(&store, "u.txt", &[], &path), Some(path.clone()));
    // References are not for files addressed by flat hashes, nor a text that refers to itself.
    assert_eq!(address.implied_path(&store, "t.txt", std::slice::from_ref(&path), &path), None);
    let flat = Hash::new(HashAlgorithm::Sha256, &[1; 32]).map(ContentAddress::Flat).expect("32 bytes");
    assert_eq!(flat.implied_path(&store, "t.txt", std::slice::from_ref(&path), &path), None);
    for text in ["text:sha256:x", "fixed:r:", "fixed:md6:00", "", "text:md5:00000000000000000000000000000000"]
    {
        assert!(ContentAddress::parse(text).is_err(), "{text}");
    }
    assert_eq!(ContentAddress::parse(&flat.to_string()), Ok(flat));
}
