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
}

impl Segment {
    /// A segment for `range`, nothing arrived yet.
    #[must_use]
    pub fn new(range: ByteRange, permit: Permit) -> Arc<Self> {
        let state = State { chunks: VecDeque::new(), arrived: range.start(), dropped: range.start(), failure: None, permit };
        Arc::new(Self { range, state: Mutex::new(state), progress: Notify::new() })
    }

    /// The bytes it was begun for.
    #[must_use]
    pub const fn range(&self) -> ByteRange {
        self.range
    }

    /// Whether `offset` is here or will be.
    #[must_use]
    pub fn covers(&self, offset: u64) -> bool {
        let state = self.lock();
        state.failure.is_none() && state.dropped <= offset && offset < self.range.end()
    }

    /// Whether all of it was dropped or it has failed: nothing more to be had.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        let state = self.lock();
        state.failure.is_some() || state.dropped >= self.range.end()
    }

    /// Takes the body's chunks until its end. A body that ends early is an error of the store layer already.
    pub async fn fill(&self, mut body: Body) {
        while let Some(chunk) = body.next().await {
            match chunk {
                Ok(chunk) => self.push(chunk),
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

    fn push(&self, chunk: Bytes) {
        let mut state = self.lock();
        let start = state.arrived;
        state.arrived += chunk.len() as u64;
        if state.arrived > state.dropped {
            state.chunks.push_back((start, chunk));
        } else {
            state.permit.release(chunk.len() as u64);
        }
        drop(state);
        self.progress.notify_waiters();
    }

    /// Drops what lies before `offset`.
    pub fn drop_before(&self, offset: u64) {
        let mut state = self.lock();
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

    /// The bytes of `range` that lie in this segment, from its start on: waits until they are there.
    ///
    /// # Errors
    /// The failure of the GET, unless all that is wanted arrived before it.
    pub async fn read(&self, range: ByteRange) -> Result<Bytes> {
        let end = range.end().min(self.range.end());
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            {
                let state = self.lock();
                if state.arrived >= end {
                    return Ok(gather(&state.chunks, range.start(), end));
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
        (state.dropped <= range.start() && state.arrived >= end).then(|| gather(&state.chunks, range.start(), end))
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
        let segment = Segment::new(range, budget.try_acquire(Class::Read, range.len()).unwrap());
        let chunks: Vec<_> = data.chunks(777).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        segment.fill(Body::new(futures_util::stream::iter(chunks))).await;
        for (start, len) in [(0u64, 1u64), (776, 2), (0, 100_000), (50_000, 3000), (99_999, 1)] {
            let wanted = ByteRange::new(1000 + start, 1000 + start + len).unwrap();
            let got = segment.read(wanted).await.unwrap();
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
}
