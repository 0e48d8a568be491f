//! W3C trace context across processes: gRPC metadata, maps of text, the environment.

use std::collections::HashMap;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataKey, MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The current span's context, for a lease or a child process. Empty when nothing is traced.
#[must_use]
pub fn current() -> HashMap<String, String> {
    of(&Span::current())
}

/// A span's context. Empty when nothing is traced.
#[must_use]
pub fn of(span: &Span) -> HashMap<String, String> {
    let mut pairs = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut pairs);
    pairs
}

/// Puts the current span's context into a call.
pub fn inject(metadata: &mut MetadataMap) {
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Metadata(metadata));
}

/// A request that carries the current span's context.
#[must_use]
pub fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    inject(request.metadata_mut());
    request
}

/// For tonic's `with_interceptor`: every call carries the context of the span in which it is made.
///
/// # Errors
/// None; the type is tonic's.
pub fn interceptor(mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
    inject(request.metadata_mut());
    Ok(request)
}

/// Makes what `pairs` describe the parent of a span that was not entered yet. Nonsense is ignored.
pub fn set_parent<K: AsRef<str>, V: AsRef<str>>(span: &Span, pairs: impl IntoIterator<Item = (K, V)>) {
    let pairs: HashMap<String, String> = pairs
        .into_iter()
        .map(|(key, value)| (key.as_ref().to_ascii_lowercase(), value.as_ref().to_owned()))
        .collect();
    adopt(span, &pairs);
}

/// Makes the context in a request's headers the parent of a span that was not entered yet.
pub fn set_parent_from_headers(span: &Span, headers: &HeaderMap) {
    adopt(span, &Headers(headers));
}

/// Makes `TRACEPARENT` and `TRACESTATE` of the environment, if set, the parent of a span that was not entered yet.
pub fn set_parent_from_environment(span: &Span) {
    let named =
        |name: &str| std::env::var(name.to_ascii_uppercase()).ok().map(|value| (name.to_owned(), value));
    set_parent(span, ["traceparent", "tracestate"].into_iter().filter_map(named));
}

/// The current trace's id in hexadecimal digits, to tell people; `None` when nothing is traced.
#[must_use]
pub fn trace_id() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
}

fn adopt(span: &Span, from: &dyn Extractor) {
    let context = TraceContextPropagator::new().extract(from);
    if context.span().span_context().is_valid() {
        // It fails where nothing is traced: then there is nothing to do.
        let _ = span.set_parent(context);
    }
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (key.parse::<MetadataKey<_>>(), value.parse()) {
            self.0.insert(key, value);
        }
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
