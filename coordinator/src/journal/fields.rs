//! How lists and closed enums look in the journal's columns.
use model::{ContentId, ExecutorName, FailureClass, Kind, StorePath, TrustDomain};
use scheduler::{Holder, PlanSummary, Root};
use std::collections::HashMap;

/// Classes of failure by name; a name is never reused.
const CLASSES: [(&str, FailureClass); 10] = [
    ("build-failed", FailureClass::BuildFailed),
    ("output-rejected", FailureClass::OutputRejected),
    ("input-rejected", FailureClass::InputRejected),
    ("timed-out", FailureClass::TimedOut),
    ("log-limit-exceeded", FailureClass::LogLimitExceeded),
    ("infrastructure", FailureClass::Infrastructure),
    ("input-missing", FailureClass::InputMissing),
    ("out-of-disk", FailureClass::OutOfDisk),
    ("out-of-memory", FailureClass::OutOfMemory),
    ("cancelled", FailureClass::Cancelled),
];

pub(super) fn class_name(class: FailureClass) -> &'static str {
    CLASSES.iter().find(|pair| pair.1 == class).map_or("infrastructure", |pair| pair.0)
}

pub(super) fn parse_class(name: &str) -> Option<FailureClass> {
    CLASSES.iter().find(|pair| pair.0 == name).map(|pair| pair.1)
}

/// Kinds of derivations by name; a name is never reused.
const KINDS: [(&str, Kind); 4] =
    [("tiny", Kind::Tiny), ("fetch", Kind::Fetch), ("build", Kind::Build), ("heavy", Kind::Heavy)];

pub(super) fn kind_name(kind: Kind) -> &'static str {
    KINDS.iter().find(|pair| pair.1 == kind).map_or("build", |pair| pair.0)
}

pub(super) fn parse_kind(name: &str) -> Option<Kind> {
    KINDS.iter().find(|pair| pair.0 == name).map(|pair| pair.1)
}

pub(super) fn holder(holder: &Holder) -> String {
    match holder {
        Holder::Executor(name) => format!("executor {name}"),
        Holder::ContentStore => "content-store".to_owned(),
    }
}

pub(super) fn parse_holder(text: &str) -> Option<Holder> {
    match text.strip_prefix("executor ") {
        Some(name) => Some(Holder::Executor(ExecutorName(name.into()))),
        None => (text == "content-store").then_some(Holder::ContentStore),
    }
}

pub(super) fn paths(list: &[StorePath]) -> String {
    list.iter().map(StorePath::as_str).collect::<Vec<_>>().join("\n")
}

pub(super) fn parse_paths(text: &str) -> Vec<StorePath> {
    text.lines().map(StorePath::from_validated).collect()
}

fn id(id: &ContentId) -> String {
    format!("{} {}", id.domain, id.path)
}

pub(super) fn parse_id(domain: &str, path: &str) -> Option<ContentId> {
    Some(ContentId { domain: TrustDomain::parse(domain)?, path: StorePath::from_validated(path) })
}

pub(super) fn ids(list: &[ContentId]) -> String {
    list.iter().map(id).collect::<Vec<_>>().join("\n")
}

pub(super) fn parse_ids(text: &str) -> Option<Vec<ContentId>> {
    text.lines().map(|line| line.split_once(' ').and_then(|(domain, path)| parse_id(domain, path))).collect()
}

/// `DOMAIN PATH OUTPUT OUTPUT...`: an output's name has no space.
pub(super) fn roots(list: &[Root]) -> String {
    let line = |root: &Root| format!("{} {}", id(&root.task), root.outputs.join(" "));
    list.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn parse_roots(text: &str) -> Option<Vec<Root>> {
    let root = |line: &str| {
        let mut words = line.split(' ');
        let task = parse_id(words.next()?, words.next()?)?;
        Some(Root { task, outputs: words.map(ToOwned::to_owned).collect() })
    };
    text.lines().map(root).collect()
}

pub(super) fn trace(context: &HashMap<String, String>) -> String {
    let mut lines: Vec<_> = context.iter().map(|(key, value)| format!("{key} {value}")).collect();
    lines.sort();
    lines.join("\n")
}

pub(super) fn parse_trace(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

pub(super) fn summary(summary: &PlanSummary) -> String {
    let end = match summary {
        PlanSummary { cancelled: true, .. } => "cancelled",
        PlanSummary { succeeded: true, .. } => "succeeded",
        _ => "failed",
    };
    let PlanSummary { tasks_built, tasks_held, tasks_failed, tasks_dependency_failed, .. } = summary;
    let PlanSummary { duration_ms, bound_ms, .. } = summary;
    format!(
        "{end} {tasks_built} {tasks_held} {tasks_failed} {tasks_dependency_failed} {duration_ms} {bound_ms}"
    )
}

pub(super) fn parse_summary(text: &str) -> Option<PlanSummary> {
    let mut words = text.split(' ');
    let end = words.next()?;
    let mut number = || words.next()?.parse().ok();
    Some(PlanSummary {
        succeeded: end == "succeeded",
        cancelled: end == "cancelled",
        tasks_built: number()?,
        tasks_held: number()?,
        tasks_failed: number()?,
        tasks_dependency_failed: number()?,
        duration_ms: words.next()?.parse().ok()?,
        // Earlier versions did not write it.
        bound_ms: words.next().map_or(Ok(0), str::parse).ok()?,
    })
}
