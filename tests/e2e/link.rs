//! What the board's link carries, by the counters of its interface.

use anyhow::{Context, Result, ensure};
use tests::{ClusterSpec, Lab, run};

use crate::scene::{GRAPHS, PLAN_LIMIT, Scene};

/// Beyond content: for the plan, and for each task.
const PLAN_BYTES_MAX: u64 = 64 << 10;
const TASK_BYTES_MAX: u64 = 1 << 10;

#[test]
fn many_small_tasks_cost_the_link_little() {
    run("link-tasks", |lab| carried(lab, "shared"));
}

#[test]
fn large_intermediates_never_travel_on_the_link() {
    run("link-bytes", |lab| carried(lab, "heavy"));
}

fn carried(lab: &Lab, attribute: &str) -> Result<()> {
    let scene = Scene::start(lab, ClusterSpec::default())?;
    let store = scene.board.store();
    let derivation = store.instantiate(GRAPHS, &[attribute], &[])?;
    let up: Vec<String> = store.closure(&derivation)?;
    let tasks = u64::try_from(up.iter().filter(|path| path.ends_with(".drv")).count())?;
    let before = scene.board.host.traffic()?;
    let root = derivation.first().context("no derivation")?;
    let built = scene.client().run(PLAN_LIMIT, &["build", root, "--no-out-link"])?;
    let shown = u64::try_from(built.stderr.len())?;
    let result = vec![built.success()?];
    let after = scene.board.host.traffic()?;

    let bytes = |paths: &[String]| -> Result<u64> {
        Ok(store.path_infos(paths)?.values().map(|info| info.nar_size).sum())
    };
    let down: Vec<String> = store.closure(&result)?.into_iter().filter(|path| !up.contains(path)).collect();
    let (down, up) = (bytes(&down)?, bytes(&up)?);
    let received = after.received_bytes - before.received_bytes;
    let sent = after.sent_bytes - before.sent_bytes;
    let beyond = (received + sent).saturating_sub(down + up);
    println!(
        "{attribute}: {tasks} tasks; content down {down} B, up {up} B; on the link {received} B down, {sent} B up: \
         {beyond} B beyond content, {} B allowed",
        PLAN_BYTES_MAX + tasks * TASK_BYTES_MAX + shown
    );
    // Compression makes it less than the content, nothing makes it so little.
    ensure!(received + sent >= (down + up) / 50, "hardly anything was carried: it is counted wrongly");
    ensure!(
        beyond <= PLAN_BYTES_MAX + tasks * TASK_BYTES_MAX + shown,
        "{beyond} bytes beyond {down} of results and {up} of derivations and sources, for {tasks} tasks"
    );
    Ok(())
}
