//! A board's client that is killed and started again, and a board that is out of reach.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use tests::{Lab, run, wait_for_words};

use super::{EVENT_LIMIT, FAULTY, Fault, by_default, done};
use crate::scene::GRAPHS;

#[test]
fn a_client_is_killed_and_started_again() {
    run("fault-client", |lab| {
        let mut fault = Fault::begin(lab, "client SIGKILL, started again", by_default())?;
        fault.build.kill()?;
        let before = fault.said()?;
        std::thread::sleep(Duration::from_secs(2));
        let arguments = ["build", GRAPHS, "-A", FAULTY, "--no-out-link", "--log"];
        fault.build = fault.scene.client().start("again", &arguments)?;
        let said = wait_for_words(&mut fault.build, EVENT_LIMIT, "is under way for the same outputs")?;
        ensure!(!said.contains("uploading"), "sources are sent again:\n{said}");
        fault.before = before;
        fault.end(lab, None, &BTreeSet::new()).map(drop)
    });
}

#[test]
fn a_boards_link_is_down_for_a_while() {
    run("fault-board-link", |lab| out_of_reach(lab, "board's link down for 6 s", 6));
}

#[test]
#[ignore = "tier long: a minute of waiting"]
fn a_boards_link_is_down_for_a_minute() {
    run("fault-board-minute", |lab| out_of_reach(lab, "board's link down for a minute", 60));
}

/// All is built meanwhile, and comes when the board is back.
fn out_of_reach(lab: &Lab, what: &'static str, seconds: u64) -> anyhow::Result<()> {
    let fault = Fault::begin(lab, what, by_default())?;
    fault.scene.board.host.set_blackhole(true)?;
    std::thread::sleep(Duration::from_secs(seconds));
    let known = done(&fault.said()?).len();
    ensure!(known < super::TASKS, "all was built before: the test shows nothing");
    fault.scene.board.host.set_blackhole(false)?;
    fault.end(lab, None, &BTreeSet::new()).map(drop)
}
