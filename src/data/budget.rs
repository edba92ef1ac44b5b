//! One memory budget for all bytes that are on their way, and the pages they lie in.
//!
//! Two classes share it, each with a floor that the other cannot take: reading and writing never starve each other.
//! A [`Permit`] gives its bytes back when it is dropped, so nothing leaks, whatever path is taken. Reading ahead only
//! ever tries; what must have memory waits ([`Budget::acquire`]), and waiting ends because every holder's bytes leave
//! on their own: parts are uploaded or fail, fetched bytes are consumed; and those that an idle reader does not consume
//! are taken from it ([`Holder`]).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::base::clock;

/// The size of a page of staged data, in bytes. The kernel's largest WRITE is 1 MiB, so a page takes one whole.
pub const PAGE_BYTES: usize = 1 << 20;
/// The first page of a file grows from here, so that a thousand small files do not take a thousand pages.
pub const FIRST_PAGE_BYTES: usize = 16 << 10;
/// The least limit that can be configured, in bytes: some parts in flight and some read-ahead.
pub const MIN_LIMIT_BYTES: u64 = 64 << 20;
/// A class's floor is this fraction of the limit.
const FLOOR_DIVISOR: u64 = 4;
/// Free pages that are kept for the next part, as a fraction of the limit.
const POOL_DIVISOR: u64 = 4;

/// Who waits so long for memory takes it from those who do not use it.
const PATIENCE: Duration = Duration::from_millis(20);
/// Who has not used his memory for so long is idle: an active reader comes back sooner.
const IDLE: Duration = Duration::from_millis(100);

/// Somebody who holds memory that can be had again from the store.
pub trait Holder: Send + Sync {
    /// When it was used last.
    fn used_at(&self) -> Instant;
    /// Gives up what nobody waits for; returns how many bytes that were.
    fn give_up(&self) -> u64;
}

/// Who wants the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Bytes fetched and not yet read.
    Read,
    /// Bytes written and not yet uploaded.
    Write,
}

#[derive(Debug, Default)]
struct Used {
    read: u64,
    write: u64,
}

#[derive(Debug)]
struct Inner {
    limit: u64,
    used: Mutex<Used>,
    freed: Notify,
    /// How many wait in [`Budget::acquire`], by class.
    waiting: Waiters,
    holders: Mutex<Vec<Weak<dyn Holder>>>,
    pool: Mutex<Vec<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct Waiters {
    read: AtomicUsize,
    write: AtomicUsize,
}

impl Waiters {
    const fn of(&self, class: Class) -> &AtomicUsize {
        match class {
            Class::Read => &self.read,
            Class::Write => &self.write,
        }
    }
}

/// One who waits for memory, as long as this lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiters: &'a AtomicUsize) -> Self {
        waiters.fetch_add(1, Ordering::AcqRel);
        Self(waiters)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The mount's memory budget. Cheap to clone; all clones are one budget.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

impl Budget {
    /// A budget of `limit` bytes (at least [`MIN_LIMIT_BYTES`]).
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Inner {
            limit: limit.max(MIN_LIMIT_BYTES),
            used: Mutex::default(),
            freed: Notify::new(),
            waiting: Waiters::default(),
            holders: Mutex::default(),
            pool: Mutex::default(),
        }))
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Bytes in use now, reading and writing.
    #[must_use]
    pub fn used(&self) -> u64 {
        let used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.read + used.write
    }

    /// Takes `bytes` if they are free now.
    #[must_use]
    pub fn try_acquire(&self, class: Class, bytes: u64) -> Option<Permit> {
        let floor = self.0.limit / FLOOR_DIVISOR;
        let mut used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
        // What is free for one class leaves the other its floor.
        let (own, other) = match class {
            Class::Read => (used.read, used.write),
            Class::Write => (used.write, used.read),
        };
        // A single request larger than a class may ever hold is let through when the class holds nothing else.
        if own > 0 && own + bytes + other.max(floor) > self.0.limit {
            return None;
        }
        match class {
            Class::Read => used.read += bytes,
            Class::Write => used.write += bytes,
        }
        drop(used);
        Some(Permit { budget: self.clone(), class, bytes })
    }

    /// As [`Budget::try_acquire`], for what is useful but not needed: those of the class who wait come first.
    #[must_use]
    pub fn try_spare(&self, class: Class, bytes: u64) -> Option<Permit> {
        if self.0.waiting.of(class).load(Ordering::Acquire) > 0 { None } else { self.try_acquire(class, bytes) }
    }

    /// Waits until `bytes` are free and takes them; takes them from idle holders when that is long.
    pub async fn acquire(&self, class: Class, bytes: u64) -> Permit {
        if let Some(permit) = self.try_acquire(class, bytes) {
            return permit;
        }
        let _waiting = Waiting::begin(self.0.waiting.of(class));
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(permit) = self.try_acquire(class, bytes) {
                return permit;
            }
            if clock::deadline(PATIENCE, freed).await.is_err() {
                self.reclaim(bytes);
            }
        }
    }

    /// Makes a holder known: what it does not use can be taken from it.
    pub fn register(&self, holder: Weak<dyn Holder>) {
        let mut holders = self.0.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.len() == holders.capacity() {
            // As many are alive as were dropped since, at most: the cost is shared out over all registrations.
            holders.retain(|holder| holder.strong_count() > 0);
            let alive = holders.len();
            holders.reserve_exact(alive.max(16));
        }
        holders.push(holder);
    }

    /// Takes `bytes` from those who are idle, the longest idle first.
    fn reclaim(&self, bytes: u64) {
        let alive: Vec<Arc<dyn Holder>> = {
            let holders = self.0.holders.lock().unwrap_or_else(PoisonError::into_inner);
            holders.iter().filter_map(Weak::upgrade).collect()
        };
        let now = clock::instant();
        let mut idle: Vec<_> = alive.into_iter().map(|holder| (holder.used_at(), holder)).collect();
        idle.retain(|(used_at, _)| now.saturating_duration_since(*used_at) >= IDLE);
        idle.sort_by_key(|(used_at, _)| *used_at);
        let mut freed = 0;
        for (_, holder) in idle {
            if freed >= bytes {
                break;
            }
            freed += holder.give_up();
        }
    }

    /// Takes `bytes` whether they are free or not: only where waiting could never end.
    #[must_use]
    pub fn overdraw(&self, class: Class, bytes: u64) -> Permit {
        let mut used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
        match class {
            Class::Read => used.read += bytes,
            Class::Write => used.write += bytes,
        }
        drop(used);
        Permit { budget: self.clone(), class, bytes }
    }

    /// A page of `capacity` bytes to write into, under `permit`, from the pool when it has one.
    #[must_use]
    pub fn page(&self, permit: Permit, capacity: usize) -> Page {
        let recycled =
            (capacity == PAGE_BYTES).then(|| self.0.pool.lock().unwrap_or_else(PoisonError::into_inner).pop()).flatten();
        Page { bytes: recycled.unwrap_or_else(|| Vec::with_capacity(capacity)), permit }
    }

    fn recycle(&self, mut bytes: Vec<u8>) {
        let keep = usize::try_from(self.0.limit / POOL_DIVISOR).unwrap_or(usize::MAX) / PAGE_BYTES;
        let mut pool = self.0.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < keep {
            bytes.clear();
            pool.push(bytes);
        }
    }
}

/// Bytes of the budget, given back when this is dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Budget,
    class: Class,
    bytes: u64,
}

impl Permit {
    /// Gives `bytes` of it back now; more than it has gives all.
    pub fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        if bytes == 0 {
            return;
        }
        self.bytes -= bytes;
        let inner = &self.budget.0;
        let mut used = inner.used.lock().unwrap_or_else(PoisonError::into_inner);
        match self.class {
            Class::Read => used.read -= bytes,
            Class::Write => used.write -= bytes,
        }
        drop(used);
        inner.freed.notify_waiters();
    }

    /// Takes `bytes` of it out (at most all) as a permit of their own.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: self.budget.clone(), class: self.class, bytes }
    }

    /// How many bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A page of `capacity` bytes to write into, paid by this permit.
    #[must_use]
    pub fn page(self, capacity: usize) -> Page {
        let budget = self.budget.clone();
        budget.page(self, capacity)
    }

    /// Ties the permit to `bytes`: it is given back when their last share is dropped.
    #[must_use]
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _permit: self })
    }

    /// Takes over the bytes of `other`, of the same class.
    pub fn merge(&mut self, mut other: Self) {
        debug_assert_eq!(self.class, other.class, "permits of one class");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

/// Bytes with the permit that pays for them.
struct Held {
    bytes: Bytes,
    _permit: Permit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A buffer of staged data that counts against the budget and returns to the pool.
#[derive(Debug)]
pub struct Page {
    bytes: Vec<u8>,
    permit: Permit,
}

impl Page {
    /// The bytes written so far.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes written so far, to change them or to append within [`Page::capacity`].
    pub const fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that fit without growing.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Makes room for `capacity` bytes in all, paid by `permit`.
    pub fn grow(&mut self, capacity: usize, permit: Permit) {
        self.permit.merge(permit);
        self.bytes.reserve_exact(capacity.saturating_sub(self.bytes.len()));
    }

    /// Ends writing: the bytes become shareable, and page and permit return when the last share is dropped.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if self.bytes.capacity() == PAGE_BYTES {
            self.permit.budget.recycle(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn classes_keep_their_floors_and_waiters_wake() {
        let budget = Budget::new(64 << 20);
        let reading = budget.try_acquire(Class::Read, 48 << 20).unwrap();
        assert!(budget.try_acquire(Class::Read, 1).is_none(), "the floor of writing is kept");
        let writing = budget.try_acquire(Class::Write, 16 << 20).unwrap();
        assert!(budget.try_acquire(Class::Write, 1).is_none(), "all is used");
        let waiter = tokio::spawn({
            let budget = budget.clone();
            async move { budget.acquire(Class::Write, 8 << 20).await }
        });
        tokio::task::yield_now().await;
        drop(reading);
        let waited = waiter.await.unwrap();
        assert_eq!(budget.used(), 24 << 20);
        drop((waited, writing));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_page_pays_until_its_last_share_is_gone_and_is_used_again() {
        let budget = Budget::new(MIN_LIMIT_BYTES);
        let permit = budget.try_acquire(Class::Write, PAGE_BYTES as u64).unwrap();
        let mut page = budget.page(permit, PAGE_BYTES);
        page.bytes_mut().extend_from_slice(b"abc");
        let address = page.filled().as_ptr();
        let share = page.freeze();
        let other = share.clone();
        drop(share);
        assert_eq!(budget.used(), PAGE_BYTES as u64);
        drop(other);
        assert_eq!(budget.used(), 0);
        let again = budget.page(budget.try_acquire(Class::Write, 1).unwrap(), PAGE_BYTES);
        assert_eq!(again.filled().as_ptr(), address);
        assert!(again.filled().is_empty());
    }
}
