//! What is refused, seen from a board: wrong certificates, contents that are not what they claim, signatures by another key.
//! Nothing of it is registered, neither on the board nor in the cluster.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use tests::{BOARD_USER, Certificates, ClusterSpec, ExecutorSpec, Finished, Lab, Programs, run};

use crate::scene::{GRAPHS, PLAN_LIMIT, Scene, board, results};

fn scene(lab: &Lab) -> Result<Scene> {
    let executors = vec![ExecutorSpec::new("executor1")];
    Scene::start(lab, ClusterSpec { executors, ..ClusterSpec::default() })
}

#[test]
fn certificates_of_others_are_refused() {
    run("certificates", |lab| {
        let scene = scene(lab)?;
        let host = &scene.board.host;
        let own = scene.cluster.certificates();
        let foreign = Certificates::new(lab, &Programs::find()?, "foreign", "10.88.0.10")?;
        foreign.make(&["--board", "board"])?;
        own.make(&["--expired", "late", "--executor", "worker", "--admin", "admin"])?;
        for (what, certificates, name) in [
            ("a foreign authority's certificate", &foreign, "board"),
            ("an expired certificate", own, "late"),
            ("an executor's certificate", own, "worker"),
            ("the coordinator's certificate", own, "coordinator"),
        ] {
            certificates.install_identity(host, name, BOARD_USER)?;
            let kept = kept(&scene)?;
            refused(&scene, &scene.build("across")?).context(what)?;
            ensure!(kept == self::kept(&scene)?, "{what}: the coordinator keeps something of it");
        }
        // The other way round: a coordinator that the board's own authority does not vouch for.
        own.install_identity(host, "board", BOARD_USER)?;
        host.write("/etc/elsewhere/ca.pem", fs::read(foreign.file("ca.pem"))?, 0o644, BOARD_USER)?;
        refused(&scene, &scene.build("across")?).context("a coordinator of a foreign authority")?;
        own.install(host, "board", BOARD_USER)?;
        scene.build("across")?.success().map(drop)
    });
}

#[test]
fn contents_that_are_not_what_their_paths_say_are_refused() {
    run("contents", |lab| {
        let scene = scene(lab)?;
        let store = scene.board.store();
        let derivations = store.instantiate(GRAPHS, &["withSource", "across"], &[])?;
        let source = store.closure(&derivations)?.into_iter().find(|path| path.ends_with("-source.txt"));
        let source = source.context("there is no source")?;
        for (what, changed, derivation, from, to) in [
            (
                "a derivation that is another one",
                &derivations[1],
                &derivations[1],
                "cat $input",
                "cat $INPUT",
            ),
            ("a source that is another one", &source, &derivations[0], "Half a gigabyte", "Half a Gigabyte"),
        ] {
            let file = scene.board.host.outside(changed);
            let text = fs::read_to_string(&file)?;
            let changed_text = text.replacen(from, to, 1);
            ensure!(text != changed_text, "{what}: nothing was changed");
            fs::write(&file, changed_text)?;
            let kept = kept(&scene)?;
            let built = scene.client().run(PLAN_LIMIT, &["build", derivation, "--no-out-link"])?;
            refused(&scene, &built).context(what)?;
            let base_name = changed.rsplit('/').next().unwrap_or_default();
            ensure!(built.stderr.contains(base_name), "{what} is not named:\n{}", built.stderr);
            let new: Vec<String> = self::kept(&scene)?.difference(&kept).cloned().collect();
            ensure!(
                new.iter().all(|path| !path.contains(base_name)),
                "{what}: the coordinator keeps {new:?}"
            );
            fs::write(&file, text)?;
            scene.client().run(PLAN_LIMIT, &["build", derivation, "--no-out-link"])?.success()?;
            forget_results(&scene)?;
        }
        Ok(())
    });
}

#[test]
fn results_that_the_board_does_not_trust_are_refused_by_its_daemon() {
    run("signature", |lab| {
        let scene = scene(lab)?;
        let other = Certificates::new(lab, &Programs::find()?, "other", "10.88.0.10")?;
        scene.cluster.certificates().make(&["--board", "wary"])?;
        let mut spec = board(lab, "wary")?;
        spec.trusted_keys.push(other.public_key()?);
        let wary = scene.cluster.stranger(spec)?;
        let built = scene
            .cluster
            .client(&wary)
            .run(PLAN_LIMIT, &["build", GRAPHS, "-A", "across", "--no-out-link"])?;
        ensure!(built.status.code() == Some(1), "{}\n{}", built.status, built.stderr);
        ensure!(built.stderr.contains("signature"), "it does not say why:\n{}", built.stderr);
        let registered = results(&wary)?;
        ensure!(registered.is_empty(), "registered without a good signature: {registered:?}");
        // The board that trusts the cluster gets what was built for the other.
        scene.build("across")?.success().map(drop)
    });
}

/// Exit code 1, no path, no result.
fn refused(scene: &Scene, built: &Finished) -> Result<()> {
    ensure!(built.status.code() == Some(1), "not refused: {}\n{}", built.status, built.stderr);
    ensure!(built.stdout.is_empty(), "a path was printed: {}", built.stdout);
    ensure!(!built.stderr.contains("plan "), "a plan was admitted:\n{}", built.stderr);
    let registered = scene.results()?;
    ensure!(registered.is_empty(), "registered: {registered:?}");
    Ok(())
}

/// Every file that the coordinator keeps.
fn kept(scene: &Scene) -> Result<BTreeSet<String>> {
    let find = ["find", "/var/lib/elsewhere", "-type", "f"];
    let found = scene.cluster.coordinator_host().exec(tests::User::Root, &find, &[])?.success()?;
    Ok(found.lines().map(str::to_owned).collect())
}

/// A board that has only derivations and sources again.
fn forget_results(scene: &Scene) -> Result<()> {
    let results: Vec<String> = scene.results()?.into_iter().collect();
    let mut argv = vec!["nix-store", "--delete", "--ignore-liveness"];
    argv.extend(results.iter().map(String::as_str));
    scene.board.host.exec(tests::User::Root, &argv, &[("HOME", "/root")])?.success().map(drop)
}
