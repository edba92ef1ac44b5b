//! The only place that spawns onto the runtime: so that every task is named in one place and a panic
//! inside one is logged, not lost.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument;

/// Spawns `future` in the current span. A panic ends that task alone; the runtime's hook logs it.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.in_current_span())
}

/// Spawns `future` on `runtime` from a thread that is not one of its own (a FUSE thread).
pub fn spawn_on<F>(runtime: &tokio::runtime::Handle, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    runtime.spawn(future.in_current_span())
}

/// Runs `work`, which computes for long or blocks, on a thread that may block.
///
/// # Panics
/// When `work` panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// A task that is cancelled when this guard is dropped.
#[derive(Debug)]
pub struct Scoped<T>(JoinHandle<T>);

impl<T> Scoped<T> {
    /// Ties `handle` to the guard.
    #[must_use]
    pub const fn new(handle: JoinHandle<T>) -> Self {
        Self(handle)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When the task panicked.
    pub async fn ended(&mut self) -> T {
        match (&mut self.0).await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl<T> Drop for Scoped<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
