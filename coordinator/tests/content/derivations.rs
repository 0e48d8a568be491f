//! Derivations that are not what they say: each ends its submission, and nothing of the submission is kept.
use crate::cluster::Cluster;
use crate::graph::{Drv, base, drv, file_of, fixed, floating};
use crate::scripted::Board;
use nix_formats::derivation::{Derivation, Output};
use std::collections::BTreeSet;
use tonic::Code;

/// A derivation that was changed after its output path was made; its own path is right.
fn changed(name: &str, good: &Drv, change: impl FnOnce(&mut Derivation)) -> (String, Vec<u8>) {
    let mut derivation = good.derivation.clone();
    change(&mut derivation);
    file_of(name, &derivation)
}

/// Each case: what, the wrong derivation's path and text, and what the board is told beside the path.
fn cases(lib: &Drv) -> Vec<(&'static str, String, Vec<u8>, String)> {
    let good = drv("bad", &[lib], &[]);
    let fetched = fixed("bad", b"tar");
    let store = |path: &nix_formats::store_path::StorePath| format!("/nix/store/{path}");
    let out = |path: &str| Output::InputAddressed { path: base(path) };
    let with = |name: &'static str, drv: &Drv, says: &str, change: &dyn Fn(&mut Derivation)| {
        let (path, text) = changed("bad", drv, |derivation| change(derivation));
        (name, path, text, says.to_owned())
    };
    let other = fixed("bad", b"other");
    let other_path = store(other.derivation.outputs["out"].path().unwrap());
    let dynamic = [b"DrvWithVersion(\"xp-dyn-drv\",", &good.text[7..]].concat();
    let spaced = [&good.text[..7], b" ", &good.text[7..]].concat();
    let (other_text, other_hashes_to) = {
        let (path, text) = changed("bad", &good, |derivation| derivation.builder.push(b'x'));
        (text, path)
    };
    vec![
        // The text of another derivation under this path.
        ("text of another", good.path.clone(), other_text, other_hashes_to),
        ("not a derivation", good.path.clone(), b"hello".to_vec(), "malformed".into()),
        ("not canonical", good.path.clone(), spaced, "refused".into()),
        ("dynamic", good.path.clone(), dynamic, "dynamic derivation".into()),
        with("forged output", &good, &good.out, &|derivation| {
            derivation.outputs.insert("out".into(), out(&lib.out));
            derivation.environment.insert(b"out".to_vec(), lib.out.clone().into_bytes());
        }),
        with("forged variable", &good, "environment variable", &|derivation| {
            derivation.environment.insert(b"out".to_vec(), lib.out.clone().into_bytes());
        }),
        with("changed after its path was made", &good, "incorrect output", &|derivation| {
            derivation.arguments.push(b"more".to_vec());
        }),
        with("forged fixed output", &fetched, &fetched.out, &|derivation| {
            let Some(Output::Fixed { path, .. }) = derivation.outputs.get_mut("out") else {
                panic!("not fixed")
            };
            *path = base(&other_path);
        }),
        with("impure", &good, "impure", &|derivation| {
            derivation.outputs.insert("out".into(), Output::Impure);
        }),
        with("no path without a reason", &good, "have no paths", &|derivation| {
            derivation.outputs.insert("out".into(), Output::Deferred);
        }),
        with("recursive", &good, "recursive-nix", &|derivation| {
            derivation.environment.insert(b"requiredSystemFeatures".to_vec(), b"recursive-nix".to_vec());
        }),
        with("an output that its input lacks", &good, "no output 'dev'", &|derivation| {
            derivation.input_derivations.insert(base(&lib.path), BTreeSet::from(["dev".into()]));
        }),
    ]
}

#[tokio::test]
async fn a_derivation_that_fails_ends_the_submission_and_nothing_is_kept() {
    let cluster = Cluster::start().await;
    let lib = drv("lib", &[], &[]);
    for (name, path, text, says) in cases(&lib) {
        let mut board = Board::new(&cluster, "a").await.with(&[&lib], &[]);
        board.texts.insert(path.clone(), text);
        let status = board.submit(&path).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}");
        let about = if says.contains("no output") { &lib.path } else { &path };
        assert!(status.message().contains(about), "{name}: {status:?} does not name {about}");
        assert!(status.message().contains(&says), "{name}: {status:?} does not say {says}");
        for path in [&path, &lib.path] {
            assert!(!cluster.is_registered(path), "{name}: {path} is kept");
        }
    }
    assert!(cluster.plans.lock().unwrap().is_empty());
    // Nor is anything in the journal.
    let cluster = cluster.restart().await;
    assert!(!cluster.is_registered(&lib.path));
    let good = drv("bad", &[&lib], &[]);
    let mut board = Board::new(&cluster, "a").await.with(&[&lib, &good], &[]);
    assert_eq!(board.submit(&good.path).await.unwrap().tasks_total, 2);
}

/// Its outputs' paths are known when those of its inputs are, and not before.
#[tokio::test]
async fn what_depends_on_a_floating_output_leaves_its_own_paths_open() {
    let cluster = Cluster::start().await;
    let below = floating("below", b"below");
    let with_path = drv("over", &[&below], &[]);
    let mut board = Board::new(&cluster, "a").await.with(&[&below, &with_path], &[]);
    let status = board.submit(&with_path.path).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    for part in [&*with_path.path, "its outputs have paths", "ca-derivations"] {
        assert!(status.message().contains(part), "{status:?} does not say {part}");
    }
    assert!(!cluster.is_registered(&with_path.path) && !cluster.is_registered(&below.path));
    let (path, text) = changed("over", &with_path, |derivation| {
        derivation.outputs.insert("out".into(), Output::Deferred);
        derivation.environment.insert(b"out".to_vec(), Vec::new());
    });
    let mut board = Board::new(&cluster, "a").await.with(&[&below], &[]);
    board.texts.insert(path.clone(), text);
    assert_eq!(board.submit(&path).await.unwrap().tasks_total, 2);
    // Through one between them, which only passes it on, the same holds.
    let fixed_between = drv("between", &[&with_path], &[]);
    let mut board = Board::new(&cluster, "a").await.with(&[&below, &with_path, &fixed_between], &[]);
    let status = board.submit(&fixed_between.path).await.unwrap_err();
    assert!(status.message().contains(&with_path.path), "{status:?}");
}

/// The wrong one may be deep below, and the good ones around it many.
#[tokio::test]
async fn one_wrong_derivation_deep_below_spoils_the_whole_submission() {
    let cluster = Cluster::start().await;
    let leaf = drv("leaf", &[], &[]);
    let (path, text) = changed("forged", &leaf, |derivation| {
        derivation.environment.insert(b"name".to_vec(), b"forged".to_vec());
    });
    let mut forged = leaf.clone();
    (forged.path, forged.text) = (path, text);
    let good = drv("good", &[&leaf], &[]);
    let root = drv("root", &[&good, &forged], &[]);
    let mut board = Board::new(&cluster, "a").await.with(&[&leaf, &good, &forged, &root], &[]);
    let status = board.submit(&root.path).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains(&forged.path), "{status:?}");
    for drv in [&leaf, &good, &forged, &root] {
        assert!(!cluster.is_registered(&drv.path));
    }
}

#[tokio::test]
async fn a_derivation_that_the_board_lacks_is_named() {
    let cluster = Cluster::start().await;
    let lib = drv("lib", &[], &[]);
    let root = drv("root", &[&lib], &[]);
    let mut board = Board::new(&cluster, "a").await.with(&[&root], &[]);
    let status = board.submit(&root.path).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains(&lib.path) && status.message().contains("not valid here"),
        "{status:?}"
    );
    assert!(!cluster.is_registered(&root.path));
}
