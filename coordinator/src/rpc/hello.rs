//! An executor's first message: what is checked of it before there is a session.
use crate::session::DataAddress;
use model::{BootId, Capability, Epoch, LeaseId, limits};
use proto::convert::WireError;
use proto::v1;
use scheduler::{LeaseKey, RunningLease};
use tonic::Status;

/// Longest data address, in bytes.
const ADDRESS_BYTES_MAX: usize = 300;

/// What an executor says first.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) boot: BootId,
    pub(super) data_address: DataAddress,
    pub(super) capability: Capability,
    pub(super) running: Vec<RunningLease>,
    pub(super) software_version: String,
}

/// Reads the first message of a session.
///
/// # Errors
/// It is no hello, of a version that is not spoken here, or makes no sense.
pub(super) fn hello(first: Option<v1::ExecutorMessage>) -> Result<Hello, Status> {
    use v1::executor_message::Message;
    let Some(Message::Hello(hello)) = first.and_then(|message| message.message) else {
        return Err(Status::invalid_argument("the first message of a session must be the executor's hello"));
    };
    let spoken = limits::PROTOCOL_VERSION_MIN..=limits::PROTOCOL_VERSION;
    let theirs = hello.protocol_version;
    if !spoken.contains(&theirs) {
        let older = if theirs < limits::PROTOCOL_VERSION_MIN { "executor" } else { "coordinator" };
        return Err(Status::failed_precondition(format!(
            "the executor speaks protocol version {theirs}, this coordinator {} to {}: update the {older}",
            spoken.start(),
            spoken.end()
        )));
    }
    let boot_id: [u8; 16] = hello
        .boot_id
        .as_ref()
        .try_into()
        .map_err(|_| WireError::new("boot_id", format!("has {} bytes, not 16", hello.boot_id.len())))?;
    let capability = hello.capability.ok_or_else(|| WireError::new("capability", "is missing"))?;
    Ok(Hello {
        boot: BootId(boot_id),
        data_address: data_address(&hello.data_address)?,
        capability: capability.try_into()?,
        running: hello.running.into_iter().map(running_lease).collect::<Result<_, _>>()?,
        software_version: hello.software_version.chars().take(64).collect(),
    })
}

fn data_address(text: &str) -> Result<DataAddress, WireError> {
    let is_address = text.len() <= ADDRESS_BYTES_MAX
        && text.rsplit_once(':').is_some_and(|(host, port)| {
            let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
            is_host && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
    if is_address {
        Ok(text.into())
    } else {
        let shown: String = text.chars().take(ADDRESS_BYTES_MAX).collect();
        Err(WireError::new("data_address", format!("`{shown}` is not host:port")))
    }
}

fn running_lease(wire: v1::RunningLease) -> Result<RunningLease, WireError> {
    let missing = |field| WireError::new(field, "is missing in a running lease");
    Ok(RunningLease {
        lease: key(wire.lease_id, wire.epoch),
        task: wire.derivation.ok_or_else(|| missing("derivation"))?.try_into()?,
        platform: wire.platform.ok_or_else(|| missing("platform"))?.try_into()?,
    })
}

/// A lease's name.
pub(super) fn key(lease_id: u64, epoch: u64) -> LeaseKey {
    LeaseKey { id: LeaseId(lease_id), epoch: Epoch(epoch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn said(change: impl FnOnce(&mut v1::ExecutorHello)) -> Result<Hello, Status> {
        let mut wire = v1::ExecutorHello {
            protocol_version: limits::PROTOCOL_VERSION,
            boot_id: vec![1; 16].into(),
            data_address: "host:7421".into(),
            capability: Some(v1::Capability { slots: 1, ..Default::default() }),
            ..Default::default()
        };
        change(&mut wire);
        let message = v1::executor_message::Message::Hello(wire);
        hello(Some(v1::ExecutorMessage { message: Some(message) }))
    }

    fn check(change: impl FnOnce(&mut v1::ExecutorHello), code: Code, text: &str) {
        let status = said(change).unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }

    #[test]
    fn a_hello_is_checked() {
        let hello = said(|_| {}).unwrap();
        assert_eq!((hello.boot, &*hello.data_address), (BootId([1; 16]), "host:7421"));
        let newer = limits::PROTOCOL_VERSION + 1;
        check(|hello| hello.protocol_version = newer, Code::FailedPrecondition, "update the coordinator");
        check(|hello| hello.protocol_version = 0, Code::FailedPrecondition, "update the executor");
        check(|hello| hello.boot_id = vec![1; 15].into(), Code::InvalidArgument, "has 15 bytes, not 16");
        for address in ["", "host", "host:0", "host:70000", ":1", "a b:1"] {
            check(|hello| hello.data_address = address.into(), Code::InvalidArgument, "is not host:port");
        }
        check(|hello| hello.capability = None, Code::InvalidArgument, "capability");
        let running = v1::RunningLease { lease_id: 1, ..Default::default() };
        check(|hello| hello.running = vec![running], Code::InvalidArgument, "derivation");
    }
}
