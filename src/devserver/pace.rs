//! How slow the network is made: latency, and bandwidth per connection and direction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::clock;

/// One MiB, the unit of bandwidth.
const MIB: f64 = 1_048_576.0;
/// Paced bodies move in pieces that take about this long each, in milliseconds: fine enough to look like a slow line,
/// coarse enough for a timer of 1 ms.
const PIECE_MS: u64 = 5;
/// The least piece, in bytes.
const MIN_PIECE_BYTES: u64 = 4096;

/// The shape of all connections, changeable at any time.
#[derive(Debug)]
pub(super) struct Shape {
    latency_us: AtomicU64,
    /// 0 is unlimited.
    bytes_per_second: AtomicU64,
}

impl Shape {
    pub(super) fn new(latency: Duration, bandwidth_mib: Option<f64>) -> Self {
        let shape = Self { latency_us: AtomicU64::new(0), bytes_per_second: AtomicU64::new(0) };
        shape.set_latency(latency);
        shape.set_bandwidth(bandwidth_mib);
        shape
    }

    pub(super) fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us.load(Ordering::Relaxed))
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        self.latency_us.store(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// MiB per second, `None` when it is not limited.
    pub(super) fn bandwidth(&self) -> Option<f64> {
        let rate = self.bytes_per_second.load(Ordering::Relaxed);
        (rate > 0).then_some(rate as f64 / MIB)
    }

    pub(super) fn set_bandwidth(&self, bandwidth_mib: Option<f64>) {
        // Not a number, negative or zero is no limit: a server that never answers helps nobody.
        let rate = bandwidth_mib.filter(|rate| *rate > 0.0).map_or(0, |rate| ((rate * MIB) as u64).max(1));
        self.bytes_per_second.store(rate, Ordering::Relaxed);
    }
}

/// One direction of one connection.
#[derive(Debug)]
pub(super) struct Lane {
    shape: Arc<Shape>,
    free_at: Mutex<Option<Instant>>,
}

impl Lane {
    pub(super) const fn new(shape: Arc<Shape>) -> Self {
        Self { shape, free_at: Mutex::new(None) }
    }

    /// The largest piece that may go at once, in bytes; `None` when nothing limits it.
    pub(super) fn piece(&self) -> Option<u64> {
        match self.shape.bytes_per_second.load(Ordering::Relaxed) {
            0 => None,
            rate => Some((rate * PIECE_MS / 1000).max(MIN_PIECE_BYTES)),
        }
    }

    /// Takes the lane for `bytes` and tells how long they need to pass.
    pub(super) fn pass(&self, bytes: usize) -> Option<Duration> {
        let rate = self.shape.bytes_per_second.load(Ordering::Relaxed);
        if rate == 0 {
            return None;
        }
        let now = clock::instant();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = free_at.map_or(now, |at| at.max(now)) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        *free_at = Some(next);
        Some(next - now)
    }
}

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Pacer {
    pub(super) incoming: Lane,
    pub(super) outgoing: Lane,
}

impl Pacer {
    pub(super) fn new(shape: &Arc<Shape>) -> Self {
        Self { incoming: Lane::new(Arc::clone(shape)), outgoing: Lane::new(Arc::clone(shape)) }
    }
}
