//! A failing build: its dependents are reported, the rest is built, log tail and exit code are nix-build's.

use anyhow::{Result, ensure};
use tests::{ClusterSpec, run};

use crate::scene::{GRAPHS, PLAN_LIMIT, Scene};

#[test]
fn a_failure_is_reported_as_nix_reports_it_and_the_rest_is_built() {
    run("failing", |lab| {
        let scene = Scene::start(lab, ClusterSpec::default())?;
        let built = scene.build("failing")?;
        let said = &built.stderr;
        ensure!(built.status.code() == Some(100), "{}\n{said}", built.status);
        ensure!(built.stdout.is_empty(), "a path was printed: {}", built.stdout);
        for words in [
            "-breaks.drv'.\n       Reason: builder failed with exit code 3.\n       Output paths:\n",
            "Last 25 log lines:\n       > line 17 of the log\n",
            "       > line 40 of the log\n       > it breaks here\n",
            "-dependent-aarch64-unknown-linux-musl.drv'.\n       Reason: 1 dependency failed.\n",
            "-dependent-of-dependent.drv'.\n       Reason: 1 dependency failed.\n",
            "-failing.drv'.\n       Reason: 1 dependency failed.\n",
            "-independent-2.drv' in ",
        ] {
            ensure!(said.contains(words), "nothing says {words:?}:\n{said}");
        }
        ensure!(!said.contains("line 16 of the log"), "more than 25 lines are shown:\n{said}");
        ensure!(
            scene.results()?.is_empty(),
            "something of a failed plan was imported: {:?}",
            scene.results()?
        );
        exit_codes(&scene)
    });
}

/// The rest is held by the cluster now, and is not built again.
fn exit_codes(scene: &Scene) -> Result<()> {
    let again = scene.build("failing")?;
    ensure!(again.status.code() == Some(100), "the second time: {}\n{}", again.status, again.stderr);
    let twice = again.stderr.contains("-independent-1.drv' on ");
    ensure!(!twice, "what was built is built again:\n{}", again.stderr);
    let wrong = scene.client().run(PLAN_LIMIT, &["build", GRAPHS, "-A", "no-such-attribute"])?;
    ensure!(wrong.status.code() == Some(1), "{}\n{}", wrong.status, wrong.stderr);
    Ok(())
}
