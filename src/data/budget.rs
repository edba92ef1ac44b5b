//! One memory budget for all bytes that are on their way, and the pages they lie in.
//!
//! Two classes share it, each with a floor that the other cannot take: reading and writing never starve each other.
//! A [`Permit`] gives its bytes back when it is dropped, so nothing leaks, whatever path is taken. Reading ahead only
//! ever tries; what must have memory waits ([`Budget::acquire`]), and waiting ends because every holder's bytes leave
//! on their own: fetched bytes are consumed or dropped, parts are uploaded or fail.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

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
    pool: Mutex<Vec<Vec<u8>>>,
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

    /// Waits until `bytes` are free and takes them.
    pub async fn acquire(&self, class: Class, bytes: u64) -> Permit {
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(permit) = self.try_acquire(class, bytes) {
                return permit;
            }
            freed.await;
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

    /// A permit for nothing, to begin with.
    #[must_use]
    pub fn nothing(&self, class: Class) -> Permit {
        Permit { budget: self.clone(), class, bytes: 0 }
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
