//! Jaeger for the demo: started on loopback if set-up could build it, and asked whether the trace arrived.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::cache::Cache;
use crate::command::command;
use crate::demo::host::Service;

const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// A running Jaeger.
pub struct Jaeger {
    /// The process.
    pub service: Service,
    query: SocketAddr,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Vec<AnsweredTrace>>,
}

#[derive(Deserialize)]
struct AnsweredTrace {
    spans: Vec<serde_json::Value>,
}

impl Jaeger {
    /// Starts it, or says why the demo goes on without.
    pub fn start(cache: &Cache, logs: &Path, otlp: SocketAddr) -> Result<Option<Self>> {
        let program = cache.path("jaeger/jaeger");
        if !program.exists() {
            println!("  no Jaeger (set-up needs Go to build it): the trace is printed here instead");
            return Ok(None);
        }
        let (query, grpc) = (free_port(16686)?, free_port(16685)?);
        let config = crate::repository().join("deploy/jaeger/config.yaml");
        let mut start = command(&program.to_string_lossy(), &["--config", &config.to_string_lossy()]);
        start.env("ELSEWHERE_JAEGER_OTLP", otlp.to_string());
        start.env("ELSEWHERE_JAEGER_QUERY", query.to_string()).env("ELSEWHERE_JAEGER_GRPC", grpc.to_string());
        let mut service = Service::start("jaeger", &mut start, &logs.join("jaeger.log"))?;
        service.wait_until(Duration::from_secs(30), "its query API answers", || {
            get(query, "/api/services").is_ok()
        })?;
        Ok(Some(Self { service, query }))
    }

    /// Where a person looks at a trace.
    pub fn address(&self, trace: &str) -> String {
        format!("http://{}/api/traces/{trace}", self.query)
    }

    /// How many spans of a trace have arrived.
    pub fn span_count(&self, trace: &str) -> Result<usize> {
        let answer = get(self.query, &format!("/api/traces/{trace}"))?;
        let answer: Answer = serde_json::from_str(&answer).context("read what Jaeger answers")?;
        Ok(answer.data.unwrap_or_default().iter().map(|trace| trace.spans.len()).sum())
    }
}

/// The usual port, or another one when that is taken.
pub fn free_port(usual: u16) -> Result<SocketAddr> {
    let on =
        |port| std::net::TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
    on(usual).or_else(|_| on(0)).context("find a free port on loopback")
}

/// One HTTP/1.0 request without a library: the answer's body.
fn get(address: SocketAddr, path: &str) -> Result<String> {
    let limit = Duration::from_secs(5);
    let mut stream =
        TcpStream::connect_timeout(&address, limit).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut answer)
        .with_context(|| format!("read {path} from {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer without an end of its head")?;
    ensure!(head.contains(" 200 "), "{address}{path}: {}", head.lines().next().unwrap_or_default());
    Ok(body.to_string())
}
