//! A real Jaeger in a host of its own, in memory: traces arrive over OTLP, tests ask its query API.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::host::{Bind, Host, HostSpec, User};
use crate::lab::Lab;
use crate::process::{Process, wait_until};

const OTLP_PORT: u16 = 4317;
const QUERY_PORT: u16 = 16686;

/// A running Jaeger.
#[derive(Debug)]
pub struct Jaeger {
    host: Host,
    _process: Process,
}

/// One span of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The span it is a child of, when it is one.
    pub parent: Option<String>,
    /// Operation.
    pub name: String,
    /// The program that made it.
    pub service: String,
    /// Microseconds.
    pub duration_us: u64,
    /// Attributes, as text.
    pub tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    #[serde(rename = "traceID")]
    trace_id: String,
    spans: Vec<RawSpan>,
    processes: BTreeMap<String, RawProcess>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawProcess {
    service_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpan {
    #[serde(rename = "spanID")]
    span_id: String,
    operation_name: String,
    #[serde(rename = "processID")]
    process_id: String,
    #[serde(default)]
    references: Vec<Reference>,
    duration: u64,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    value: serde_json::Value,
}

impl Jaeger {
    /// Starts Jaeger and waits for its query API.
    ///
    /// # Errors
    /// Set-up did not build it, or it does not come up.
    pub fn start(lab: &Lab) -> Result<Self> {
        let program = lab.cache().product("jaeger/jaeger")?;
        let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/jaeger");
        let bind = |source, target: &str| Bind { source, target: target.into(), writable: false };
        let binds = vec![bind(program, "/opt/jaeger"), bind(configuration, "/etc/jaeger")];
        let root = lab.cache().product("roots/bookworm-executor")?;
        let host = lab.host(HostSpec { name: "jaeger".into(), root, binds, ..HostSpec::default() })?;
        let (otlp, query) = (format!("0.0.0.0:{OTLP_PORT}"), format!("0.0.0.0:{QUERY_PORT}"));
        let environment =
            [("ELSEWHERE_JAEGER_OTLP", otlp.as_str()), ("ELSEWHERE_JAEGER_QUERY", query.as_str())];
        let argv = ["/opt/jaeger", "--config=file:/etc/jaeger/config.yaml"];
        let process = host.service(User::Root, "jaeger", &argv, &environment)?;
        let jaeger = Self { host, _process: process };
        wait_until("Jaeger's query API", Duration::from_secs(60), || Ok(jaeger.get("/api/services").ok()))?;
        Ok(jaeger)
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT` for other hosts.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}:{OTLP_PORT}", self.host.address())
    }

    /// The services that sent spans.
    ///
    /// # Errors
    /// Jaeger does not answer.
    pub fn services(&self) -> Result<Vec<String>> {
        let answer: Answer<String> = serde_json::from_str(&self.get("/api/services")?)?;
        Ok(answer.data.unwrap_or_default())
    }

    /// The newest traces that a service takes part in, by id.
    ///
    /// # Errors
    /// Jaeger does not answer.
    pub fn traces_of(&self, service: &str) -> Result<BTreeMap<String, Vec<Span>>> {
        self.traces(&format!("/api/traces?service={service}&limit=200&lookback=1h"))
    }

    /// All spans of one trace.
    ///
    /// # Errors
    /// Jaeger does not have it (yet).
    pub fn trace(&self, trace_id: &str) -> Result<Vec<Span>> {
        let mut traces = self.traces(&format!("/api/traces/{trace_id}"))?;
        traces.remove(trace_id).with_context(|| format!("Jaeger has no trace {trace_id}"))
    }

    fn traces(&self, path: &str) -> Result<BTreeMap<String, Vec<Span>>> {
        let answer: Answer<Trace> =
            serde_json::from_str(&self.get(path)?).with_context(|| format!("read Jaeger's {path}"))?;
        let traces = answer.data.unwrap_or_default().into_iter();
        Ok(traces.map(|trace| (trace.trace_id.clone(), spans(trace))).collect())
    }

    fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://127.0.0.1:{QUERY_PORT}{path}");
        self.host.exec(User::Root, &["busybox", "wget", "-q", "-O", "-", &url], &[])?.success()
    }
}

fn spans(trace: Trace) -> Vec<Span> {
    let processes = trace.processes;
    let spans = trace.spans.into_iter().map(|span| {
        let parent = span.references.into_iter().find(|reference| reference.ref_type == "CHILD_OF");
        let service = processes.get(&span.process_id).map(|process| process.service_name.clone());
        let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Span {
            id: span.span_id,
            parent: parent.map(|reference| reference.span_id),
            name: span.operation_name,
            service: service.unwrap_or_default(),
            duration_us: span.duration,
            tags: span.tags.into_iter().map(|tag| (tag.key, text(tag.value))).collect(),
        }
    });
    spans.collect()
}
