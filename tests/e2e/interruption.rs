//! Ctrl-C asks and then cancels at the cluster; a link that breaks does neither.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{ClusterSpec, Process, run, wait_for_words, wait_until};

use crate::scene::{GRAPHS, PLAN_LIMIT, Scene, sleeping};

const EVENT_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn control_c_asks_and_then_cancels_at_the_cluster() {
    run("interrupt", |lab| {
        let mut scene = Scene::start(lab, ClusterSpec::default())?;
        // With a display that moves, and on a terminal that cannot move anything.
        for terminal in ["xterm", "dumb"] {
            interrupt(&mut scene, terminal).with_context(|| format!("on a terminal of type {terminal}"))?;
        }
        Ok(())
    });
}

fn interrupt(scene: &mut Scene, terminal: &str) -> Result<()> {
    let arguments = ["build", GRAPHS, "-A", "endless", "--no-out-link"];
    let client = scene.client().with("TERM", terminal);
    let mut build = client.start_on_terminal(terminal, &arguments)?;
    wait_for_words(&mut build, EVENT_LIMIT, "-endless-1.drv' on ")?;
    wait_until("the build's sleep", EVENT_LIMIT, || Ok(sleeping(scene)?.then_some(())))?;
    press(&mut build, b"\x03")?;
    wait_for_words(&mut build, EVENT_LIMIT, "[c]ancel it, [d]etach")?;
    // Any other answer goes on.
    press(&mut build, b"no\n")?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(build.ended()?.is_none() && sleeping(scene)?, "an answer that is none ended something");
    press(&mut build, b"\x03")?;
    wait_until("the question again", EVENT_LIMIT, || {
        Ok((build.log()?.matches("[c]ancel it").count() == 2).then_some(()))
    })?;
    press(&mut build, b"c\n")?;
    let end = build.wait(EVENT_LIMIT)?;
    let said = build.log()?;
    ensure!(end.code() == Some(1) && said.contains("interrupted by the user"), "{end}\n{said}");
    wait_until("the end of the build", EVENT_LIMIT, || Ok((!sleeping(scene)?).then_some(())))
}

#[test]
fn without_a_terminal_an_interrupt_cancels_and_a_termination_leaves() {
    run("signals", |lab| {
        let mut scene = Scene::start(lab, ClusterSpec::default())?;
        let mut left = scene.start_build("endless")?;
        wait_until("the build's sleep", EVENT_LIMIT, || Ok(sleeping(&mut scene)?.then_some(())))?;
        left.signal("TERM")?;
        let end = left.wait(EVENT_LIMIT)?;
        ensure!(end.code() == Some(1) && left.log()?.contains("elsewhere attach"), "{end}\n{}", left.log()?);
        std::thread::sleep(Duration::from_secs(1));
        ensure!(sleeping(&mut scene)?, "the plan ended with its client");
        // The same again follows the plan that is under way.
        let mut again =
            scene.client().start("again", &["build", GRAPHS, "-A", "endless", "--no-out-link"])?;
        wait_for_words(&mut again, EVENT_LIMIT, "is under way for the same outputs")?;
        std::thread::sleep(Duration::from_millis(500));
        again.signal("INT")?;
        let end = again.wait(EVENT_LIMIT)?;
        ensure!(end.code() == Some(1), "{end}\n{}", again.log()?);
        wait_until("the end of the build", EVENT_LIMIT, || Ok((!sleeping(&mut scene)?).then_some(())))?;
        Ok(())
    });
}

#[test]
fn a_lost_link_does_not_end_a_plan() {
    run("lost-link", |lab| {
        let scene = Scene::start(lab, ClusterSpec::default())?;
        let mut build = scene.start_build("slow")?;
        wait_for_words(&mut build, EVENT_LIMIT, "built '")?;
        scene.board.host.set_link(false)?;
        let lost = wait_for_words(&mut build, EVENT_LIMIT, "the link to the cluster is lost")?;
        let done = lost.matches("\nbuilt '").count();
        // Long enough for the cluster to be through.
        std::thread::sleep(Duration::from_secs(5));
        scene.board.host.set_link(true)?;
        let end = build.wait(PLAN_LIMIT)?;
        let said = build.log()?;
        ensure!(end.success() && said.contains("the link to the cluster is back"), "{end}\n{said}");
        ensure!(done < 6, "everything was built before the link was lost: the test shows nothing");
        let result = said.lines().find(|line| line.starts_with("/nix/store/")).context("no result")?;
        scene.board.store().verify(&[result.to_owned()])?;
        let twice = (1..=6).find(|step| said.matches(&format!("-slow-{step}.drv' on ")).count() > 1);
        ensure!(twice.is_none(), "step {twice:?} was built twice:\n{said}");
        Ok(())
    });
}

fn press(process: &mut Process, keys: &[u8]) -> Result<()> {
    let input = process.child().stdin.as_mut().context("no terminal")?;
    input.write_all(keys)?;
    Ok(input.flush()?)
}
