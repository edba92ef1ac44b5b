//! One GET in flight or done, shared by all who wait for its bytes.
//!
//! The chunks stay as the transport delivered them: a read that lies in one chunk is answered without a copy, another one
//! gathers once. A segment owns the budget permit of its bytes and gives it back as they are dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::data::budget::Permit;
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
    chunks: VecDeque<(u64, Bytes)>,
    /// One past the last byte that has arrived.
    arrived: u64,
    /// Bytes before this were dropped.
    dropped: u64,
    failure: Option<Error>,
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
            chunks: VecDeque::new(),
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
        state.chunks.clear();
        let bytes = state.permit.bytes();
        state.permit.release(bytes);
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
                Err(error) => return self.fail(error.into()),
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
        let start = state.arrived;
        state.arrived += chunk.len() as u64;
        if state.arrived > state.dropped {
            state.chunks.push_back((start, chunk));
        } else {
            state.permit.release(chunk.len() as u64);
        }
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
        while let Some((start, chunk)) = state.chunks.front() {
            let end = start + chunk.len() as u64;
            if end > offset {
                break;
            }
            let freed = chunk.len() as u64;
            state.chunks.pop_front();
            state.dropped = end;
            state.permit.release(freed);
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
                    return Ok(Some(gather(&state.chunks, range.start(), end)));
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
        here.then(|| gather(&state.chunks, range.start(), end))
    }

    fn waiting(&self) -> Waiting<'_> {
        self.lock().waiting += 1;
        Waiting(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes from `start` to `end`: a share of one chunk where it has them all, else one copy.
fn gather(chunks: &VecDeque<(u64, Bytes)>, start: u64, end: u64) -> Bytes {
    let first = chunks.partition_point(|(offset, chunk)| offset + chunk.len() as u64 <= start);
    let slice = |index: usize| {
        chunks.get(index).map(|(offset, chunk)| {
            let from = start.saturating_sub(*offset).min(chunk.len() as u64);
            let to = (end - offset).min(chunk.len() as u64);
            // Both fit usize: they are bounded by the chunk's length.
            chunk.slice(usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0))
        })
    };
    let Some(head) = slice(first) else { return Bytes::new() };
    if head.len() as u64 == end - start {
        return head;
    }
    let mut all = BytesMut::with_capacity(usize::try_from(end - start).unwrap_or(0));
    all.extend_from_slice(&head);
    let mut index = first + 1;
    while (all.len() as u64) < end - start
        && let Some(next) = slice(index)
    {
        all.extend_from_slice(&next);
        index += 1;
    }
    all.freeze()
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
        segment.drop_before(51_000);
        assert!(!segment.covers(1000));
        assert!(segment.covers(51_000));
        assert!(budget.used() < 51_000);
        segment.drop_before(u64::MAX);
        assert_eq!(budget.used(), 0);
        assert!(segment.is_spent());
    }

    fn half_filled(budget: &Budget) -> (Arc<Segment>, ByteRange) {
        let range = ByteRange::new(0, 200).unwrap();
        let segment = Segment::new(range, 0, budget.try_acquire(Class::Read, range.len()).unwrap());
        assert!(segment.push(Bytes::from(vec![1; 100])));
        (segment, range)
    }

    #[tokio::test]
    async fn bytes_that_were_dropped_are_never_answered_with_others() {
        let budget = Budget::new(0);
        let (segment, range) = half_filled(&budget);
        segment.drop_before(100);
        assert!(segment.push(Bytes::from(vec![2; 100])));
        assert_eq!(segment.read(range).await.unwrap(), None);
        assert_eq!(segment.try_read(range), None);
        assert_eq!(segment.read(ByteRange::new(100, 200).unwrap()).await.unwrap().unwrap(), vec![2; 100]);
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
        segment.drop_before(100);
        assert_eq!(segment.evict(), 0);
        assert!(segment.push(Bytes::from(vec![2; 100])));
        assert_eq!(reading.await.unwrap().unwrap().unwrap().len(), 200);
        assert_eq!(segment.evict(), 200);
        assert_eq!(budget.used(), 0);
        assert!(!segment.push(Bytes::from_static(b"late")), "the transfer ends");
        assert_eq!(segment.read(range).await.unwrap(), None);
    }
}
