//! Uploads that are wrong: refused, nothing registered anywhere, and the right bytes can still come.
use crate::cluster::Cluster;
use crate::graph::{Source, claimed, drv, file, source, text, unaddressed};
use crate::scripted::{Board, answer, start, upload, wanted};
use bytes::Bytes;
use nix_formats::content_address::ContentAddress;
use nix_formats::hash::sha256;
use node::tls::Role;
use proto::v1;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

fn with(good: &Source, change: impl FnOnce(&mut Source)) -> Source {
    let mut changed = good.clone();
    change(&mut changed);
    changed
}

/// Wrong versions of a path, and what the refusal says.
fn wrong(good: &Source) -> Vec<(&'static str, Source, &'static str)> {
    let end = good.nar.len();
    let announce = |source: &mut Source| {
        source.info.nar_size = source.nar.len() as u64;
        source.info.nar_sha256 = Bytes::copy_from_slice(&sha256(&source.nar));
    };
    let another = text("code", b"another", &[]);
    vec![
        ("truncated", with(good, |source| source.nar.truncate(end - 8)), "ends after"),
        ("empty", with(good, |source| source.nar.clear()), "ends after 0"),
        ("oversized", with(good, |source| source.nar.extend([0; 8])), "longer than"),
        ("other bytes", with(good, |source| source.nar[96] ^= 1), "SHA-256"),
        (
            "a cut-off archive, announced as such",
            with(good, |source| {
                source.nar.truncate(end - 16);
                announce(source);
            }),
            "not a NAR",
        ),
        (
            "an archive with more behind it, announced as such",
            with(good, |source| {
                source.nar.extend([0; 8]);
                announce(source);
            }),
            "not a NAR",
        ),
        (
            "other bytes, announced as such: they do not hash to the path",
            with(good, |source| {
                source.nar[96] ^= 1;
                announce(source);
            }),
            "content address",
        ),
        (
            "an executable file, announced as such",
            with(good, |source| {
                source.nar = file(b"code", true);
                announce(source);
            }),
            "content address",
        ),
        (
            "other bytes with their own content address: it gives another path",
            with(good, |source| {
                (source.nar, source.info.content_address) =
                    (another.nar.clone(), another.info.content_address.clone());
                announce(source);
            }),
            "gives /nix/store/",
        ),
        (
            "a reference that its path does not know of",
            with(good, |source| source.info.references = vec![another.path.clone()]),
            "gives /nix/store/",
        ),
        (
            "a content address that is none",
            with(good, |source| source.info.content_address = "fixed:git:sha1:0".into()),
            "cannot be verified",
        ),
        ("no size", with(good, |source| source.info.nar_size = 0), "nar_size"),
        ("more than anything", with(good, |source| source.info.nar_size = 1 << 60), "nar_size"),
        ("half a hash", with(good, |source| source.info.nar_sha256.truncate(16)), "nar_sha256"),
    ]
}

#[tokio::test]
async fn a_source_that_is_not_what_it_says_is_refused_and_leaves_nothing() {
    let cluster = Cluster::start().await;
    let good = text("code", b"code", &[]);
    let root = drv("root", &[], &[&good.path]);
    for (name, wrong, says) in wrong(&good) {
        let mut board = Board::new(&cluster, "a").await.with(&[&root], &[&wrong]);
        let status = board.submit(&root.path).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}");
        assert!(status.message().contains(says), "{name}: {status:?} does not say {says}");
        assert!(!cluster.is_registered(&good.path), "{name}");
        let ids = vec![v1::ContentId { trust_domain: String::new(), path: good.path.clone() }];
        let missing = board.blobs.missing(v1::MissingRequest { ids: ids.clone() }).await.unwrap();
        assert_eq!(missing.into_inner().ids, ids, "{name}");
    }
    assert_eq!(cluster.store.ids(), []);
    assert!(cluster.plans.lock().unwrap().is_empty());
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &[&good]);
    board.submit(&root.path).await.unwrap();
    assert!(cluster.is_registered(&good.path));
}

#[tokio::test]
async fn a_flat_hash_is_not_of_a_program_nor_of_a_directory() {
    let cluster = Cluster::start().await;
    let hash = crate::graph::hashed(nix_formats::hash::HashAlgorithm::Sha256, b"code");
    let path = nix_formats::store_path::StoreDir::default().fixed_output_path("code", &hash, false).unwrap();
    let address = ContentAddress::Flat(hash).to_string();
    for nar in [file(b"code", true), file(b"edoc", false)] {
        let wrong = claimed(&path, nar, &[], &address);
        let root = drv("root", &[], &[&wrong.path]);
        let mut board = Board::new(&cluster, "a").await.with(&[&root], &[&wrong]);
        assert_eq!(board.submit(&root.path).await.unwrap_err().code(), Code::InvalidArgument);
        assert!(!cluster.is_registered(&wrong.path));
    }
}

#[tokio::test]
async fn what_no_submission_of_this_board_asked_for_is_not_taken() {
    let cluster = Cluster::start().await;
    let (code, other) = (source("code", b"code"), unaddressed("other", b"other", &[]));
    let mut blobs = cluster.blobs(Role::Board, "a").await;
    for source in [&code, &other] {
        let status = upload(&mut blobs, source, 99).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert!(status.message().contains(&source.path), "{status:?}");
        assert!(!cluster.is_registered(&source.path));
    }
    // Nor when another board's submission waits for it.
    let root = drv("root", &[], &[&code.path]);
    let mut waiting = Board::new(&cluster, "b").await.with(&[&root], &[]);
    let submission = waiting.submit(&root.path).await;
    assert!(submission.is_err(), "it ended: what it waited for is not wanted any more");
    let status = upload(&mut blobs, &code, 99).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
}

#[tokio::test]
async fn an_executor_can_write_nothing() {
    let cluster = Cluster::start().await;
    let mut blobs = cluster.blobs(Role::Executor, "x").await;
    let code = source("code", b"code");
    assert_eq!(upload(&mut blobs, &code, 99).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(!cluster.is_registered(&code.path));
}

/// A submission that waits for a source, while its streams are kept.
async fn waiting(
    cluster: &Cluster,
    code: &Source,
) -> (mpsc::Sender<v1::SubmitRequest>, Streaming<v1::SubmitResponse>) {
    let root = drv("root", &[], &[&code.path]);
    let (answers, requests) = mpsc::channel(4);
    for request in [start(1, vec![wanted(&root.path)]), answer(&root.path, &root.text)] {
        answers.send(v1::SubmitRequest { request: Some(request) }).await.unwrap();
    }
    let mut needs =
        cluster.plans("a").await.submit(ReceiverStream::new(requests)).await.unwrap().into_inner();
    for _ in ["the derivation", "the source"] {
        needs.message().await.unwrap().unwrap();
    }
    (answers, needs)
}

#[tokio::test]
async fn what_is_no_row_of_chunks_is_no_upload() {
    use v1::upload_request::Part;
    let cluster = Cluster::start().await;
    let code = source("code", b"code");
    let _submission = waiting(&cluster, &code).await;
    let mut blobs = cluster.blobs(Role::Board, "a").await;
    let (info, chunk) = (Part::Info(code.info.clone()), Part::Chunk(code.nar.clone().into()));
    let large = Part::Chunk(vec![0; (256 << 10) + 1].into());
    let frame = |bytes: &[u8]| Part::ZstdChunk(bytes.to_vec().into());
    let bomb = frame(&zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap());
    let cut = frame(&zstd::bulk::compress(&code.nar, 3).unwrap()[..20]);
    let hostile = [
        vec![],
        vec![chunk],
        vec![info.clone(), info.clone()],
        vec![info.clone(), large],
        vec![info.clone(), bomb],
        vec![info.clone(), cut],
        vec![info, frame(&code.nar)],
    ];
    for (at, parts) in hostile.into_iter().enumerate() {
        let parts = parts.into_iter().map(|part| v1::UploadRequest { part: Some(part) });
        let status = blobs.upload(tokio_stream::iter(parts.collect::<Vec<_>>())).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{at}: {status:?}");
    }
    assert!(!cluster.is_registered(&code.path));
    upload(&mut blobs, &code, 99).await.unwrap();
    assert!(cluster.is_registered(&code.path));
}

/// Files of uploads that are not complete.
fn partial(cluster: &Cluster) -> usize {
    std::fs::read_dir(cluster.directory.path().join("content/partial")).unwrap().count()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..200 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_no_file() {
    use v1::upload_request::Part;
    let cluster = Cluster::start().await;
    let code = source("code", &[b'x'; 100_000]);
    let _submission = waiting(&cluster, &code).await;
    let mut blobs = cluster.blobs(Role::Board, "a").await;
    let (parts, stream) = mpsc::channel(4);
    let sending = node::task::spawn("upload", async move { blobs.upload(ReceiverStream::new(stream)).await });
    let chunk = Bytes::copy_from_slice(&code.nar[..60_000]);
    for part in [Part::Info(code.info.clone()), Part::Chunk(chunk)] {
        parts.send(v1::UploadRequest { part: Some(part) }).await.unwrap();
    }
    until("it begins to write", || partial(&cluster) == 1).await;
    sending.abort();
    until("it cleans up", || partial(&cluster) == 0).await;
    assert!(!cluster.is_registered(&code.path));
}

/// A coordinator that was killed between writing and remembering.
#[tokio::test]
async fn bytes_that_nothing_is_known_of_are_replaced() {
    let cluster = Cluster::start().await;
    let (good, stale) = (unaddressed("tool", b"tool", &[]), unaddressed("tool", b"stale", &[]));
    let path = crate::graph::base(&good.path);
    let blob = cas::BlobId { domain: cas::Domain::Board("a".into()), path };
    let announced = cas::Announced {
        nar_sha256: sha256(&stale.nar),
        nar_size: stale.info.nar_size,
        content_address: None,
        refers_to_itself: false,
    };
    let mut writer = cluster.store.begin(&blob, announced).unwrap();
    writer.write(&stale.nar).unwrap();
    writer.commit().unwrap();
    let root = drv("root", &[], &[&good.path]);
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &[&good]);
    board.submit(&root.path).await.unwrap();
    assert_eq!(cluster.store.get(&blob).unwrap().nar_sha256, sha256(&good.nar));
}
