//! Sources: asked for when they are missing, with what they refer to, each in the domain that its bytes prove.
use crate::cluster::Cluster;
use crate::graph::{claimed, drv, file, hashed, source, text, unaddressed};
use crate::scripted::Board;
use model::{ContentId, StorePath, TrustDomain};
use nix_formats::content_address::ContentAddress;
use nix_formats::hash::HashAlgorithm;
use nix_formats::store_path::StoreDir;

fn shared(path: &str) -> ContentId {
    ContentId { domain: TrustDomain::Shared, path: StorePath::from_validated(path) }
}

fn of_board(board: &str, path: &str) -> ContentId {
    ContentId { domain: TrustDomain::Board(board.into()), path: StorePath::from_validated(path) }
}

#[tokio::test]
async fn every_kind_of_content_address_is_shared() {
    let cluster = Cluster::start().await;
    let store = StoreDir::default();
    let mut sources = vec![source("recursive", b"1"), text("text", b"2", &[])];
    for algorithm in [HashAlgorithm::Md5, HashAlgorithm::Sha1, HashAlgorithm::Sha256, HashAlgorithm::Sha512] {
        let contents = format!("flat {algorithm}").into_bytes();
        let hash = hashed(algorithm, &contents);
        let path = store.fixed_output_path("flat", &hash, false).unwrap();
        sources.push(claimed(&path, file(&contents, false), &[], &ContentAddress::Flat(hash).to_string()));
        let nar = file(&contents, true);
        let hash = hashed(algorithm, &nar);
        let path = store.fixed_output_path("recursive", &hash, true).unwrap();
        sources.push(claimed(&path, nar, &[], &ContentAddress::Recursive(hash).to_string()));
    }
    let paths: Vec<_> = sources.iter().map(|source| source.path.as_str()).collect();
    let root = drv("root", &[], &paths);
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &sources.iter().collect::<Vec<_>>());
    board.submit(&root.path).await.unwrap();
    for path in &paths {
        assert_eq!(board.domain(path), "shared", "{path}");
    }
    let task = &cluster.plan().tasks[0];
    assert_eq!(task.id, shared(&root.path));
    assert_eq!(task.input_sources.len(), 10);
}

#[tokio::test]
async fn what_a_source_refers_to_is_asked_for_and_decides_too() {
    let cluster = Cluster::start().await;
    let (leaf, private) = (source("leaf", b"leaf"), unaddressed("private", b"private", &[]));
    let middle = text("middle", b"middle", &[&leaf.path]);
    let top = text("top", b"top", &[&middle.path]);
    let tainted = text("tainted", b"tainted", &[&leaf.path, &private.path]);
    let (good, bad) = (drv("good", &[], &[&top.path]), drv("bad", &[], &[&tainted.path]));
    let root = drv("root", &[&good, &bad], &[]);
    let sources = [&leaf, &private, &middle, &top, &tainted];
    let mut board = Board::new(&cluster, "a").await.with(&[&good, &bad, &root], &sources);
    board.submit(&root.path).await.unwrap();
    let plan = cluster.plan();
    let id = |name: &str| plan.tasks.iter().find(|task| task.name == name).unwrap().id.clone();
    assert_eq!(
        id("good"),
        shared(&good.path),
        "its source came before what that refers to, and is shared all the same"
    );
    assert_eq!((id("bad"), id("root")), (of_board("a", &bad.path), of_board("a", &root.path)));
    let known = |id: ContentId| cluster.knowledge.content(&id).map(|known| known.references.clone());
    assert_eq!(known(shared(&top.path)), Some(vec![shared(&middle.path)]));
    assert_eq!(known(shared(&middle.path)), Some(vec![shared(&leaf.path)]));
    let mut references = [shared(&leaf.path), of_board("a", &private.path)];
    references.sort_by(|one, other| one.path.cmp(&other.path));
    assert_eq!(known(of_board("a", &tainted.path)), Some(references.into()));
    assert_eq!(
        known(shared(&tainted.path)),
        None,
        "it has the hash of its path, but what it refers to is one board's own"
    );
    // References come before referrers, each once.
    let paths: Vec<_> = plan.contents.iter().map(|content| content.id.path.as_str()).collect();
    let at = |path: &str| paths.iter().position(|found| *found == path).unwrap();
    assert!(at(&leaf.path) < at(&middle.path) && at(&middle.path) < at(&top.path));
    assert_eq!(paths.len(), 5);
}

#[tokio::test]
async fn a_derivation_file_as_a_source_is_not_sent_again() {
    let cluster = Cluster::start().await;
    let code = source("code", b"code");
    let lib = drv("lib", &[], &[&code.path]);
    let tool = drv("tool", &[&lib], &[]);
    // The `.drv` file of tool and what it refers to: lib's file and code.
    let root = drv("root", &[&tool], &[&tool.path]);
    let mut board = Board::new(&cluster, "a").await.with(&[&lib, &tool, &root], &[&code]);
    board.submit(&root.path).await.unwrap();
    let asked: Vec<_> = board.needs.iter().flat_map(|need| need.sources.clone()).collect();
    assert_eq!(asked, [code.path.as_str()]);
    let mut held: Vec<_> = cluster.plan().contents.iter().map(|content| content.id.clone()).collect();
    held.sort();
    let mut expected = [shared(&code.path), shared(&lib.path), shared(&tool.path)];
    expected.sort();
    assert_eq!(held, expected);
    let known = cluster.knowledge.content(&shared(&tool.path)).unwrap();
    assert_eq!(known.facts.nar_sha256, nix_formats::hash::sha256(&file(&tool.text, false)));
}

#[tokio::test]
async fn what_refers_to_itself_through_others_is_refused() {
    let cluster = Cluster::start().await;
    let (one, mut other) = (unaddressed("one", b"1", &[]), unaddressed("other", b"2", &[]));
    let mut one = one;
    (one.info.references, other.info.references) = (vec![other.path.clone()], vec![one.path.clone()]);
    let root = drv("root", &[], &[&one.path]);
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &[&one, &other]);
    let status = board.submit(&root.path).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().contains("refers to itself"), "{status:?}");
    assert!(cluster.plans.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_source_that_never_came_or_is_not_there_ends_the_submission() {
    let cluster = Cluster::start().await;
    let code = source("code", b"code");
    let root = drv("root", &[], &[&code.path]);
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &[]);
    let status = board.submit(&root.path).await.unwrap_err();
    assert!(
        status.message().contains(&code.path) && status.message().contains("not valid here"),
        "{status:?}"
    );
    assert!(!cluster.is_registered(&code.path));
    // The same command again asks for the rest only.
    board.needs.clear();
    board.sources.insert(code.path.clone(), code.clone());
    board.submit(&root.path).await.unwrap();
    assert_eq!(board.needs.len(), 1);
    assert_eq!(board.needs[0].sources, [code.path]);
}
