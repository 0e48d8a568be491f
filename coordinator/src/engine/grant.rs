//! A grant of the core becomes a lease that an executor can run: text, path information, where the bytes are.
use super::sessions::Sessions;
use crate::config::BuildLimits;
use crate::knowledge::Knowledge;
use crate::paths;
use crate::resolution::{self, ResolutionError};
use crate::session::{LeaseOrder, OrderedInput, Source};
use model::{ContentId, StorePath};
use scheduler::{Grant, GrantedInput, Holder};
use std::collections::HashMap;
use std::sync::Arc;
use thiserror::Error;

/// Why a lease cannot be made.
#[derive(Debug, Error)]
pub(super) enum GrantError {
    /// The core knows a task that nobody else does.
    #[error("the text of derivation {0} is not known")]
    Derivation(StorePath),
    /// The core counts on content that nobody knows.
    #[error("path information of input {} (domain {}) is not known", .0.path, .0.domain)]
    Content(ContentId),
    /// The core grants what cannot be resolved.
    #[error(transparent)]
    Resolution(#[from] ResolutionError),
}

/// Makes the lease.
pub(super) fn order(
    grant: &Grant,
    knowledge: &Knowledge,
    sessions: &Sessions,
    trace: HashMap<String, String>,
    limits: BuildLimits,
) -> Result<LeaseOrder, GrantError> {
    let path = &grant.task.path;
    let derivation = knowledge.derivation(path).ok_or_else(|| GrantError::Derivation(path.clone()))?;
    let (text, resolved_path) = if knowledge.needs_resolution(&derivation) {
        let resolved = resolution::resolved(&grant.task, &grant.bound, knowledge)?;
        (Arc::from(resolved.text), Some(paths::full(&resolved.path)))
    } else {
        (derivation.text.clone(), None)
    };
    Ok(LeaseOrder {
        lease: grant.lease,
        task: grant.task.clone(),
        text,
        resolved_path,
        platform: grant.platform.clone(),
        inputs: inputs(&grant.inputs, knowledge, sessions)?,
        trace,
        limits,
    })
}

/// What is known of inputs, and where their bytes are.
pub(super) fn inputs(
    inputs: &[GrantedInput],
    knowledge: &Knowledge,
    sessions: &Sessions,
) -> Result<Vec<OrderedInput>, GrantError> {
    let input = |input: &GrantedInput| {
        let known = knowledge.content(&input.id).ok_or_else(|| GrantError::Content(input.id.clone()))?;
        let sources = input.holders.iter().filter_map(|holder| source(holder, sessions)).collect();
        Ok(OrderedInput { id: input.id.clone(), facts: known.facts.clone(), sources })
    };
    inputs.iter().map(input).collect()
}

/// Where a holder's bytes are fetched; nowhere while it is not connected.
fn source(holder: &Holder, sessions: &Sessions) -> Option<Source> {
    match holder {
        Holder::ContentStore => Some(Source::ContentStore),
        Holder::Executor(name) => {
            Some(Source::Executor { name: name.clone(), address: sessions.address(name)?.clone() })
        }
    }
}
