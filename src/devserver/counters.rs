//! How many requests of each kind came, and how many bytes went each way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// The counts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests by S3's name of the operation; `Refused` are those that named none or were not signed well.
    pub operations: BTreeMap<String, u64>,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of answers' bodies.
    pub bytes_out: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Requests that something was done to on purpose.
    pub faults: u64,
}

impl Counts {
    /// Requests of `operation`.
    #[must_use]
    pub fn of(&self, operation: &str) -> u64 {
        self.operations.get(operation).copied().unwrap_or_default()
    }

    /// Requests in all.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.operations.values().sum()
    }
}

/// The counts as they grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    operations: Mutex<BTreeMap<String, u64>>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    connections: AtomicU64,
    faults: AtomicU64,
}

impl Counters {
    pub(super) fn request(&self, operation: &str) {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        match operations.get_mut(operation) {
            Some(count) => *count += 1,
            None => drop(operations.insert(operation.to_owned(), 1)),
        }
    }

    pub(super) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Counts {
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        Counts {
            operations: operations.clone(),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
        }
    }

    pub(super) fn reset(&self) {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for count in [&self.bytes_in, &self.bytes_out, &self.connections, &self.faults] {
            count.store(0, Ordering::Relaxed);
        }
    }
}
