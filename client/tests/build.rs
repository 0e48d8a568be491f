//! `elsewhere build` from end to end: the real program, a real nix-daemon that does not trust it, a cluster over TLS.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::cast_possible_truncation, reason = "made-up NARs are small or periodic")]

#[path = "../../crates/nix-daemon/tests/board/mod.rs"]
mod board;
mod cluster;
mod scene;

use cluster::{Blob, Wire, exists, finished, output, root, task};
use proto::v1;
use proto::v1::plan_event::Event;
use scene::{Scene, TWO};
use std::sync::atomic::Ordering;

/// The plan builds everything, and each output is the blob that `blob` gives.
fn succeed(scene: &Scene, blob: impl Fn(&str) -> Blob + Send + Sync + 'static) {
    let (state, key) = (scene.cluster.state.clone(), scene.cluster.key.clone());
    scene.cluster.tell(move |path, derivation| {
        let mut events = vec![
            Event::TaskChanged(task(path, v1::TaskState::Running)),
            Event::TaskChanged(task(path, v1::TaskState::Done)),
        ];
        for name in derivation.outputs.keys() {
            let full = output(derivation, name);
            // The development output refers to the main one.
            let references: Vec<String> =
                if name == "dev" { vec![output(derivation, "out")] } else { Vec::new() };
            let references: Vec<&str> = references.iter().map(String::as_str).collect();
            cluster::serve(&state, &key, &full, &references, blob(name));
            events.push(root(path, name, &full));
        }
        events.push(finished(true));
        events
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_instantiated_built_imported_and_linked() {
    let scene = Scene::new().await;
    succeed(&scene, |name| Blob::file(format!("contents of {name}\n").as_bytes()));
    scene.write("two.nix", TWO);
    let built = scene.elsewhere(&["build", "two.nix", "-A", "two", "-A", "two.dev"]).await;
    assert_eq!(built.code, 0, "{}", built.stderr);
    let paths: Vec<&str> = built.stdout.lines().collect();
    assert!(
        paths[0].ends_with("-two") && paths[1].ends_with("-two-dev") && paths.len() == 2,
        "{}",
        built.stdout
    );
    for (link, path) in [("result", paths[0]), ("result-dev", paths[1])] {
        assert_eq!(std::fs::read_link(scene.board.outside(link)).unwrap().to_str().unwrap(), path);
        scene.board.run(&["nix-store", "--verify-path", path]);
    }
    // The links keep the results: a collection leaves them.
    scene.board.run(&["nix-store", "--gc"]);
    assert_eq!(scene.board.run(&["cat", "/mnt/result-dev"]), ["contents of dev"]);
    let state = &scene.cluster.state;
    let uploads: Vec<String> = state.uploads.lock().unwrap().keys().cloned().collect();
    assert!(uploads.len() == 1 && uploads[0].ends_with("-source.txt"), "{uploads:?}");
    // Again: all is valid, and nothing is asked of the cluster.
    state.downloads.lock().unwrap().clear();
    let again = scene.elsewhere(&["build", "two.nix", "-A", "two", "--no-out-link"]).await;
    assert_eq!((again.code, again.stdout.as_str()), (0, format!("{}\n", paths[0]).as_str()));
    assert!(state.downloads.lock().unwrap().is_empty());
    assert!(scene.unfinished_plans().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_named_as_nix_names_them() {
    let scene = Scene::new().await;
    succeed(&scene, |name| Blob::file(name.as_bytes()));
    let two = scene.instantiate(TWO, "two");
    for (argument, link, names) in [
        (two.clone(), "a", &["out"][..]),
        (format!("{two}!dev"), "b", &["dev"]),
        (format!("{two}^out,dev"), "c", &["out", "dev"]),
        (format!("{two}^*"), "d", &["dev", "out"]),
    ] {
        let built = scene.elsewhere(&["build", &argument, "-o", link]).await;
        assert_eq!(built.code, 0, "{}", built.stderr);
        assert_eq!(built.stdout.lines().count(), names.len(), "{}", built.stdout);
        for name in names {
            let link = if *name == "out" { link.to_owned() } else { format!("{link}-{name}") };
            assert!(exists(&scene.board.outside(&link)), "{link}");
        }
    }
    let refused = scene.elsewhere(&["build", &format!("{two}!man")]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("has no output `man`; it has dev, out"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_breaks_midway_is_taken_up_where_it_broke() {
    let scene = Scene::new().await;
    succeed(&scene, |name| if name == "out" { Blob::Large(8 << 20) } else { Blob::file(b"dev") });
    let wire = Wire::to(scene.cluster.address, 1_500_000, 4).await;
    let two = scene.instantiate(TWO, "two");
    let built = scene.elsewhere_at(wire.address, &["build", &format!("{two}^out,dev")]).await;
    assert_eq!(built.code, 0, "{}", built.stderr);
    assert_eq!(wire.cuts.load(Ordering::SeqCst), 4);
    assert!(built.stderr.contains("the link to the cluster is lost"), "{}", built.stderr);
    assert!(built.stderr.contains("is back"), "{}", built.stderr);
    let path = built.stdout.lines().next().unwrap();
    scene.board.run(&["nix-store", "--verify-path", path]);
    // Each download began where the one before had stopped: nothing came twice but what was under way.
    let downloads = scene.cluster.state.downloads.lock().unwrap().clone();
    let offsets: Vec<u64> = downloads.iter().filter(|(known, _)| known == path).map(|(_, at)| *at).collect();
    assert!(offsets.len() >= 4 && offsets.is_sorted() && offsets[offsets.len() - 1] > 4 << 20, "{offsets:?}");
    let watches = scene.cluster.state.watches.lock().unwrap().clone();
    assert!(watches.iter().skip(1).all(|from| *from > 1), "{watches:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_kept_any_more_is_not_passed_over_in_silence() {
    let scene = Scene::new().await;
    succeed(&scene, |name| Blob::file(name.as_bytes()));
    let inner = scene.cluster.state.tell.lock().unwrap().take().unwrap();
    let log = |path: &str, text: &'static str| {
        let derivation = path.to_owned();
        Event::LogChunk(v1::LogChunk { derivation, text: text.as_bytes().into(), log: 0, log_end: 0 })
    };
    scene.cluster.tell(move |path, derivation| {
        let mut events = inner(path, derivation);
        let logs = ["first\n", "", "last\n"].map(|text| log(path, text));
        events.splice(1..1, logs);
        events
    });
    scene.write("two.nix", TWO);
    // Without one that follows logs nothing is missed.
    for (arguments, is_told) in [(&["--log"] as &[&str], true), (&[], false)] {
        scene.cluster.state.events.lock().unwrap().clear();
        let all = [&["build", "two.nix", "-A", "two", "--no-out-link"], arguments].concat();
        let built = scene.elsewhere(&all).await;
        assert_eq!(built.code, 0, "{}", built.stderr);
        let told = built.stderr.split_once("a part of the log is missing here");
        assert_eq!(told.is_some(), is_told, "{}", built.stderr);
        assert!(told.is_none_or(|(before, after)| before.contains("> first") && after.contains("> last")));
        scene.board.run(&["nix-store", "--gc"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_what_was_announced_are_never_registered() {
    let Blob::Bytes(good) = Blob::file(&[b'x'; 200_000]) else { unreachable!() };
    let mut flipped = good.clone();
    flipped[100_000] ^= 1;
    let longer = [&good[..], &[0; 8]].concat();
    let table = [
        (good[..150_000].to_vec(), "ended after 150000 of"),
        (good[..good.len() - 8].to_vec(), "ended after"),
        (longer, "goes on after"),
        (flipped, "has the SHA-256"),
    ];
    for (sent, expected) in table {
        let scene = Scene::new().await;
        let announced = good.clone();
        succeed(&scene, move |_| Blob::Lying(announced.clone(), sent.clone()));
        let two = scene.instantiate(TWO, "two");
        let refused = scene.elsewhere(&["build", &two]).await;
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        assert_eq!(refused.stdout, "");
        let out = scene.output(&two, "out");
        assert!(!scene.is_valid(&out), "{out}");
        assert!(!exists(&scene.board.outside("result")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_by_a_stranger_is_refused_and_explained() {
    let mut scene = Scene::new().await;
    scene.cluster.key = nix_formats::signature::SecretKey::from_seed("stranger-1", &[9; 32]);
    succeed(&scene, |_| Blob::file(b"x"));
    let two = scene.instantiate(TWO, "two");
    let refused = scene.elsewhere(&["build", &two]).await;
    assert_eq!(refused.code, 1);
    for words in ["stranger-1", "trusted-public-keys", "/etc/nix/nix.conf"] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    assert!(!scene.is_valid(&scene.output(&two, "out")));
    // The plan is not forgotten: with the key in place the same command fetches its results.
    assert_eq!(scene.unfinished_plans(), [cluster::PLAN]);
}

#[tokio::test(flavor = "multi_thread")]
async fn little_memory_for_a_large_result() {
    let scene = Scene::new().await;
    succeed(&scene, |name| if name == "out" { Blob::Large(96 << 20) } else { Blob::file(b"dev") });
    let two = scene.instantiate(TWO, "two");
    let built = scene.elsewhere(&["--verbose", "build", &two, "--no-out-link"]).await;
    assert_eq!(built.code, 0, "{}", built.stderr);
    let peak = built.stderr.lines().find_map(|line| line.strip_prefix("VmHWM: ")).unwrap();
    let peak: u64 = peak.strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak < 20_000, "{peak} kB");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_the_environment_goes_with_every_call() {
    let scene = Scene::new().await;
    succeed(&scene, |_| Blob::file(b"x"));
    let two = scene.instantiate(TWO, "two");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let spans = scene.board.outside("spans");
    let built = scene
        .elsewhere_with(
            &["build", &two],
            &[
                ("TRACEPARENT", &format!("00-{trace}-00f067aa0ba902b7-01")),
                ("ELSEWHERE_SPAN_FILE", "/mnt/spans"),
            ],
        )
        .await;
    assert_eq!(built.code, 0, "{}", built.stderr);
    assert!(built.stderr.contains(&format!("trace {trace}")), "{}", built.stderr);
    let parents = scene.cluster.state.trace_parents.lock().unwrap().clone();
    assert!(parents.len() >= 5 && parents.iter().all(|parent| parent.contains(trace)), "{parents:?}");
    let spans = std::fs::read_to_string(spans).unwrap();
    for name in ["elsewhere build", "submit", "upload", "watch", "import"] {
        assert!(spans.contains(&format!("\"name\":\"{name}\"")), "{name} in {spans}");
    }
}
