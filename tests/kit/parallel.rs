//! Many small questions at once: most of their time is waiting.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

/// Threads for each processor.
const THREADS_PER_PROCESSOR: usize = 2;

/// Answers for all items, in their order; the first error ends the questions.
///
/// # Errors
/// That of an item.
pub fn for_all<T: Sync, R: Send>(items: &[T], ask: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get) * THREADS_PER_PROCESSOR;
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<(usize, R)>> {
        let mut answers = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return Ok(answers) };
            let answer = ask(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
            answers.push((index, answer));
        }
    };
    let mut all = std::thread::scope(|scope| -> Result<Vec<(usize, R)>> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::new();
        for worker in workers {
            let answers = worker.join().ok().context("a thread of the test panicked")?;
            all.extend(answers?);
        }
        Ok(all)
    })?;
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, answer)| answer).collect())
}
