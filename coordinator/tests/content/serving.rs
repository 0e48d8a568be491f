//! What is served: closures signed and in order, bytes from any offset in chunks for their reader.
use crate::cluster::Cluster;
use crate::graph::{base, drv, source, text};
use crate::scripted::Board;
use nix_formats::narinfo::PathInfo;
use nix_formats::signature::{PublicKey, SecretKey};
use nix_formats::store_path::StoreDir;
use node::tls::Role;
use proto::chunk::{Chunk, Unpacker};
use proto::v1;
use proto::v1::blobs_client::BlobsClient;
use proto::v1::download_response::Part;
use tonic::transport::Channel;
use tonic::{Code, Status};

fn id(path: &str) -> v1::ContentId {
    v1::ContentId { trust_domain: String::new(), path: path.into() }
}

fn is_signed(info: &v1::PathInfo, key: &PublicKey) -> bool {
    let store = StoreDir::default();
    let info = PathInfo {
        path: base(&info.id.as_ref().unwrap().path),
        nar_sha256: info.nar_sha256.as_ref().try_into().unwrap(),
        nar_size: info.nar_size,
        references: info.references.iter().map(|path| base(path)).collect(),
        deriver: None,
        content_address: None,
        signatures: info.signatures.clone(),
    };
    info.is_signed_by(&store, std::slice::from_ref(key))
}

async fn closure(blobs: &mut BlobsClient<Channel>, paths: &[&str]) -> Result<Vec<v1::PathInfo>, Status> {
    let ids = paths.iter().map(|path| id(path)).collect();
    let mut stream = blobs.closure(v1::ClosureRequest { ids, alone: false }).await?.into_inner();
    let mut infos = Vec::new();
    while let Some(message) = stream.message().await? {
        assert!(message.infos.len() <= 256);
        infos.extend(message.infos);
    }
    Ok(infos)
}

async fn download(
    blobs: &mut BlobsClient<Channel>,
    path: &str,
    offset: u64,
    chunk_bytes_max: u32,
) -> Result<(v1::PathInfo, Vec<Vec<u8>>), Status> {
    let request = v1::DownloadRequest { id: Some(id(path)), offset, chunk_bytes_max, zstd: false };
    let mut stream = blobs.download(request).await?.into_inner();
    let Some(Part::Info(info)) = stream.message().await?.and_then(|message| message.part) else {
        panic!("no path information")
    };
    let mut chunks = Vec::new();
    while let Some(message) = stream.message().await? {
        let Some(Part::Chunk(chunk)) = message.part else { panic!("not a chunk") };
        chunks.push(chunk.to_vec());
    }
    Ok((info, chunks))
}

#[tokio::test]
async fn a_closure_is_signed_and_has_references_before_referrers() {
    let cluster = Cluster::start().await;
    let leaves: Vec<_> = (0..300).map(|leaf| source(&format!("leaf-{leaf}"), b"leaf")).collect();
    let paths: Vec<_> = leaves.iter().map(|leaf| leaf.path.as_str()).collect();
    let middle = text("middle", b"middle", &paths);
    let (top, alone) = (text("top", b"top", &[&middle.path, paths[7]]), source("alone", b"alone"));
    let mut sources: Vec<_> = leaves.iter().chain([&middle, &top, &alone]).collect();
    let root = drv("root", &[], &[&top.path, &alone.path]);
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &sources);
    board.submit(&root.path).await.unwrap();

    let infos = closure(&mut board.blobs, &[&top.path]).await.unwrap();
    assert_eq!(infos.len(), 302);
    let found: Vec<_> = infos.iter().map(|info| info.id.clone().unwrap().path).collect();
    for (index, info) in infos.iter().enumerate() {
        for reference in &info.references {
            assert!(found[..index].contains(reference), "{reference} comes after {}", found[index]);
        }
        assert!(is_signed(info, &cluster.key.public_key()), "{info:?}");
        assert!(!is_signed(info, &SecretKey::from_seed("cluster-1", &[8; 32]).public_key()));
        sources.retain(|source| source.path != found[index] || source.info.nar_sha256 != info.nar_sha256);
    }
    assert_eq!(sources.len(), 1, "each with the hash of its bytes, and the other one not");
    assert_eq!(infos.last().unwrap().content_address, top.info.content_address);
    let both = closure(&mut board.blobs, &[&top.path, &alone.path, &top.path]).await.unwrap();
    assert_eq!(both.len(), 303);
    let request = v1::ClosureRequest { ids: vec![id(&top.path)], alone: true };
    let mut stream = board.blobs.closure(request).await.unwrap().into_inner();
    let only = stream.message().await.unwrap().unwrap().infos;
    assert_eq!(only, infos[301..], "what is asked for, signed, and nothing that it refers to");
    assert!(stream.message().await.unwrap().is_none());

    let unknown = source("unknown", b"unknown");
    let status = closure(&mut board.blobs, &[&alone.path, &unknown.path]).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains(&unknown.path), "{status:?}");
    let ids = vec![id(&alone.path); 4097];
    let status = board.blobs.closure(v1::ClosureRequest { ids: ids.clone(), alone: true }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = board.blobs.missing(v1::MissingRequest { ids }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_closure_of_which_something_is_not_held_is_not_served() {
    let cluster = Cluster::start().await;
    let (leaf, gone) = (source("leaf", b"leaf"), source("gone", b"gone"));
    let root = drv("root", &[], &[&leaf.path]);
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &[&leaf]);
    board.submit(&root.path).await.unwrap();
    // As an output that refers to what only an executor has.
    let shared = |path: &str| model::ContentId {
        domain: model::TrustDomain::Shared,
        path: model::StorePath::from_validated(path),
    };
    let known = cluster.knowledge.content(&shared(&leaf.path)).unwrap();
    let mut changed = (*known).clone();
    changed.references.push(shared(&gone.path));
    cluster.knowledge.insert_content(shared(&leaf.path), changed.clone());
    let status = closure(&mut board.blobs, &[&leaf.path]).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    changed.references.clear();
    changed.facts.nar_sha256 = [1; 32];
    cluster.knowledge.insert_content(shared(&gone.path), changed);
    let status = closure(&mut board.blobs, &[&leaf.path]).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains(&gone.path), "{status:?}");
}

#[tokio::test]
async fn bytes_come_from_an_offset_in_chunks_for_their_reader() {
    let cluster = Cluster::start().await;
    let large = source("large", &b"0123456789".repeat(100_000));
    let size = large.nar.len() as u64;
    let root = drv("root", &[], &[&large.path]);
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &[&large]);
    board.submit(&root.path).await.unwrap();
    let mut executor = cluster.blobs(Role::Executor, "x").await;
    let (for_boards, for_executors) = (64 << 10, 256 << 10);
    for (blobs, longest) in [(&mut board.blobs, for_boards), (&mut executor, for_executors)] {
        let cases = [(0, 0), (0, 1 << 20), (1, 1000), (size / 2, 0), (size - 1, 7), (size, 0)];
        for (offset, wanted) in cases {
            let (info, chunks) = download(blobs, &large.path, offset, wanted).await.unwrap();
            assert_eq!((info.nar_size, &info.nar_sha256), (size, &large.info.nar_sha256));
            assert!(is_signed(&info, &cluster.key.public_key()));
            assert_eq!(chunks.concat(), &large.nar[usize::try_from(offset).unwrap()..], "from {offset}");
            let expected = if wanted == 0 { longest } else { longest.min(wanted as usize) };
            let largest = chunks.iter().map(Vec::len).max().unwrap_or(0);
            assert!(largest <= expected, "{largest} bytes, asked for {wanted}");
            assert!(largest == expected || size - offset < expected as u64, "chunks as long as allowed");
        }
        let status = download(blobs, &large.path, size + 1, 0).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange);
        let unknown = source("unknown", b"unknown");
        assert_eq!(download(blobs, &unknown.path, 0, 0).await.unwrap_err().code(), Code::NotFound);
    }
}

#[tokio::test]
async fn a_reader_that_takes_zstd_gets_frames_of_what_shrinks() {
    let cluster = Cluster::start().await;
    let large = source("large", &b"0123456789".repeat(100_000));
    let root = drv("root", &[], &[&large.path]);
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &[&large]);
    board.submit(&root.path).await.unwrap();
    let request =
        v1::DownloadRequest { id: Some(id(&large.path)), offset: 77, chunk_bytes_max: 5000, zstd: true };
    let mut stream = board.blobs.download(request).await.unwrap().into_inner();
    assert!(matches!(stream.message().await.unwrap().unwrap().part, Some(Part::Info(_))));
    let (mut unpacker, mut sent, mut nar) = (Unpacker::default(), 0, Vec::new());
    while let Some(message) = stream.message().await.unwrap() {
        let chunk = Chunk::try_from(message.part).unwrap();
        match &chunk {
            Chunk::Zstd(frame) => sent += frame.len(),
            Chunk::Plain(end) => assert!(end.len() < 100, "{} digits as they are", end.len()),
        }
        nar.extend_from_slice(&unpacker.unpack(chunk, 5000).expect("as long as asked for"));
    }
    assert_eq!(nar, &large.nar[77..]);
    assert!(sent < nar.len() / 50, "{sent} bytes for {}", nar.len());
}
