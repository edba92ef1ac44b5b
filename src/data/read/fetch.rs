//! One GET in flight or done, shared by all who wait for its bytes.
//!
//! What the transport delivers is copied once, into pages that the budget paid for: the transport's own buffers are larger than
//! what they carry, and holding on to them would pass every limit. A read that lies in one page is answered without a further
//! copy. A page gives its memory back when its last share is dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::data::budget::{PAGE_BYTES, Page, Permit};
use crate::data::{Error, Result};
use crate::store::{Body, ByteRange};

/// Bytes of one GET.
#[derive(Debug)]
pub struct Segment {
    range: ByteRange,
    /// How often the reader had been pinned anew when it was begun.
    pinned: u64,
    state: Mutex<State>,
    progress: Notify,
}

#[derive(Debug)]
struct State {
    /// Full pages, each with the offset it begins at.
    pages: VecDeque<(u64, Bytes)>,
    /// The page that is being filled.
    open: Option<(u64, Page)>,
    /// One past the last byte that has arrived.
    arrived: u64,
    /// Bytes before this were dropped.
    dropped: u64,
    failure: Option<Error>,
    /// Pays for what has not arrived.
    permit: Permit,
    /// Reads that wait for bytes, which must not be dropped under them.
    waiting: usize,
    /// Its memory was needed elsewhere.
    evicted: bool,
}

/// A read waits as long as this lives.
struct Waiting<'a>(&'a Segment);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Segment {
    /// A segment for `range`, begun when its reader had been `pinned` anew so often; nothing arrived yet.
    #[must_use]
    pub fn new(range: ByteRange, pinned: u64, permit: Permit) -> Arc<Self> {
        let state = State {
            pages: VecDeque::new(),
            open: None,
            arrived: range.start(),
            dropped: range.start(),
            failure: None,
            permit,
            waiting: 0,
            evicted: false,
        };
        Arc::new(Self { range, pinned, state: Mutex::new(state), progress: Notify::new() })
    }

    /// The bytes it was begun for.
    #[must_use]
    pub const fn range(&self) -> ByteRange {
        self.range
    }

    /// How often its reader had been pinned anew when it was begun.
    #[must_use]
    pub const fn pinned(&self) -> u64 {
        self.pinned
    }

    /// Whether `offset` is here or will be.
    #[must_use]
    pub fn covers(&self, offset: u64) -> bool {
        let state = self.lock();
        state.failure.is_none() && !state.evicted && state.dropped <= offset && offset < self.range.end()
    }

    /// Whether all of it was dropped or it has failed: nothing more to be had.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        let state = self.lock();
        state.failure.is_some() || state.evicted || state.dropped >= self.range.end()
    }

    /// Gives its memory back at once and ends its transfer, unless a read waits for it. Returns the bytes that are free now.
    pub fn evict(&self) -> u64 {
        let mut state = self.lock();
        if state.waiting > 0 {
            return 0;
        }
        state.evicted = true;
        let bytes = self.range.end() - state.dropped;
        state.pages.clear();
        state.open = None;
        let unused = state.permit.bytes();
        state.permit.release(unused);
        bytes
    }

    /// Takes the body's chunks until its end, or until nobody wants them. A body that ends early is an error of the store
    /// layer already.
    pub async fn fill(&self, mut body: Body) {
        while let Some(chunk) = body.next().await {
            match chunk {
                Ok(chunk) => {
                    if !self.push(chunk) {
                        return;
                    }
                }
                // The rest was asked for anew where the object was: this mount may have moved it meanwhile.
                Err(error) => return self.fail(Error::of_reading(error)),
            }
        }
        let complete = self.lock().arrived >= self.range.end();
        if !complete {
            self.fail(Error::Stale);
        }
    }

    /// Ends it with a failure that all who wait get.
    pub fn fail(&self, error: Error) {
        self.lock().failure = Some(error);
        self.progress.notify_waiters();
    }

    /// Takes a chunk over; `false` when nobody wants it any more.
    fn push(&self, chunk: Bytes) -> bool {
        let mut state = self.lock();
        if state.evicted {
            return false;
        }
        state.take(&chunk, self.range.end());
        drop(state);
        self.progress.notify_waiters();
        true
    }

    /// Drops what lies before `offset`, once no read waits here.
    pub fn drop_before(&self, offset: u64) {
        let mut state = self.lock();
        if state.waiting > 0 {
            return;
        }
        while let Some(end) = state.pages.front().map(|(start, page)| start + page.len() as u64).filter(|end| *end <= offset) {
            state.pages.pop_front();
            state.dropped = end;
        }
    }

    /// The bytes of `range` that lie in this segment, from its start on: waits until they are there. `None` when the first
    /// of them were dropped before this was called.
    ///
    /// # Errors
    /// The failure of the GET, unless all that is wanted arrived before it.
    pub async fn read(&self, range: ByteRange) -> Result<Option<Bytes>> {
        let end = range.end().min(self.range.end());
        let _waiting = self.waiting();
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            {
                let state = self.lock();
                if state.evicted || state.dropped > range.start() {
                    return Ok(None);
                }
                if state.arrived >= end {
                    return Ok(Some(state.gather(range.start(), end)));
                }
                if let Some(failure) = &state.failure {
                    return Err(failure.clone());
                }
            }
            progress.await;
        }
    }

    /// As [`Segment::read`], but only when the bytes are there now.
    #[must_use]
    pub fn try_read(&self, range: ByteRange) -> Option<Bytes> {
        let end = range.end().min(self.range.end());
        let state = self.lock();
        let here = !state.evicted && state.dropped <= range.start() && state.arrived >= end;
        here.then(|| state.gather(range.start(), end))
    }

    fn waiting(&self) -> Waiting<'_> {
        self.lock().waiting += 1;
        Waiting(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Copies a chunk into pages. What passes `end` was not asked for, and the store layer has refused it already.
    fn take(&mut self, mut chunk: &[u8], end: u64) {
        while !chunk.is_empty() && self.arrived < end {
            let (start, mut page) = self.open.take().unwrap_or_else(|| {
                let capacity = page_end(self.arrived).min(end) - self.arrived;
                // At most a page, and that fits.
                (self.arrived, self.permit.split(capacity).page(usize::try_from(capacity).unwrap_or(PAGE_BYTES)))
            });
            let capacity = usize::try_from(page_end(start).min(end) - start).unwrap_or(PAGE_BYTES);
            let (now, later) = chunk.split_at(chunk.len().min(capacity - page.filled().len()));
            page.bytes_mut().extend_from_slice(now);
            self.arrived += now.len() as u64;
            chunk = later;
            if page.filled().len() == capacity {
                self.pages.push_back((start, page.freeze()));
            } else {
                self.open = Some((start, page));
            }
        }
    }

    /// The bytes from `start` to `end`, which are all here: a share of one page where it has them all, else one copy.
    fn gather(&self, start: u64, end: u64) -> Bytes {
        let first = self.pages.partition_point(|(offset, page)| offset + page.len() as u64 <= start);
        if let Some((offset, page)) = self.pages.get(first)
            && end <= offset + page.len() as u64
        {
            return page.slice(within(*offset, page, start, end));
        }
        let mut all = BytesMut::with_capacity(usize::try_from(end - start).unwrap_or(0));
        for (offset, page) in self.pages.iter().skip(first).take_while(|(offset, _)| *offset < end) {
            all.extend_from_slice(&page[within(*offset, page, start, end)]);
        }
        if let Some((offset, page)) = &self.open
            && *offset < end
        {
            all.extend_from_slice(&page.filled()[within(*offset, page.filled(), start, end)]);
        }
        debug_assert_eq!(all.len() as u64, end - start, "nothing of it was dropped");
        all.freeze()
    }
}

/// Where the page that holds `offset` ends: pages lie at multiples of their size, as the kernel's requests do.
const fn page_end(offset: u64) -> u64 {
    (offset / PAGE_BYTES as u64 + 1) * PAGE_BYTES as u64
}

/// The part of a page at `offset` that lies between `start` and `end`.
fn within(offset: u64, page: &[u8], start: u64, end: u64) -> std::ops::Range<usize> {
    let place = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX).min(page.len());
    place(start)..place(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::budget::{Budget, Class};

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_whatever_the_chunks() {
        let budget = Budget::new(0);
        let data: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let range = ByteRange::new(1000, 1000 + data.len() as u64).unwrap();
        let segment = Segment::new(range, 0, budget.try_acquire(Class::Read, range.len()).unwrap());
        let chunks: Vec<_> = data.chunks(777).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        segment.fill(Body::new(futures_util::stream::iter(chunks))).await;
        for (start, len) in [(0u64, 1u64), (776, 2), (0, 100_000), (50_000, 3000), (99_999, 1)] {
            let wanted = ByteRange::new(1000 + start, 1000 + start + len).unwrap();
            let got = segment.read(wanted).await.unwrap().unwrap();
            assert_eq!(&got[..], &data[usize::try_from(start).unwrap()..usize::try_from(start + len).unwrap()]);
        }
        assert_eq!(budget.used(), range.len());
        segment.drop_before(51_000);
        assert!(segment.covers(1000), "a page goes as a whole");
        segment.drop_before(u64::MAX);
        assert_eq!(budget.used(), 0);
        assert!(segment.is_spent());
    }

    const PAGE: u64 = PAGE_BYTES as u64;

    /// A segment of two pages, of which one has arrived.
    fn half_filled(budget: &Budget) -> (Arc<Segment>, ByteRange) {
        let range = ByteRange::new(0, 2 * PAGE).unwrap();
        let segment = Segment::new(range, 0, budget.try_acquire(Class::Read, range.len()).unwrap());
        assert!(segment.push(Bytes::from(vec![1; PAGE_BYTES])));
        (segment, range)
    }

    #[tokio::test]
    async fn bytes_that_were_dropped_are_never_answered_with_others() {
        let budget = Budget::new(0);
        let (segment, range) = half_filled(&budget);
        segment.drop_before(PAGE);
        assert!(segment.push(Bytes::from(vec![2; PAGE_BYTES])));
        assert_eq!(segment.read(range).await.unwrap(), None);
        assert_eq!(segment.try_read(range), None);
        let rest = segment.read(ByteRange::new(PAGE, 2 * PAGE).unwrap()).await.unwrap().unwrap();
        assert!(rest.len() == PAGE_BYTES && rest.iter().all(|byte| *byte == 2));
    }

    #[tokio::test]
    async fn what_a_read_waits_for_is_not_taken_away_under_it() {
        let budget = Budget::new(0);
        let (segment, range) = half_filled(&budget);
        let reading = tokio::spawn({
            let segment = Arc::clone(&segment);
            async move { segment.read(range).await }
        });
        tokio::task::yield_now().await;
        segment.drop_before(PAGE);
        assert_eq!(segment.evict(), 0);
        assert!(segment.push(Bytes::from(vec![2; PAGE_BYTES])));
        assert_eq!(reading.await.unwrap().unwrap().unwrap().len(), 2 * PAGE_BYTES);
        assert_eq!(segment.evict(), 2 * PAGE);
        assert_eq!(budget.used(), 0);
        assert!(!segment.push(Bytes::from_static(b"late")), "the transfer ends");
        assert_eq!(segment.read(range).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_read_pays_for_its_page_until_it_is_let_go() {
        let budget = Budget::new(0);
        let (segment, _) = half_filled(&budget);
        let share = segment.try_read(ByteRange::new(5, 10).unwrap()).unwrap();
        segment.drop_before(PAGE);
        assert_eq!(budget.used(), 2 * PAGE);
        drop(share);
        assert_eq!(budget.used(), PAGE);
    }
}
