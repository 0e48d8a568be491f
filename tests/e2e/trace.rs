//! One trace for one command, in a real Jaeger: spans of client, coordinator and executor below one another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{ClusterSpec, Jaeger, Span, run, wait_until};

use crate::scene::Scene;

const SERVICES: &[&str] = &["elsewhere", "elsewhere-coordinator", "elsewhere-executor"];
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

/// Every program, and every task's run.
fn complete(spans: &[Span]) -> bool {
    let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    SERVICES.iter().all(|service| services.contains(service))
        && spans.iter().any(|span| span.parent.is_none())
}

fn check(spans: &[Span]) -> Result<()> {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    let roots: Vec<&Span> = spans.iter().filter(|span| span.parent.is_none()).collect();
    ensure!(roots.len() == 1 && roots[0].service == "elsewhere", "not one root, of the client");
    for span in spans {
        if let Some(parent) = &span.parent {
            ensure!(
                by_id.contains_key(parent.as_str()),
                "{} of {} has an unknown parent",
                span.name,
                span.service
            );
        }
    }
    // Whoever is below whom: the executor's work below the coordinator's, that below the client's.
    let lineage = |span: &Span| {
        let mut services = vec![span.service.clone()];
        let mut at = span.parent.as_deref();
        while let Some(parent) = at.and_then(|id| by_id.get(id)) {
            services.push(parent.service.clone());
            at = parent.parent.as_deref();
        }
        services.dedup();
        services
    };
    let executor = spans.iter().filter(|span| span.service == "elsewhere-executor");
    let below: BTreeSet<Vec<String>> = executor.map(lineage).collect();
    ensure!(
        below.iter().any(|line| *line == ["elsewhere-executor", "elsewhere-coordinator", "elsewhere"]),
        "no executor's span is below the coordinator's and the client's: {below:?}"
    );
    Ok(())
}

fn tree(spans: &[Span]) -> String {
    let line = |span: &Span| {
        format!("{} {:?} {} {} {} us", span.id, span.parent, span.service, span.name, span.duration_us)
    };
    spans.iter().map(line).collect::<Vec<_>>().join("\n")
}
