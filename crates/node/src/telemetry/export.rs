//! Where spans go: a collector whose absence is mentioned once, or a file of JSON lines.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use serde_json::json;

/// Says once when spans cannot be exported; nothing else happens then.
#[derive(Debug)]
pub struct WarnOnce<E> {
    exporter: E,
    warned: AtomicBool,
}

impl<E> WarnOnce<E> {
    /// Wraps an exporter.
    pub fn new(exporter: E) -> Self {
        Self { exporter, warned: AtomicBool::new(false) }
    }
}

impl<E: SpanExporter> SpanExporter for WarnOnce<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) => self.warned.store(false, Ordering::Relaxed),
            Err(error) if !self.warned.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "spans are not exported; nothing else is affected");
            }
            Err(_) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Appends each span as one JSON object: service, name, trace, span, parent, begin and end in microseconds, attributes.
#[derive(Debug)]
pub struct SpanFile {
    service: &'static str,
    file: Mutex<File>,
}

impl SpanFile {
    /// Opens or makes the file.
    pub fn open(service: &'static str, path: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self { service, file: Mutex::new(file) })
    }

    fn line(&self, span: &SpanData) -> String {
        let attributes: serde_json::Map<String, serde_json::Value> =
            span.attributes.iter().map(|pair| (pair.key.to_string(), json!(pair.value.as_str()))).collect();
        let mut line = json!({
            "service": self.service,
            "name": span.name,
            "trace": span.span_context.trace_id().to_string(),
            "span": span.span_context.span_id().to_string(),
            "parent": span.parent_span_id.to_string(),
            "begin_us": microseconds(span.start_time),
            "end_us": microseconds(span.end_time),
            "attributes": attributes,
        })
        .to_string();
        line.push('\n');
        line
    }
}

fn microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl SpanExporter for SpanFile {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        // One write a span, so that several processes may append to one file.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        for span in &batch {
            file.write_all(self.line(span).as_bytes())
                .map_err(|error| OTelSdkError::InternalFailure(error.to_string()))?;
        }
        Ok(())
    }
}
