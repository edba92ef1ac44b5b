//! When memory is short: who waits, and who goes on when waiting would never end.
//!
//! Waiting ends as a rule because bytes that leave give their memory back. It would never end when all of it lies in files
//! that are too short to send a part of (a thousand open files of 4 MiB). Then, and only while nothing at all is on its way,
//! one writer at a time may take more than the limit, a page at a time: the one that came last, so that it is the same one
//! again and again until its part is full or its file is closed, which frees memory for the others. Not while there are
//! contents that could not be stored: those keep their memory until they can be, so writers fail instead.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock;

/// Nothing was on its way for so long: nothing will free memory by itself.
const STILL: Duration = Duration::from_millis(50);

/// What is on its way, and who waits for memory.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    sending: AtomicUsize,
    failed: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    tickets: BTreeSet<u64>,
}

/// Bytes are on their way as long as this lives.
#[derive(Debug)]
pub(super) struct Sending<'a>(&'a Pressure);

/// A content could not be stored and keeps its memory, as long as this lives.
#[derive(Debug)]
pub(super) struct Failed(Arc<Pressure>);

/// A place among those who wait.
#[derive(Debug)]
struct Ticket<'a> {
    pressure: &'a Pressure,
    number: u64,
}

impl Pressure {
    /// Bytes leave now.
    pub(super) fn sending(&self) -> Sending<'_> {
        self.sending.fetch_add(1, Ordering::AcqRel);
        Sending(self)
    }

    /// A content could not be stored.
    pub(super) fn failed(self: &Arc<Self>) -> Failed {
        self.failed.fetch_add(1, Ordering::AcqRel);
        Failed(Arc::clone(self))
    }

    /// Whether there are contents that could not be stored.
    pub(super) fn has_failures(&self) -> bool {
        self.failed.load(Ordering::Acquire) > 0
    }

    /// Waits until the caller, who has no memory, must go on without: nothing leaves, and nobody came later.
    pub(super) async fn nothing_will_free_any(&self) {
        let ticket = self.ticket();
        loop {
            clock::sleep(STILL).await;
            if self.sending.load(Ordering::Acquire) == 0 && ticket.is_last() {
                return;
            }
        }
    }

    fn ticket(&self) -> Ticket<'_> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let number = waiting.next;
        waiting.next += 1;
        waiting.tickets.insert(number);
        Ticket { pressure: self, number }
    }
}

impl Ticket<'_> {
    fn is_last(&self) -> bool {
        let waiting = self.pressure.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.tickets.last() == Some(&self.number)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.pressure.waiting.lock().unwrap_or_else(PoisonError::into_inner).tickets.remove(&self.number);
    }
}

impl Drop for Failed {
    fn drop(&mut self) {
        self.0.failed.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::AcqRel);
    }
}
