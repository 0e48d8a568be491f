//! Logs on standard error, and spans to an OTLP collector, a file, or nobody.

mod export;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use thiserror::Error;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Spans that wait for export; more are dropped.
const QUEUE_SPANS_MAX: usize = 8192;
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON lines elsewhere.
    #[default]
    Auto,
    /// Text.
    Human,
    /// JSON lines.
    Json,
}

/// What to log and where spans go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is logged, as tracing's `EnvFilter` reads it.
    pub filter: String,
    /// How logs look.
    pub format: Format,
    /// OTLP/gRPC collector, for example `http://127.0.0.1:4317`.
    pub collector: Option<String>,
    /// File to which spans are appended, one JSON object a line.
    pub span_file: Option<PathBuf>,
    /// Further attributes of this process, for example its name in the cluster.
    pub attributes: Vec<(String, String)>,
    /// How long the last export may take.
    pub flush_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: Format::Auto,
            collector: None,
            span_file: None,
            attributes: Vec::new(),
            flush_timeout: Duration::from_secs(3),
        }
    }
}

impl Settings {
    /// From `ELSEWHERE_LOG` (else `filter`), `OTEL_EXPORTER_OTLP_ENDPOINT` and `ELSEWHERE_SPAN_FILE`.
    #[must_use]
    pub fn from_environment(filter: &str) -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            filter: set("ELSEWHERE_LOG").unwrap_or_else(|| filter.to_owned()),
            collector: set("OTEL_EXPORTER_OTLP_ENDPOINT"),
            span_file: set("ELSEWHERE_SPAN_FILE").map(PathBuf::from),
            ..Self::default()
        }
    }

    /// With one more attribute of this process.
    #[must_use]
    pub fn with_attribute(mut self, key: &str, value: &str) -> Self {
        self.attributes.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// Telemetry that cannot be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter is wrong.
    #[error("use {filter:?} as a log filter")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The collector's address is wrong.
    #[error("export spans to {collector}")]
    Collector {
        /// As given.
        collector: String,
        /// What is wrong with it.
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// The file for spans cannot be opened.
    #[error("append spans to {path}")]
    SpanFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is telemetry already.
    #[error("set up telemetry in this process")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Keeps telemetry going; ends with [`Guard::shutdown`].
#[derive(Debug)]
#[must_use = "spans that wait are lost without shutdown"]
pub struct Guard {
    providers: Vec<SdkTracerProvider>,
    flush_timeout: Duration,
}

impl Guard {
    /// Exports what waits, for at most the flush timeout.
    pub async fn shutdown(self) {
        let timeout = self.flush_timeout;
        for provider in self.providers {
            // The exporter needs this runtime to go on: it must not be blocked.
            let flushed = tokio::task::spawn_blocking(move || drop(provider.shutdown_with_timeout(timeout)));
            let _ = tokio::time::timeout(timeout, flushed).await;
        }
    }
}

/// Sets up logs and spans of this process. With a collector, it must be called inside a runtime.
///
/// # Errors
/// A setting is wrong, or there is telemetry already.
pub fn init(service: &'static str, settings: Settings) -> Result<Guard, TelemetryError> {
    let filter = EnvFilter::try_new(&settings.filter)
        .map_err(|source| TelemetryError::Filter { filter: settings.filter.clone(), source })?;
    let json = match settings.format {
        Format::Auto => !std::io::stderr().is_terminal(),
        Format::Human => false,
        Format::Json => true,
    };
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log: Box<dyn Layer<Registry> + Send + Sync> = if json {
        log.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
    } else {
        log.with_target(false).with_filter(filter).boxed()
    };
    let provider = provider(service, &settings)?;
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("elsewhere"))
            .with_location(false)
            .with_threads(false)
            .with_filter(filter_fn(is_for_export))
    });
    tracing_subscriber::registry().with(log).with(spans).try_init().map_err(TelemetryError::Twice)?;
    Ok(Guard { providers: provider.into_iter().collect(), flush_timeout: settings.flush_timeout })
}

/// All our spans, so that a span's context always exists; no event of detail; nothing of what the export itself uses.
fn is_for_export(metadata: &Metadata<'_>) -> bool {
    const NOT: [&str; 6] = ["opentelemetry", "tonic", "h2", "hyper", "tower", "rustls"];
    let room = metadata.target().split("::").next().unwrap_or_default();
    let excluded = NOT.iter().any(|prefix| room.starts_with(prefix));
    !excluded && (metadata.is_span() || *metadata.level() <= Level::INFO)
}

fn provider(service: &'static str, settings: &Settings) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    if settings.collector.is_none() && settings.span_file.is_none() {
        return Ok(None);
    }
    let attributes = settings.attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())))
        .with_attributes(attributes)
        .build();
    let mut builder = SdkTracerProvider::builder().with_resource(resource);
    if let Some(collector) = &settings.collector {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(collector)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|source| TelemetryError::Collector { collector: collector.clone(), source })?;
        builder = builder.with_span_processor(batched(export::WarnOnce::new(exporter)));
    }
    if let Some(path) = &settings.span_file {
        let exporter = export::SpanFile::open(service, path)
            .map_err(|source| TelemetryError::SpanFile { path: path.clone(), source })?;
        builder = builder.with_span_processor(batched(exporter));
    }
    Ok(Some(builder.build()))
}

fn batched(exporter: impl opentelemetry_sdk::trace::SpanExporter + 'static) -> BatchSpanProcessor {
    let limits = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SPANS_MAX)
        .with_scheduled_delay(EXPORT_INTERVAL)
        .build();
    BatchSpanProcessor::builder(exporter).with_batch_config(limits).build()
}
