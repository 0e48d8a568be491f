//! One trace for one command, in a real Jaeger: spans of client, coordinator and executor below one another.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{ClusterSpec, Jaeger, Span, run, wait_until};

use crate::scene::Scene;

const CLIENT: &str = "elsewhere";
const COORDINATOR: &str = "elsewhere-coordinator";
const EXECUTOR: &str = "elsewhere-executor";
/// Derivations of the graph.
const TASKS: usize = 7;
/// Who tells of what, at least how often.
const STEPS: &[(&str, &str, usize)] = &[
    (CLIENT, "elsewhere build", 1),
    (CLIENT, "submit", 1),
    (CLIENT, "upload", 2),
    (CLIENT, "watch", 1),
    (CLIENT, "import", 1),
    (COORDINATOR, "plan", 1),
    (COORDINATOR, "queue", 1),
    (COORDINATOR, "lease", TASKS),
    (COORDINATOR, "pull", 1),
    (EXECUTOR, "build", TASKS),
    (EXECUTOR, "inputs", TASKS),
    (EXECUTOR, "fetch", 1),
    (EXECUTOR, "sandbox", TASKS),
    (EXECUTOR, "outputs", TASKS),
];
/// Programs hand over their spans once a second.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_command_is_one_trace_through_all_programs() {
    run("trace", |lab| {
        let jaeger = Jaeger::start(lab)?;
        let spec = ClusterSpec { collector: Some(jaeger.endpoint()), ..ClusterSpec::default() };
        let scene = Scene::start(lab, spec)?;
        let built = scene.build("ordinary")?;
        let said = built.stderr.clone();
        built.success()?;
        let id = said.lines().find_map(|line| line.strip_prefix("trace ")).context("no trace is named")?;
        let spans = wait_until("spans of all programs", ARRIVAL_LIMIT, || {
            let spans = jaeger.trace(id).unwrap_or_default();
            Ok(complete(&spans).then_some(spans))
        });
        let spans =
            spans.with_context(|| format!("what came: {}", tree(&jaeger.trace(id).unwrap_or_default())))?;
        println!("{} spans", spans.len());
        check(&spans).with_context(|| tree(&spans))
    });
}

/// Every step of the way, and every derivation's run.
fn complete(spans: &[Span]) -> bool {
    let count = |(service, name, least): &(&str, &str, usize)| {
        spans.iter().filter(|span| span.service == *service && span.name == *name).count() >= *least
    };
    STEPS.iter().all(count)
}

fn check(spans: &[Span]) -> Result<()> {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    for span in spans {
        match &span.parent {
            Some(parent) => ensure!(by_id.contains_key(parent.as_str()), "{span:?} has an unknown parent"),
            None => {
                ensure!(span.service == CLIENT && span.name == "elsewhere build", "another root: {span:?}")
            }
        }
    }
    // Each step below the one that caused it, up to the command.
    for (name, above) in [
        ("sandbox", &["build", "lease", "plan", "elsewhere build"][..]),
        ("inputs", &["build", "lease", "plan", "elsewhere build"]),
        ("outputs", &["build", "lease", "plan", "elsewhere build"]),
        ("queue", &["plan", "elsewhere build"]),
        ("pull", &["plan", "elsewhere build"]),
        ("upload", &["submit", "elsewhere build"]),
        ("import", &["watch", "elsewhere build"]),
    ] {
        for span in spans.iter().filter(|span| span.name == name) {
            let lineage = lineage(span, &by_id);
            let mut rest = lineage.iter();
            let in_order = above.iter().all(|wanted| rest.any(|name| name == wanted));
            ensure!(in_order, "{name} is below {lineage:?}, and should be below {above:?}");
        }
    }
    // What a build used: process 1 has some memory even where no cgroups measure.
    for span in spans.iter().filter(|span| span.name == "sandbox") {
        let number = |name: &str| span.tags.get(name).and_then(|text| text.parse::<u64>().ok());
        let used = ["memory_bytes_peak", "cpu_ms", "read_bytes", "written_bytes"].map(number);
        ensure!(used[0] > Some(0) && !used.contains(&None), "what was used is missing: {span:?}");
    }
    Ok(())
}

/// Names of the spans above one.
fn lineage<'a>(span: &Span, by_id: &BTreeMap<&str, &'a Span>) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut at = span.parent.as_deref();
    while let Some(parent) = at.and_then(|id| by_id.get(id)) {
        names.push(parent.name.as_str());
        at = parent.parent.as_deref();
    }
    names
}

fn tree(spans: &[Span]) -> String {
    let line = |span: &Span| {
        format!("{} {:?} {} {} {} us", span.id, span.parent, span.service, span.name, span.duration_us)
    };
    spans.iter().map(line).collect::<Vec<_>>().join("\n")
}
