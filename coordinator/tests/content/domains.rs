//! Trust domains: what one board vouches for stays its own, with everything that depends on it.
use crate::cluster::Cluster;
use crate::graph::{drv, source, unaddressed};
use crate::scripted::Board;
use node::tls::Role;
use proto::v1;
use tonic::Code;

fn id(trust_domain: &str, path: &str) -> v1::ContentId {
    v1::ContentId { trust_domain: trust_domain.into(), path: path.into() }
}

async fn download(
    blobs: &mut v1::blobs_client::BlobsClient<tonic::transport::Channel>,
    id: v1::ContentId,
) -> Result<Vec<u8>, tonic::Status> {
    let request = v1::DownloadRequest { id: Some(id), ..Default::default() };
    let mut stream = blobs.download(request).await?.into_inner();
    let mut nar = Vec::new();
    while let Some(message) = stream.message().await? {
        if let Some(v1::download_response::Part::Chunk(chunk)) = message.part {
            nar.extend_from_slice(&chunk);
        }
    }
    Ok(nar)
}

#[tokio::test]
async fn two_boards_with_other_bytes_for_one_path_do_not_meet() {
    let cluster = Cluster::start().await;
    let public = source("public", b"public");
    let (of_a, of_b) = (unaddressed("tool", b"a's", &[]), unaddressed("tool", b"b's", &[]));
    assert_eq!(of_a.path, of_b.path);
    let pure = drv("pure", &[], &[&public.path]);
    let root = drv("root", &[&pure], &[&of_a.path]);
    let mut ids = Vec::new();
    for (name, tool) in [("a", &of_a), ("b", &of_b)] {
        let mut board = Board::new(&cluster, name).await.with(&[&pure, &root], &[&public, tool]);
        board.submit(&root.path).await.unwrap();
        assert_eq!(board.domain(&tool.path), format!("board:{name}"));
        let plan = cluster.plan();
        let domains: Vec<_> =
            plan.tasks.iter().map(|task| (task.name.clone(), task.id.domain.to_string())).collect();
        let own = format!("board:{name}");
        assert_eq!(domains, [("pure".into(), "shared".into()), ("root".into(), own.clone())]);
        assert_eq!(plan.roots[0].task.domain.to_string(), own);
        ids.push(plan.roots[0].task.clone());
        let contents: Vec<_> = plan.contents.iter().map(|content| content.id.domain.to_string()).collect();
        assert!(contents.contains(&"shared".into()) && contents.contains(&own) && contents.len() == 2);
    }
    assert_ne!(ids[0], ids[1], "two tasks, nothing shared between them");

    for (name, own, other) in [("a", &of_a, "board:b"), ("b", &of_b, "board:a")] {
        let mut blobs = cluster.blobs(Role::Board, name).await;
        assert_eq!(download(&mut blobs, id("", &own.path)).await.unwrap(), own.nar);
        assert_eq!(download(&mut blobs, id("", &public.path)).await.unwrap(), public.nar);
        let status = download(&mut blobs, id("shared", &own.path)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        for ask in [other, "board:c"] {
            let status = download(&mut blobs, id(ask, &own.path)).await.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied);
            let request = v1::ClosureRequest { ids: vec![id(ask, &own.path)], alone: false };
            assert_eq!(blobs.closure(request).await.unwrap_err().code(), Code::PermissionDenied);
            let request = v1::MissingRequest { ids: vec![id(ask, &own.path)] };
            assert_eq!(blobs.missing(request).await.unwrap_err().code(), Code::PermissionDenied);
        }
    }
    // A third board sees nothing of either.
    let mut blobs = cluster.blobs(Role::Board, "c").await;
    assert_eq!(download(&mut blobs, id("", &of_a.path)).await.unwrap_err().code(), Code::NotFound);
    let ask = v1::MissingRequest { ids: vec![id("", &of_a.path), id("", &public.path)] };
    assert_eq!(blobs.missing(ask).await.unwrap().into_inner().ids, [id("", &of_a.path)]);
    // Executors build for all.
    let mut blobs = cluster.blobs(Role::Executor, "x").await;
    for (domain, source) in [("board:a", &of_a), ("board:b", &of_b), ("", &public)] {
        assert_eq!(download(&mut blobs, id(domain, &source.path)).await.unwrap(), source.nar);
    }
    assert_eq!(download(&mut blobs, id("", &of_a.path)).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_boards_copy_of_what_the_cluster_built_is_shared() {
    let cluster = Cluster::start().await;
    let copy = unaddressed("built", b"built", &[]);
    let facts = model::PathFacts {
        nar_sha256: copy.info.nar_sha256.as_ref().try_into().unwrap(),
        nar_size: copy.info.nar_size,
        references: Vec::new(),
        deriver: None,
        content_address: None,
    };
    let shared = model::ContentId {
        domain: model::TrustDomain::Shared,
        path: model::StorePath::from_validated(&copy.path),
    };
    // As the engine does when a task is settled; the bytes are at an executor.
    let known = coordinator::knowledge::ContentFacts { facts, references: Vec::new() };
    cluster.knowledge.insert_content(shared, known);
    let root = drv("root", &[], &[&copy.path]);
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &[&copy]);
    board.submit(&root.path).await.unwrap();
    assert_eq!(board.domain(&copy.path), "shared");
    // Other bytes are that board's own.
    let other = unaddressed("built", b"other", &[]);
    let cluster = Cluster::start().await;
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &[&other]);
    board.submit(&root.path).await.unwrap();
    assert_eq!(board.domain(&copy.path), "board:a");
}
