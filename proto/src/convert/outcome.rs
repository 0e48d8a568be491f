//! How an attempt ended.
use super::{WireError, content::SignedPathInfo, content::path_info, store_path};
use crate::v1;
use model::{BuiltOutput, ContentId, Failure, FailureClass, Outcome, TrustDomain};

/// The pairs of failure classes, wire and domain.
const CLASSES: [(v1::FailureClass, FailureClass); 10] = [
    (v1::FailureClass::BuildFailed, FailureClass::BuildFailed),
    (v1::FailureClass::OutputRejected, FailureClass::OutputRejected),
    (v1::FailureClass::InputRejected, FailureClass::InputRejected),
    (v1::FailureClass::TimedOut, FailureClass::TimedOut),
    (v1::FailureClass::LogLimitExceeded, FailureClass::LogLimitExceeded),
    (v1::FailureClass::Infrastructure, FailureClass::Infrastructure),
    (v1::FailureClass::InputMissing, FailureClass::InputMissing),
    (v1::FailureClass::OutOfDisk, FailureClass::OutOfDisk),
    (v1::FailureClass::OutOfMemory, FailureClass::OutOfMemory),
    (v1::FailureClass::Cancelled, FailureClass::Cancelled),
];

/// Longest failure text that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

impl From<FailureClass> for v1::FailureClass {
    fn from(class: FailureClass) -> Self {
        CLASSES.iter().find(|pair| pair.1 == class).map_or(Self::Unspecified, |pair| pair.0)
    }
}

impl TryFrom<v1::Failure> for Failure {
    type Error = WireError;

    fn try_from(wire: v1::Failure) -> Result<Self, WireError> {
        let named = wire.failure_class();
        // A class of a later version is somebody's trouble, not the build's: retried, counted.
        let class =
            CLASSES.iter().find(|pair| pair.0 == named).map_or(FailureClass::Infrastructure, |pair| pair.1);
        let mut message = wire.message;
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        let mut missing_inputs = Vec::new();
        for path in &wire.missing_inputs {
            missing_inputs.push(store_path("missing_inputs", path)?);
        }
        Ok(Self { class, message, exit_status: wire.exit_status, missing_inputs })
    }
}

impl From<&Failure> for v1::Failure {
    fn from(failure: &Failure) -> Self {
        Self {
            failure_class: v1::FailureClass::from(failure.class).into(),
            message: failure.message.clone(),
            exit_status: failure.exit_status,
            missing_inputs: failure.missing_inputs.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<v1::report::Outcome> for Outcome {
    type Error = WireError;

    fn try_from(wire: v1::report::Outcome) -> Result<Self, WireError> {
        let built = match wire {
            v1::report::Outcome::Failed(failure) => return Ok(Self::Failed(failure.try_into()?)),
            v1::report::Outcome::Built(built) => built,
        };
        let mut outputs = Vec::with_capacity(built.outputs.len());
        for output in built.outputs {
            let info: SignedPathInfo = output.info.ok_or_else(|| WireError::missing("info"))?.try_into()?;
            outputs.push(BuiltOutput { name: output.name, path: info.id.path, facts: info.facts });
        }
        Ok(Self::Built(outputs))
    }
}

/// An outcome for the wire; outputs are of the lease's trust domain.
pub fn report_outcome(domain: &TrustDomain, outcome: &Outcome) -> v1::report::Outcome {
    let output = |output: &BuiltOutput| {
        let id = ContentId { domain: domain.clone(), path: output.path.clone() };
        v1::BuiltOutput { name: output.name.clone(), info: Some(path_info(&id, &output.facts)) }
    };
    match outcome {
        Outcome::Failed(failure) => v1::report::Outcome::Failed(failure.into()),
        Outcome::Built(outputs) => {
            v1::report::Outcome::Built(v1::Built { outputs: outputs.iter().map(output).collect() })
        }
    }
}
