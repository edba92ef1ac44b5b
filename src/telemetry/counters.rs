//! Requests by kind, failures and bytes: atomic, never locked, read by `status`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many kinds of request can be told apart.
pub const MAX_KINDS: usize = 64;

/// Counters of one mount.
#[derive(Debug)]
pub struct Counters {
    requests: [AtomicU64; MAX_KINDS],
    failures: [AtomicU64; MAX_KINDS],
    received: AtomicU64,
    sent: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { requests: zeros(), failures: zeros(), received: AtomicU64::new(0), sent: AtomicU64::new(0) }
    }
}

impl Counters {
    /// Counts one attempt of a request of `kind` that ended well or not.
    pub fn request(&self, kind: usize, succeeded: bool) {
        let Some(requests) = self.requests.get(kind) else { return };
        requests.fetch_add(1, Ordering::Relaxed);
        if !succeeded && let Some(failures) = self.failures.get(kind) {
            failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts bytes of bodies that came.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of bodies that went.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// All counters that are not zero, by name; `names` gives the name of each kind by its number.
    #[must_use]
    pub fn snapshot(&self, names: &[String]) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (kind, name) in names.iter().enumerate().take(MAX_KINDS) {
            all.insert(format!("requests.{name}"), self.requests[kind].load(Ordering::Relaxed));
            all.insert(format!("failures.{name}"), self.failures[kind].load(Ordering::Relaxed));
        }
        all.insert("bytes.received".to_owned(), self.received.load(Ordering::Relaxed));
        all.insert("bytes.sent".to_owned(), self.sent.load(Ordering::Relaxed));
        all.retain(|_, count| *count > 0);
        all
    }
}
