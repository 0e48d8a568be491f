//! The demo's trace: spans that the programs wrote to files, as a waterfall, and what they tell about who built what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

const BAR_COLUMNS: u64 = 40;
/// Spans shorter than this part of the whole are left out of the waterfall, and counted.
const SHORTEST_PART: u64 = 100;

/// One line of a span file (`ELSEWHERE_SPAN_FILE`).
#[derive(Clone, Debug, Deserialize)]
pub struct Span {
    trace: String,
    span: String,
    parent: String,
    name: String,
    service: String,
    begin_us: u64,
    end_us: u64,
    attributes: BTreeMap<String, String>,
    /// The host whose file it was in.
    #[serde(skip)]
    host: String,
}

/// All spans of one trace, in order of their start.
pub struct Trace {
    spans: Vec<Span>,
}

impl Trace {
    /// Reads each host's file and keeps the trace that has most spans: the build's.
    pub fn read(files: &[(String, PathBuf)]) -> Result<Self> {
        let mut spans = Vec::new();
        for (host, file) in files.iter().filter(|(_, file)| file.exists()) {
            let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            for line in text.lines() {
                let span: Span = serde_json::from_str(line)
                    .with_context(|| format!("read a span in {}", file.display()))?;
                spans.push(Span { host: host.clone(), ..span });
            }
        }
        Ok(Self::largest(spans))
    }

    fn largest(spans: Vec<Span>) -> Self {
        let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for span in spans {
            traces.entry(span.trace.clone()).or_default().push(span);
        }
        let mut spans = traces.into_values().max_by_key(Vec::len).unwrap_or_default();
        spans.sort_by_key(|span| span.begin_us);
        Self { spans }
    }

    /// The trace's id, if there is a trace.
    pub fn id(&self) -> Option<&str> {
        self.spans.first().map(|span| span.trace.as_str())
    }

    /// How many spans, and from which programs.
    pub fn size(&self) -> (usize, Vec<&str>) {
        let services: BTreeSet<&str> = self.spans.iter().map(|span| span.service.as_str()).collect();
        (self.spans.len(), services.into_iter().collect())
    }

    /// How many spans of this name there are for each value of an attribute and each host.
    pub fn count(&self, name: &str, attribute: &str) -> BTreeMap<(&str, &str), u64> {
        let mut counts = BTreeMap::new();
        for span in self.spans.iter().filter(|span| span.name == name) {
            let value = span.attributes.get(attribute).map_or("", String::as_str);
            *counts.entry((value, span.host.as_str())).or_default() += 1;
        }
        counts
    }

    /// The numbers that spans of this name have in an attribute, for each value of another and each host.
    pub fn numbers(&self, name: &str, by: &str, attribute: &str) -> BTreeMap<(&str, &str), Vec<u64>> {
        let mut numbers: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for span in self.spans.iter().filter(|span| span.name == name) {
            let value = span.attributes.get(by).map_or("", String::as_str);
            let number: Option<u64> = span.attributes.get(attribute).and_then(|number| number.parse().ok());
            numbers.entry((value, span.host.as_str())).or_default().extend(number);
        }
        numbers
    }

    /// The trace as text: a line a span, indented below its parent, with a bar for its time.
    pub fn waterfall(&self) -> Vec<String> {
        let Some(start) = self.spans.iter().map(|span| span.begin_us).min() else { return Vec::new() };
        let end = self.spans.iter().map(|span| span.end_us).max().unwrap_or(start);
        let whole = (end - start).max(1);
        let mut children: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        let known: BTreeSet<&str> = self.spans.iter().map(|span| span.span.as_str()).collect();
        for span in &self.spans {
            let parent =
                Some(span.parent.as_str()).filter(|parent| known.contains(parent)).unwrap_or_default();
            children.entry(parent).or_default().push(span);
        }
        let mut lines = Vec::new();
        let mut short = 0_u64;
        let mut waiting: Vec<(&Span, usize)> = roots(&children, "", 0);
        while let Some((span, depth)) = waiting.pop() {
            waiting.extend(roots(&children, &span.span, depth + 1));
            let (from, to) = (span.begin_us - start, span.end_us.saturating_sub(start));
            if to.saturating_sub(from) < whole / SHORTEST_PART {
                short += 1;
                continue;
            }
            lines.push(line(span, depth, from, to, whole));
        }
        if short > 0 {
            lines.push(format!("and {short} spans of less than a hundredth of the whole"));
        }
        lines
    }
}

/// The children of a span in the order in which a stack gives them back by start.
fn roots<'a>(children: &BTreeMap<&str, Vec<&'a Span>>, parent: &str, depth: usize) -> Vec<(&'a Span, usize)> {
    children.get(parent).into_iter().flatten().rev().map(|span| (*span, depth)).collect()
}

fn line(span: &Span, depth: usize, from: u64, to: u64, whole: u64) -> String {
    let column = |at: u64| at.saturating_mul(BAR_COLUMNS) / whole;
    let (first, last) = (column(from), column(to).max(column(from) + 1));
    let bar: String =
        (0..BAR_COLUMNS).map(|at| if (first..last).contains(&at) { '#' } else { '.' }).collect();
    let label =
        span.attributes.get("name").map_or_else(|| span.name.clone(), |name| format!("{} {name}", span.name));
    let text = format!("{:indent$}{} {label}", "", span.service, indent = depth * 2);
    let seconds = format!("{}.{:02}", (to - from) / 1_000_000, (to - from) / 10_000 % 100);
    format!("{bar} {seconds:>7} s  {}", text.chars().take(90).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::{Span, Trace};

    fn span(trace: &str, id: &str, parent: &str, from: u64, to: u64) -> Span {
        Span {
            trace: trace.into(),
            span: id.into(),
            parent: parent.into(),
            name: format!("n{id}"),
            service: "s".into(),
            begin_us: from * 1_000_000,
            end_us: to * 1_000_000,
            attributes: std::collections::BTreeMap::default(),
            host: String::new(),
        }
    }

    #[test]
    fn children_stand_below_their_parent_in_order() {
        let spans = vec![
            span("t", "3", "1", 60, 100),
            span("t", "1", "", 0, 100),
            span("t", "2", "1", 0, 50),
            span("t", "4", "2", 10, 20),
            span("t", "5", "lost", 30, 31),
            span("other", "9", "", 0, 1),
        ];
        let trace = Trace::largest(spans);
        assert_eq!((trace.id(), trace.size()), (Some("t"), (5, vec!["s"])));
        let lines = trace.waterfall();
        let names: Vec<&str> =
            lines.iter().map(|line| line.rsplit("  ").next().unwrap_or_default().trim()).collect();
        assert_eq!(names, ["s n1", "s n2", "s n4", "s n3", "s n5"]);
        assert!(lines[3].starts_with(&format!("{}{}", ".".repeat(24), "#".repeat(16))), "{}", lines[3]);
    }
    #[test]
    fn what_builds_used_is_found_by_platform_and_host() {
        let used = |id: &str, host: &str, memory: &str| {
            let attributes = [("platform", "native"), ("memory", memory)];
            let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            Span { name: "sandbox".into(), attributes, host: host.into(), ..span("t", id, "", 0, 1) }
        };
        let spans =
            vec![used("1", "a", "5"), used("2", "a", "70"), used("3", "b", "x"), span("t", "4", "", 0, 1)];
        let trace = Trace::largest(spans);
        let expected = [(("native", "a"), vec![5, 70]), (("native", "b"), vec![])];
        assert_eq!(trace.numbers("sandbox", "platform", "memory"), expected.into());
    }
}
