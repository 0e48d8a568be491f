//! The contract of a content store, kept by every backend; and what the one on disk leaves there.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]
use bytes::Bytes;
use cas::{
    Announced, BlobId, CasError, Chunks, ContentStore, DiskStore, Domain, MemoryStore, Stored, Upload,
};
use nix_formats::content_address::ContentAddress;
use nix_formats::hash::{Hash, HashAlgorithm, Hasher, sha256};
use nix_formats::nar::{Encoder, Event};
use nix_formats::store_path::{StoreDir, StorePath};
use std::fs;
use std::path::Path;
use std::sync::Arc;

const NAME: &str = "9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt";

fn id(domain: &str) -> BlobId {
    BlobId { domain: Domain::parse(domain).unwrap(), path: StorePath::parse_base_name(NAME).unwrap() }
}

fn nar(events: &[Event<'_>]) -> Vec<u8> {
    let (mut encoder, mut buffer) = (Encoder::new(), Vec::new());
    events.iter().for_each(|event| encoder.write(*event, &mut buffer));
    buffer
}

fn file(contents: &[u8], is_executable: bool) -> Vec<u8> {
    let size = contents.len() as u64;
    nar(&[Event::File { is_executable, size }, Event::Contents(contents), Event::FileEnd])
}

fn announced(nar: &[u8]) -> Announced {
    let nar_size = nar.len() as u64;
    Announced { nar_sha256: sha256(nar), nar_size, content_address: None, refers_to_itself: false }
}

fn add(
    store: &dyn ContentStore,
    id: &BlobId,
    announced: Announced,
    nar: &[u8],
    chunk: usize,
) -> Result<Stored, CasError> {
    let mut writer = store.begin(id, announced)?;
    for chunk in nar.chunks(chunk) {
        writer.write(chunk)?;
        assert_eq!(store.get(id), None, "visible before it is complete");
    }
    writer.commit()
}

fn read(store: &dyn ContentStore, id: &BlobId, mut offset: u64, chunk: usize) -> Vec<u8> {
    let mut reader = store.open(id).unwrap();
    let (mut all, mut buffer) = (Vec::new(), vec![0; chunk]);
    loop {
        let count = reader.read_at(offset, &mut buffer).unwrap();
        if count == 0 {
            return all;
        }
        all.extend_from_slice(&buffer[..count]);
        offset += count as u64;
    }
}

/// Runs a check on an empty store of each kind.
fn on_every_backend(check: impl Fn(Arc<dyn ContentStore>)) {
    check(Arc::new(MemoryStore::default()));
    let directory = tempfile::tempdir().unwrap();
    check(Arc::new(DiskStore::open(directory.path()).unwrap()));
}

#[test]
fn what_was_written_is_read_from_any_offset_in_any_chunks() {
    on_every_backend(|store| {
        let nar = file(&b"0123456789".repeat(1000), false);
        for (domain, chunk) in [("shared", 1), ("board:a", 4096), ("board:b", usize::MAX)] {
            let id = id(domain);
            assert!(matches!(store.open(&id), Err(CasError::NotHeld { .. })));
            let stored = add(&*store, &id, announced(&nar), &nar, chunk).unwrap();
            assert_eq!(stored, Stored { nar_sha256: sha256(&nar), nar_size: nar.len() as u64 });
            assert_eq!(store.get(&id), Some(stored));
            for (offset, chunk) in [(0, 7), (1, 4096), (5000, 100_000), (nar.len(), 10), (nar.len() + 9, 10)]
            {
                let expected = &nar[offset.min(nar.len())..];
                assert_eq!(read(&*store, &id, offset as u64, chunk), expected, "from {offset}");
            }
        }
        assert_eq!(store.ids().len(), 3);
    });
}

#[test]
fn wrong_content_is_refused_and_leaves_nothing() {
    type Wrong = fn(&CasError) -> bool;
    let right = file(b"hello", false);
    let longer = [&right[..], &[0; 8]].concat();
    let cases: [(&str, Announced, &[u8], Wrong); 7] = [
        ("truncated", announced(&right), &right[..right.len() - 8], |error| {
            matches!(error, CasError::Truncated { came: 112, nar_size: 120, .. })
        }),
        ("empty", announced(&right), &[], |error| matches!(error, CasError::Truncated { came: 0, .. })),
        ("oversized", announced(&right), &longer, |error| matches!(error, CasError::Oversized { .. })),
        ("oversized and announced", announced(&longer), &longer, |error| {
            matches!(error, CasError::Malformed { .. })
        }),
        ("cut off and announced", announced(&right[..112]), &right[..112], |error| {
            matches!(error, CasError::Malformed { .. })
        }),
        (
            "another hash",
            Announced { nar_sha256: [7; 32], ..announced(&right) },
            &right,
            |error| matches!(error, CasError::WrongHash { announced, .. } if *announced == [7; 32]),
        ),
        ("larger than anything", Announced { nar_size: u64::MAX, ..announced(&right) }, &right, |error| {
            matches!(error, CasError::TooLarge { .. })
        }),
    ];
    on_every_backend(|store| {
        for (name, announced, bytes, is_expected) in &cases {
            for chunk in [1, 9, 4096] {
                let error = add(&*store, &id("shared"), announced.clone(), bytes, chunk).unwrap_err();
                assert!(is_expected(&error) && error.is_wrong_content(), "{name}: {error:?}");
                assert_eq!(store.ids(), [], "{name}");
            }
        }
        assert!(add(&*store, &id("shared"), announced(&right), &right, 9).is_ok(), "it can still come right");
    });
}

#[test]
fn a_session_that_failed_is_over() {
    on_every_backend(|store| {
        let right = file(b"hello", false);
        let mut writer = store.begin(&id("shared"), announced(&right)).unwrap();
        assert!(matches!(
            writer.write(b"nonsense").and(writer.write(b"nonsense")),
            Err(CasError::Malformed { .. })
        ));
        assert!(matches!(writer.write(&right), Err(CasError::Over { .. })));
        assert!(matches!(writer.commit(), Err(CasError::Over { .. })));
        drop(store.begin(&id("shared"), announced(&right)).unwrap());
        assert_eq!(store.ids(), []);
    });
}

#[test]
fn the_same_content_may_come_twice_other_content_never_replaces_it() {
    on_every_backend(|store| {
        let (first, other) = (file(b"hello", false), file(b"other", false));
        let mut writers =
            [&first, &first, &other].map(|nar| store.begin(&id("shared"), announced(nar)).unwrap());
        writers.iter_mut().zip([&first, &first, &other]).for_each(|(writer, nar)| writer.write(nar).unwrap());
        let results = writers.map(cas::Writer::commit);
        let [Ok(one), Ok(two), Err(CasError::Conflict { held, came, .. })] = results else {
            panic!("{results:?}")
        };
        assert_eq!((one, held, came), (two, sha256(&first), sha256(&other)));
        assert_eq!(read(&*store, &id("shared"), 0, 999), first);
    });
}

#[test]
fn sharing_makes_it_visible_elsewhere_and_nowhere_else() {
    on_every_backend(|store| {
        let (nar, other) = (file(b"hello", false), file(b"other", false));
        assert!(matches!(store.share(&id("board:a"), &id("shared")), Err(CasError::NotHeld { .. })));
        let stored = add(&*store, &id("board:a"), announced(&nar), &nar, 99).unwrap();
        assert_eq!(store.get(&id("shared")), None);
        for _ in 0..2 {
            assert_eq!(store.share(&id("board:a"), &id("shared")).unwrap(), stored);
        }
        assert_eq!(read(&*store, &id("shared"), 0, 999), nar);
        assert_eq!(store.get(&id("board:b")), None);
        add(&*store, &id("board:b"), announced(&other), &other, 99).unwrap();
        assert!(matches!(store.share(&id("board:b"), &id("shared")), Err(CasError::Conflict { .. })));
        assert_eq!(read(&*store, &id("shared"), 0, 999), nar);
    });
}

#[test]
fn what_was_removed_is_gone_and_readers_still_finish() {
    on_every_backend(|store| {
        let (nar, other) = (file(b"hello", false), file(b"other", false));
        assert!(!store.remove(&id("shared")).unwrap());
        add(&*store, &id("shared"), announced(&nar), &nar, 99).unwrap();
        add(&*store, &id("board:a"), announced(&nar), &nar, 99).unwrap();
        let mut reader = store.open(&id("shared")).unwrap();
        assert!(store.remove(&id("shared")).unwrap());
        assert_eq!(store.ids(), [id("board:a")]);
        let mut buffer = vec![0; nar.len()];
        assert_eq!((reader.read_at(0, &mut buffer).unwrap(), &buffer), (nar.len(), &nar));
        add(&*store, &id("shared"), announced(&other), &other, 99).unwrap();
        assert_eq!(read(&*store, &id("shared"), 0, 999), other);
        assert_eq!(read(&*store, &id("board:a"), 0, 999), nar);
    });
}

fn hashed(algorithm: HashAlgorithm, bytes: &[u8]) -> Hash {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

#[test]
fn a_content_address_is_checked_over_the_bytes() {
    use HashAlgorithm::{Md5, Sha1, Sha256, Sha512};
    let (plain, program) = (file(b"hello", false), file(b"hello", true));
    let tree = nar(&[
        Event::Directory,
        Event::Entry { name: b"l" },
        Event::Symlink { target: b"x" },
        Event::DirectoryEnd,
    ]);
    let mut cases = vec![
        (ContentAddress::Text(sha256(b"hello")), &plain, true),
        (ContentAddress::Text(sha256(b"hellp")), &plain, false),
        (ContentAddress::Text(sha256(b"hello")), &program, false),
        (ContentAddress::Text(sha256(b"")), &tree, false),
        (ContentAddress::Recursive(hashed(Sha256, &plain)), &program, false),
    ];
    for algorithm in [Md5, Sha1, Sha256, Sha512] {
        cases.push((ContentAddress::Flat(hashed(algorithm, b"hello")), &plain, true));
        cases.push((ContentAddress::Flat(hashed(algorithm, b"hellp")), &plain, false));
        cases.push((ContentAddress::Flat(hashed(algorithm, b"hello")), &program, false));
        cases.push((ContentAddress::Recursive(hashed(algorithm, &tree)), &tree, true));
        cases.push((ContentAddress::Recursive(hashed(algorithm, b"hello")), &plain, false));
    }
    for (claimed, nar, is_right) in cases {
        on_every_backend(|store| {
            let announced = Announced { content_address: Some(claimed.clone()), ..announced(nar) };
            let result = add(&*store, &id("shared"), announced, nar, 13);
            assert_eq!(result.is_ok(), is_right, "{claimed}: {result:?}");
            assert!(
                is_right || matches!(result, Err(CasError::WrongAddress { .. })),
                "{claimed}: {result:?}"
            );
            assert_eq!(store.ids().len(), usize::from(is_right));
        });
    }
}

/// As real Nix computed it for content that names itself: the known answer of the formats' reference.
#[test]
fn content_that_names_itself_is_hashed_without_its_own_hash_part() {
    let contents = |own: &str| format!("I am /nix/store/{own}-self, twice: {own}\n");
    let blank = "0".repeat(32);
    // The hash by the rule: zero bytes for the hash part, then `|offset` for each.
    let template = file(contents(&blank).as_bytes(), false);
    let at: Vec<usize> =
        (0..template.len() - 31).filter(|&at| template[at..at + 32] == *blank.as_bytes()).collect();
    assert_eq!(at.len(), 2);
    let mut hashed_text = template.clone();
    at.iter().for_each(|&at| hashed_text[at..at + 32].fill(0));
    at.iter().for_each(|at| hashed_text.extend_from_slice(format!("|{at}").as_bytes()));
    let digest = sha256(&hashed_text);
    let store_dir = StoreDir::default();
    let path = store_dir.source_path("self", &digest, [], true).unwrap();
    let nar = file(contents(path.hash_part()).as_bytes(), false);
    let claimed = ContentAddress::Recursive(Hash::new(HashAlgorithm::Sha256, &digest).unwrap());
    assert_eq!(
        claimed.implied_path(&store_dir, "self", std::slice::from_ref(&path), &path),
        Some(path.clone())
    );
    on_every_backend(|store| {
        let id = BlobId { domain: Domain::Shared, path: path.clone() };
        let right =
            Announced { content_address: Some(claimed.clone()), refers_to_itself: true, ..announced(&nar) };
        let wrong = Announced { refers_to_itself: false, ..right.clone() };
        assert!(matches!(add(&*store, &id, wrong, &nar, 11), Err(CasError::WrongAddress { .. })));
        add(&*store, &id, right, &nar, 11).unwrap();
    });
}

#[tokio::test]
async fn async_code_writes_and_reads_in_chunks() {
    let store: Arc<dyn ContentStore> = Arc::new(MemoryStore::default());
    let nar = file(&b"0123456789".repeat(1000), false);
    let mut upload = Upload::begin(store.clone(), id("shared"), announced(&nar)).await.unwrap();
    for chunk in nar.chunks(1000) {
        upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    upload.commit().await.unwrap();
    let mut chunks = Chunks::open(store.clone(), id("shared"), 500, 999).await.unwrap();
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().await.unwrap() {
        assert!(chunk.len() <= 999);
        all.extend_from_slice(&chunk);
    }
    assert_eq!(all, &nar[500..]);
    let mut upload = Upload::begin(store, id("board:a"), announced(&nar)).await.unwrap();
    assert!(upload.write(Bytes::from_static(b"half")).await.is_ok(), "of a length");
    assert!(upload.write(Bytes::from_static(b"nonsense")).await.is_err());
    assert!(matches!(upload.commit().await, Err(CasError::Over { .. })));
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_disk_is_readable_by_people_and_remembers() {
    let directory = tempfile::tempdir().unwrap();
    let nar = file(b"hello", false);
    let store = DiskStore::open(directory.path()).unwrap();
    assert!(matches!(DiskStore::open(directory.path()), Err(CasError::InUse(_))));
    add(&store, &id("shared"), announced(&nar), &nar, 99).unwrap();
    add(&store, &id("board:a"), announced(&nar), &nar, 99).unwrap();
    let stored = store.get(&id("shared"));
    assert_eq!(names(directory.path()), ["board:a", "lock", "partial", "shared"]);
    let entry = directory.path().join("shared").join(NAME);
    assert_eq!(fs::read(entry.join("nar")).unwrap(), nar);
    let info = "NarHash: sha256:0sg9f58l1jj88w6pdrfdpj5x9b1zrwszk84j81zvby36q9whhhqa\nNarSize: 120\n";
    assert_eq!(fs::read_to_string(entry.join("info")).unwrap(), info);
    // A process that was killed leaves a writer's directory.
    std::mem::forget(store.begin(&id("board:b"), announced(&nar)).unwrap());
    assert_eq!(names(&directory.path().join("partial")).len(), 1);
    drop(store);
    fs::create_dir_all(directory.path().join("partial/left/behind")).unwrap();
    // And the lock of the forgotten writer's store: in this process it would be held for ever.
    let store = reopened(directory.path());
    assert_eq!(names(&directory.path().join("partial")), [] as [&str; 0]);
    assert_eq!((store.get(&id("shared")), store.ids().len()), (stored, 2));
    assert_eq!(read(&store, &id("board:a"), 0, 7), nar);
}

/// Opens a copy: the lock belongs to the open file of the store that a test forgot.
fn reopened(directory: &Path) -> DiskStore {
    fs::remove_file(directory.join("lock")).unwrap();
    DiskStore::open(directory).unwrap()
}

#[test]
fn a_damaged_entry_is_not_held_and_can_be_written_again() {
    type Damage = fn(&Path);
    let damages: [Damage; 4] = [
        |entry| fs::remove_file(entry.join("nar")).unwrap(),
        |entry| fs::remove_file(entry.join("info")).unwrap(),
        |entry| fs::write(entry.join("info"), "NarHash: sha256:0sg9").unwrap(),
        |entry| fs::File::options().write(true).open(entry.join("nar")).unwrap().set_len(100).unwrap(),
    ];
    let nar = file(b"hello", false);
    for damage in damages {
        let directory = tempfile::tempdir().unwrap();
        let store = DiskStore::open(directory.path()).unwrap();
        add(&store, &id("shared"), announced(&nar), &nar, 99).unwrap();
        drop(store);
        damage(&directory.path().join("shared").join(NAME));
        let store = DiskStore::open(directory.path()).unwrap();
        assert_eq!(store.get(&id("shared")), None);
        add(&store, &id("shared"), announced(&nar), &nar, 99).unwrap();
        assert_eq!(read(&store, &id("shared"), 0, 999), nar);
    }
}
