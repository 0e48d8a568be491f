//! Inputs of what comes next, fetched while builds run: one hint at a time, while there is room, and never at the cost of a build.
use super::inputs::Inputs;
use crate::lease::Prefetch;
use crate::store::{Store, collector::Limits};
use futures_util::stream::{self, StreamExt};
use node::exit::chain;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tracing::Instrument;

/// Hints that wait for their turn; more are not remembered.
const HINTS_MAX: usize = 64;
/// Paths fetched at once: builds that wait for theirs have the rest of the link.
const FETCHES_MAX: usize = 2;

/// Fetches ahead of leases.
#[derive(Debug)]
pub struct Prefetcher {
    inputs: Arc<Inputs>,
    store: Arc<Store>,
    limits: Limits,
    waiting: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

impl Prefetcher {
    /// Fetches through `inputs` while the store need not make room.
    pub fn new(inputs: Arc<Inputs>, store: Arc<Store>, limits: Limits) -> Self {
        let waiting = Arc::new(Semaphore::new(HINTS_MAX));
        Self { inputs, store, limits, waiting, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Fetches in the background.
    pub fn fetch(&self, hint: Prefetch) {
        let Ok(waiting) = self.waiting.clone().try_acquire_owned() else { return };
        let (inputs, store, turn) = (self.inputs.clone(), self.store.clone(), self.turn.clone());
        let limits = self.limits;
        node::task::spawn("prefetch", async move {
            let _waiting = waiting;
            // The semaphore is never closed.
            let _turn = turn.acquire().await;
            let span = tracing::info_span!("prefetch", paths = hint.inputs.len());
            node::propagate::set_parent(&span, &hint.trace_context);
            let one = async |input| {
                if limits.are_reached(&store) {
                    return;
                }
                if let Err(error) = inputs.ensure(std::slice::from_ref(&input)).await {
                    tracing::debug!(path = %input.id.path, error = chain(&error), "not fetched ahead");
                }
            };
            stream::iter(hint.inputs).for_each_concurrent(FETCHES_MAX, one).instrument(span).await;
        });
    }
}
