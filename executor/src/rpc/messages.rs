//! Messages of the Work service: wire to lease, results to wire.
use crate::lease::{Finished, Input, Lease, LeaseKey, Limits, Prefetch, Source, Subject, Times};
use model::{BootId, Capability, ContentId, Epoch, LeaseId, PathFacts, limits};
use proto::convert::{SignedPathInfo, WireError, path_info, report_outcome, store_path};
use proto::v1;
use proto::v1::executor_message::Message;

/// Inputs of one lease.
const INPUTS_MAX: usize = 100_000;
/// Sources of one input that are tried.
const SOURCES_MAX: usize = 16;

/// Reads a lease.
///
/// # Errors
/// Names the field that is wrong.
pub fn lease(wire: v1::Lease) -> Result<Lease, WireError> {
    let derivation: ContentId =
        wire.derivation.ok_or_else(|| WireError::new("derivation", "is missing"))?.try_into()?;
    if wire.derivation_text.len() > limits::DERIVATION_BYTES_MAX {
        return Err(WireError::new("derivation_text", format!("has {} bytes", wire.derivation_text.len())));
    }
    if wire.inputs.len() > INPUTS_MAX {
        return Err(WireError::new("inputs", format!("{} are more than {INPUTS_MAX}", wire.inputs.len())));
    }
    let platform = wire.platform.ok_or_else(|| WireError::new("platform", "is missing"))?.try_into()?;
    let built = match wire.resolved_path.as_str() {
        "" => derivation.path.clone(),
        path => store_path("resolved_path", path)?,
    };
    let none_if_zero = |value: u64| (value > 0).then_some(value);
    let limits = wire.limits.unwrap_or_default();
    Ok(Lease {
        key: LeaseKey { id: LeaseId(wire.lease_id), epoch: Epoch(wire.epoch) },
        derivation,
        built,
        derivation_text: wire.derivation_text.to_vec(),
        platform,
        inputs: wire.inputs.into_iter().map(input).collect::<Result<_, _>>()?,
        trace_context: wire.trace_context,
        limits: Limits {
            timeout_s: none_if_zero(limits.timeout_s),
            max_silent_s: none_if_zero(limits.max_silent_s),
            log_bytes_max: none_if_zero(limits.log_bytes_max),
        },
    })
}

/// What may be fetched ahead; of more than the protocol allows, the first.
///
/// # Errors
/// Names the field that is wrong.
pub fn prefetch(wire: v1::Prefetch) -> Result<Prefetch, WireError> {
    let inputs = wire.inputs.into_iter().take(limits::PREFETCHED_INPUTS_MAX).map(input);
    Ok(Prefetch { inputs: inputs.collect::<Result<_, _>>()?, trace_context: wire.trace_context })
}

fn input(wire: v1::Input) -> Result<Input, WireError> {
    let info: SignedPathInfo = wire.info.ok_or_else(|| WireError::new("info", "is missing"))?.try_into()?;
    let source = |wire: v1::Source| match wire.source? {
        v1::source::Source::ExecutorAddress(address) if model::content::is_host_name(&wire.executor_name) => {
            Some(Source::Executor { address, name: wire.executor_name })
        }
        v1::source::Source::ContentStore(true) => Some(Source::ContentStore),
        // Kinds of a later version, and executors without a name to check: the other sources remain.
        _ => None,
    };
    let sources = wire.sources.into_iter().filter_map(source).take(SOURCES_MAX).collect();
    Ok(Input { id: info.id, facts: info.facts, sources })
}

/// The first message of a session.
pub fn hello(
    boot_id: BootId,
    data_address: &str,
    capability: &Capability,
    running: &[(LeaseKey, Subject)],
) -> Message {
    Message::Hello(v1::ExecutorHello {
        protocol_version: limits::PROTOCOL_VERSION,
        boot_id: bytes::Bytes::copy_from_slice(&boot_id.0),
        data_address: data_address.to_owned(),
        capability: Some(capability.into()),
        running: running.iter().map(|(key, subject)| running_lease(*key, Some(subject))).collect(),
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// That this executor lives, and what it believes.
pub fn heartbeat(free_disk_bytes: u64, is_full: bool, running: &[(LeaseKey, Subject)]) -> Message {
    // The hello has said what they are for.
    let running = running.iter().map(|(key, _)| running_lease(*key, None)).collect();
    Message::Heartbeat(v1::Heartbeat { free_disk_bytes, running, is_full })
}

/// A lease that this executor runs or has a result of; with what it is for, where that may not be known.
pub fn running_lease(key: LeaseKey, subject: Option<&Subject>) -> v1::RunningLease {
    v1::RunningLease {
        lease_id: key.id.0,
        epoch: key.epoch.0,
        derivation: subject.map(|subject| (&subject.derivation).into()),
        platform: subject.and_then(|subject| subject.platform.as_ref()).map(Into::into),
    }
}

/// Reads back what [`running_lease`] wrote.
///
/// # Errors
/// Names the field that is wrong.
pub fn subject(wire: v1::RunningLease) -> Result<(LeaseKey, Subject), WireError> {
    let key = LeaseKey { id: LeaseId(wire.lease_id), epoch: Epoch(wire.epoch) };
    let derivation = wire.derivation.ok_or_else(|| WireError::new("derivation", "is missing"))?.try_into()?;
    let platform = wire.platform.map(TryInto::try_into).transpose()?;
    Ok((key, Subject { derivation, platform }))
}

/// A part of what this executor holds.
pub fn inventory<'a>(held: impl Iterator<Item = (&'a ContentId, &'a PathFacts)>, last: bool) -> Message {
    Message::Inventory(v1::Inventory { held: held.map(|(id, facts)| path_info(id, facts)).collect(), last })
}

/// What this executor would like to drop.
pub fn would_drop(number: u64, ids: &[ContentId]) -> Message {
    Message::WouldDrop(v1::WouldDrop { number, ids: ids.iter().map(Into::into).collect() })
}

/// What this executor may drop, and to which question that is the answer. What is not a path cannot be held.
pub fn may_drop(wire: v1::MayDrop) -> (u64, Vec<ContentId>) {
    let ids = wire.ids.into_iter().take(limits::DROPS_ASKED_MAX);
    (wire.number, ids.filter_map(|id| ContentId::try_from(id).ok()).collect())
}

/// The next bytes of a build's log and its length with them, or its new phase.
pub fn progress(key: LeaseKey, phase: Option<String>, (end, log): (u64, bytes::Bytes)) -> Message {
    Message::Progress(v1::Progress {
        lease_id: key.id.0,
        epoch: key.epoch.0,
        phase: phase.unwrap_or_default(),
        log,
        log_end: end,
    })
}

/// A result.
pub fn report(finished: &Finished) -> v1::Report {
    let Times { inputs_ms, build_ms, outputs_ms, input_bytes_fetched, usage } = finished.times;
    v1::Report {
        lease_id: finished.key.id.0,
        epoch: finished.key.epoch.0,
        outcome: Some(report_outcome(&finished.subject.derivation.domain, &finished.outcome)),
        derivation: Some((&finished.subject.derivation).into()),
        times: Some(v1::BuildTimes { inputs_ms, build_ms, outputs_ms, input_bytes_fetched }),
        usage: usage.map(|usage| v1::Usage {
            memory_bytes_peak: usage.memory_bytes_peak,
            user_ms: usage.user_ms,
            system_ms: usage.system_ms,
            read_bytes: usage.read_bytes,
            written_bytes: usage.written_bytes,
            is_of_all: usage.is_of_all,
        }),
    }
}
