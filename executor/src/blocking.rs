//! File work off the async threads.

/// Runs blocking work on the pool of blocking threads; a panic there goes on here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is ending: nobody will ask for the result.
        Err(_) => std::future::pending().await,
    }
}
