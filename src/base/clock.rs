//! The only home of wall clock and timers, so that a test can pause time (`tokio::time::pause`)
//! and tidy can see that nobody else reads a clock.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

/// The wall clock, for signatures, modification times and dates shown to people.
#[must_use]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// A monotonic instant, for expiry and measuring. It follows tokio's clock where there is a runtime,
/// so that paused time moves it too.
#[must_use]
pub fn instant() -> Instant {
    if tokio::runtime::Handle::try_current().is_ok() { tokio::time::Instant::now().into_std() } else { Instant::now() }
}

/// Waits for `duration` on the runtime's timer.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits for `duration` on the calling thread: only for code that runs outside the runtime.
pub fn block(duration: Duration) {
    std::thread::sleep(duration);
}

/// The future did not finish within its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("deadline of {0:?} passed")]
pub struct DeadlinePassed(pub Duration);

/// Runs `future` for at most `limit`.
///
/// # Errors
/// [`DeadlinePassed`] when the limit came first; the future is dropped then.
pub async fn deadline<F: Future>(limit: Duration, future: F) -> Result<F::Output, DeadlinePassed> {
    tokio::time::timeout(limit, future).await.map_err(|_| DeadlinePassed(limit))
}
