//! What happens in a world, in order, with its virtual time: for checks, for people, and to compare two runs of a seed.
use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// An executor began to build: which derivation, in which lease.
    Started(String, String),
    /// It has outputs or a failure.
    Ended(String, String),
    /// A build was asked for whose output was there.
    Held(String),
    /// A board's user saw a line.
    Seen(String),
    /// A board's command ended with a code.
    Exit(u8),
    /// A fault begins or ends.
    Fault(String),
    /// A program said something: its words, and the field `executor`, if any.
    Said(String, String),
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Virtual time.
    pub at: Duration,
    /// Where.
    pub host: String,
    /// What.
    pub what: What,
}

static RECORD: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
static NOW_US: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static HOST: RefCell<String> = const { RefCell::new(String::new()) };
}

fn record() -> MutexGuard<'static, Vec<Entry>> {
    RECORD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Between two steps, the world says how late it is.
pub fn set_now(now: Duration) {
    NOW_US.store(u64::try_from(now.as_micros()).unwrap(), Ordering::SeqCst);
}

/// The world's time, as of the last step.
pub fn now() -> Duration {
    Duration::from_micros(NOW_US.load(Ordering::SeqCst))
}

/// Adds what happened on a host.
pub fn add(host: &str, what: What) {
    let at = now();
    record().push(Entry { at, host: host.to_owned(), what });
}

/// Whether something like this has happened.
pub fn any(is_it: impl Fn(&Entry) -> bool) -> bool {
    record().iter().any(is_it)
}

/// All that happened.
pub fn all() -> Vec<Entry> {
    record().clone()
}

/// A number that is the same for runs in which the same things happened in the same order.
pub fn fingerprint() -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in record().iter() {
        line(entry).hash(&mut hasher);
    }
    hasher.finish()
}

/// An entry for people.
pub fn line(entry: &Entry) -> String {
    let Entry { at, host, what } = entry;
    let text = match what {
        What::Started(drv, lease) => format!("builds {drv} (lease {lease})"),
        What::Ended(drv, how) => format!("{drv}: {how}"),
        What::Held(drv) => format!("has {drv} already"),
        What::Seen(line) => format!("user sees: {line}"),
        What::Exit(code) => format!("exit code {code}"),
        What::Fault(text) => format!("##### {text}"),
        What::Said(text, _) => text.clone(),
    };
    format!("{:9.3} {host:12} {text}", at.as_secs_f64())
}

/// Records what the programs say.
pub struct Listener {
    /// The least important that is recorded.
    pub level: Level,
}

#[derive(Default)]
struct Words {
    text: String,
    executor: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "executor" {
            self.executor = format!("{value:?}");
        }
        let written = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            // Numbers of processes and ports, and processor time, are others in each run.
            name => write!(self.text, " {name}={value:?}"),
        };
        let _never = written;
    }
}

impl<S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let ours = ["coordinator", "executor", "node", "client", "cas", "scheduler"];
        let target = metadata.target().split("::").next().unwrap_or_default();
        if !ours.contains(&target) || *metadata.level() > self.level {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        HOST.with_borrow(|host| add(host, What::Said(words.text, words.executor)));
    }

    /// turmoil enters a span of each host whenever it is its turn.
    fn on_enter(&self, id: &tracing::span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(name) = span.extensions().get::<HostName>() {
            HOST.with_borrow_mut(|host| host.clone_from(&name.0));
        }
    }

    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::span::Id,
        context: Context<'_, S>,
    ) {
        if attributes.metadata().name() != "node" {
            return;
        }
        let mut name = HostName::default();
        attributes.record(&mut name);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(name);
        }
    }
}

#[derive(Default)]
struct HostName(String);

impl Visit for HostName {
    fn record_debug(&mut self, _field: &Field, value: &dyn std::fmt::Debug) {
        self.0 = format!("{value:?}").trim_matches('"').to_owned();
    }
}
