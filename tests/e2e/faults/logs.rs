//! A build's log while connections come and go: every line once, in order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Lab, Process, run, wait_for_words};

use super::{EVENT_LIMIT, quick};
use crate::scene::{GRAPHS, PLAN_LIMIT, Scene};

/// Lines of the graph `tale`, ten in a second.
const LINES: usize = 100;

#[test]
fn a_log_goes_on_where_the_boards_link_broke() {
    run("log-link", |lab| {
        let (scene, mut build) = begin(lab)?;
        scene.board.host.set_blackhole(true)?;
        std::thread::sleep(Duration::from_secs(3));
        scene.board.host.set_blackhole(false)?;
        let told = end(&mut build)?;
        ensure!(told == (1..=LINES).collect::<Vec<_>>(), "{told:?}");
        Ok(())
    });
}

#[test]
fn a_log_goes_on_where_the_executors_link_broke() {
    run("log-executor", |lab| {
        let (mut scene, mut build) = begin(lab)?;
        let place = super::starts(&build.log()?).first().context("nothing began")?.1.clone();
        let host = &mut scene.cluster.executor(&place)?.host;
        host.set_blackhole(true)?;
        // Less than after which it is lost.
        std::thread::sleep(Duration::from_secs(1));
        host.set_blackhole(false)?;
        let told = end(&mut build)?;
        ensure!(told == (1..=LINES).collect::<Vec<_>>(), "{told:?}");
        Ok(())
    });
}

#[test]
fn a_client_that_comes_later_is_told_from_the_beginning() {
    run("log-client", |lab| {
        let (scene, mut build) = begin(lab)?;
        build.kill()?;
        std::thread::sleep(Duration::from_secs(1));
        let mut build =
            scene.client().start("again", &["build", GRAPHS, "-A", "tale", "--no-out-link", "--log"])?;
        let told = end(&mut build)?;
        ensure!(told == (1..=LINES).collect::<Vec<_>>(), "{told:?}");
        Ok(())
    });
}

#[test]
fn a_log_outlives_the_coordinator() {
    run("log-coordinator", |lab| {
        let (mut scene, mut build) = begin(lab)?;
        scene.cluster.restart_coordinator()?;
        let told = end(&mut build)?;
        ensure!(told == (1..=LINES).collect::<Vec<_>>(), "{told:?}");
        Ok(())
    });
}

/// A build that has told a part of its tale.
fn begin(lab: &Lab) -> Result<(Scene, Process)> {
    let scene = Scene::start(lab, quick())?;
    let mut build =
        scene.client().start("tale", &["build", GRAPHS, "-A", "tale", "--no-out-link", "--log"])?;
    wait_for_words(&mut build, EVENT_LIMIT, "line 20 of the tale")?;
    Ok((scene, build))
}

/// The numbers of the lines that the client has printed when it has ended well.
fn end(build: &mut Process) -> Result<Vec<usize>> {
    let end = build.wait(PLAN_LIMIT)?;
    let said = build.log()?;
    ensure!(end.success(), "{end}\n{said}");
    let number = |line: &str| line.split_once("line ")?.1.strip_suffix(" of the tale")?.parse().ok();
    Ok(said.lines().filter_map(number).collect())
}
