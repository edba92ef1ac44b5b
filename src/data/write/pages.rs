//! The bytes of a file that are here, in memory or in the staging file, in pages of 1 MiB of the file. Which bytes of a page count is not known here, but to the
//! extents. Pure but for the budget.
//!
//! Invariants: a chunk lies within its page; what was written to a page is in its chunk, and what lies between is zero or old.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};

use super::staging::Staged;
use crate::data::budget::{Budget, Class, FIRST_PAGE_BYTES, PAGE_BYTES, Page, Permit};
use crate::store::ByteRange;

/// A chunk that does not continue another one begins and grows in steps of this, in bytes: random writes take little memory.
const STEP_BYTES: usize = 64 << 10;

/// Zeros, to be shared by all that send some.
static ZEROS: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![0; PAGE_BYTES]));

/// The pages of one file.
#[derive(Debug, Default)]
pub(super) struct Pages {
    chunks: BTreeMap<u64, Chunk>,
    /// Memory that was waited for and is not used yet.
    prepaid: Option<Permit>,
}

/// What there is of a page.
#[derive(Debug)]
struct Chunk {
    /// Its first byte, counted from the beginning of the page.
    at: usize,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// Still written to.
    Open(Page),
    /// Shared with a request; changed only by a copy.
    Frozen(Bytes),
    /// In the staging file.
    Away(Arc<Staged>),
}

/// What a write lacks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// So many bytes of the budget.
    Memory(u64),
    /// This page is in the staging file.
    Page(u64),
}

/// A piece of what is here.
#[derive(Debug, Clone)]
pub(super) enum Share {
    /// In memory.
    Bytes(Bytes),
    /// In the staging file: so many bytes from that one on.
    Away(Arc<Staged>, usize, usize),
}

/// What must be done to a page before it takes a write.
#[derive(Debug, Clone, Copy)]
struct Shape {
    at: usize,
    capacity: usize,
    /// Bytes of the budget that it takes more than now.
    extra: usize,
}

impl Chunk {
    /// What is in memory of it.
    fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::Open(page) => page.filled(),
            Body::Frozen(bytes) => bytes,
            Body::Away(_) => &[],
        }
    }

    /// Ends writing to it, so that it can be shared; the error is where it is instead.
    fn frozen(&mut self) -> Result<Bytes, Arc<Staged>> {
        let body = std::mem::replace(&mut self.body, Body::Frozen(Bytes::new()));
        let frozen = match body {
            Body::Open(page) => Ok(page.freeze()),
            Body::Frozen(bytes) => Ok(bytes),
            Body::Away(staged) => Err(staged),
        };
        self.body = match &frozen {
            Ok(bytes) => Body::Frozen(bytes.clone()),
            Err(staged) => Body::Away(Arc::clone(staged)),
        };
        frozen
    }
}

impl Pages {
    /// Adds memory that was waited for.
    pub(super) fn prepay(&mut self, permit: Permit) {
        match &mut self.prepaid {
            Some(prepaid) => prepaid.merge(permit),
            None => self.prepaid = Some(permit),
        }
    }

    /// How much memory `len` bytes from `offset` on take that is not theirs already.
    pub(super) fn extra(&self, offset: u64, len: usize) -> u64 {
        spans(offset, len).map(|span| self.shape(span).map_or(0, |shape| shape.extra as u64)).sum()
    }

    /// Takes `data` for the bytes from `offset` on. All of it or nothing.
    pub(super) fn write(&mut self, budget: &Budget, offset: u64, data: &[u8]) -> Result<(), Missing> {
        for span in spans(offset, data.len()) {
            if let Some(Chunk { body: Body::Away(_), .. }) = self.chunks.get(&span.page) {
                return Err(Missing::Page(span.page));
            }
        }
        let mut permit = match self.extra(offset, data.len()) {
            0 => None,
            extra => Some(self.pay(budget, extra)?),
        };
        let mut rest = data;
        for span in spans(offset, data.len()) {
            let (now, later) = rest.split_at(span.len);
            if let Some(shape) = self.shape(span) {
                let paid = permit.as_mut().map(|permit| permit.split(shape.extra as u64));
                self.reshape(budget, span.page, shape, paid);
            }
            if let Some(Chunk { at, body: Body::Open(page) }) = self.chunks.get_mut(&span.page) {
                overwrite(page.bytes_mut(), span.within - *at, now);
            }
            rest = later;
        }
        Ok(())
    }

    /// Whether bytes of `range` are in the staging file.
    pub(super) fn is_away(&self, range: ByteRange) -> bool {
        let (first, last) = (range.start() / PAGE_BYTES as u64, (range.end() - 1) / PAGE_BYTES as u64);
        self.chunks.range(first..=last).any(|(_, chunk)| matches!(chunk.body, Body::Away(_)))
    }

    /// Appends the bytes of `range`, all of which were written and are in memory, to `out`.
    pub(super) fn read(&self, range: ByteRange, out: &mut BytesMut) {
        for span in spans_of(range) {
            let before = out.len();
            if let Some(chunk) = self.chunks.get(&span.page) {
                let bytes = chunk.bytes();
                let from = span.within.saturating_sub(chunk.at).min(bytes.len());
                out.extend_from_slice(&bytes[from..(from + span.len).min(bytes.len())]);
            }
            debug_assert_eq!(out.len() - before, span.len, "what is staged is here");
            out.resize(before + span.len, 0);
        }
    }

    /// Shares the bytes of `range`, all of which were written, with a request that may have to be repeated.
    pub(super) fn share(&mut self, range: ByteRange) -> Vec<Share> {
        let mut shared = Vec::new();
        for span in spans_of(range) {
            let Some(chunk) = self.chunks.get_mut(&span.page) else { continue };
            let from = span.within - chunk.at;
            shared.push(match chunk.frozen() {
                Ok(bytes) => Share::Bytes(bytes.slice(from..from + span.len)),
                Err(staged) => Share::Away(staged, from, span.len),
            });
        }
        shared
    }

    /// How many pages are in memory.
    pub(super) fn count_here(&self) -> usize {
        self.chunks.values().filter(|chunk| !matches!(chunk.body, Body::Away(_))).count()
    }

    /// Pages in memory for the staging file, up to `most`: those that were not written last come first.
    pub(super) fn victims(&mut self, most: usize, last_written: u64) -> Vec<(u64, Bytes)> {
        let last = last_written / PAGE_BYTES as u64;
        let here = self.chunks.iter_mut().filter(|(page, chunk)| **page != last && !matches!(chunk.body, Body::Away(_)));
        here.take(most).filter_map(|(page, chunk)| Some((*page, chunk.frozen().ok()?))).collect()
    }

    /// A page has gone to the staging file, unless it was written to meanwhile.
    pub(super) fn send_away(&mut self, page: u64, bytes: &Bytes, staged: Staged) {
        if let Some(chunk) = self.chunks.get_mut(&page)
            && matches!(&chunk.body, Body::Frozen(now) if now.as_ptr() == bytes.as_ptr() && now.len() == bytes.len())
        {
            chunk.body = Body::Away(Arc::new(staged));
        }
    }

    /// A page in the staging file, to be read.
    pub(super) fn away(&self, page: u64) -> Option<Arc<Staged>> {
        match &self.chunks.get(&page)?.body {
            Body::Away(staged) => Some(Arc::clone(staged)),
            Body::Open(_) | Body::Frozen(_) => None,
        }
    }

    /// A page is back, unless something else has become of it meanwhile.
    pub(super) fn bring_back(&mut self, page: u64, staged: &Arc<Staged>, read: Page) {
        if let Some(chunk) = self.chunks.get_mut(&page)
            && matches!(&chunk.body, Body::Away(now) if Arc::ptr_eq(now, staged))
        {
            chunk.body = Body::Open(read);
        }
    }

    /// Lets go of the pages that lie between the bytes `from` and `to` as a whole.
    pub(super) fn forget(&mut self, from: u64, to: u64) {
        let (first, end) = (from.div_ceil(PAGE_BYTES as u64), to / PAGE_BYTES as u64);
        if first == 0 && end >= self.chunks.last_key_value().map_or(0, |(last, _)| last + 1) {
            self.chunks.clear();
            return;
        }
        while let Some((&page, _)) = self.chunks.range(first..end.max(first)).next() {
            self.chunks.remove(&page);
        }
    }

    /// Lets go of everything; returns how many bytes of memory that frees at least.
    pub(super) fn clear(&mut self) -> u64 {
        let freed = self.chunks.values().map(|chunk| chunk.bytes().len() as u64).sum();
        self.chunks.clear();
        self.prepaid = None;
        freed
    }

    /// What a page must become for a write; `None` when it may be written to as it is.
    fn shape(&self, span: Span) -> Option<Shape> {
        let end = span.within + span.len;
        let Some(chunk) = self.chunks.get(&span.page) else {
            let follows = span.page.checked_sub(1).is_some_and(|before| self.chunks.contains_key(&before));
            let (at, capacity) = match (span.page, span.within) {
                (0, within) if end <= FIRST_PAGE_BYTES => (within & !(FIRST_PAGE_BYTES - 1), FIRST_PAGE_BYTES),
                (_, 0) if follows || span.len >= STEP_BYTES => (0, PAGE_BYTES),
                (_, within) => fit(within & !(STEP_BYTES - 1), end),
            };
            return Some(Shape { at, capacity, extra: capacity });
        };
        let have = match &chunk.body {
            Body::Open(page) if span.within >= chunk.at && end <= chunk.at + page.capacity() => return None,
            Body::Open(page) => page.capacity(),
            Body::Frozen(_) | Body::Away(_) => 0,
        };
        let at = if span.within < chunk.at { 0 } else { chunk.at };
        let (at, capacity) = fit(at, end.max(chunk.at + chunk.bytes().len()));
        // What stays where it is grows; what must move takes its new place before it leaves the old one.
        let extra = if at == chunk.at { capacity - have.min(capacity) } else { capacity };
        Some(Shape { at, capacity, extra })
    }

    fn reshape(&mut self, budget: &Budget, page: u64, shape: Shape, paid: Option<Permit>) {
        let paid = paid.unwrap_or_else(|| budget.overdraw(Class::Write, 0));
        let old = self.chunks.remove(&page);
        let body = match old {
            None => budget.page(paid, shape.capacity),
            Some(Chunk { at, body: Body::Open(mut page) }) if at == shape.at => {
                page.grow(shape.capacity, paid);
                page
            }
            Some(chunk) => {
                let mut body = budget.page(paid, shape.capacity);
                body.bytes_mut().resize(chunk.at - shape.at, 0);
                body.bytes_mut().extend_from_slice(chunk.bytes());
                body
            }
        };
        self.chunks.insert(page, Chunk { at: shape.at, body: Body::Open(body) });
    }

    fn pay(&mut self, budget: &Budget, bytes: u64) -> Result<Permit, Missing> {
        match self.prepaid.take() {
            Some(prepaid) if prepaid.bytes() >= bytes => Ok(prepaid),
            _ => budget.try_acquire(Class::Write, bytes).ok_or(Missing::Memory(bytes)),
        }
    }
}

/// `len` zeros, in shared pieces.
pub(super) fn zeros(len: u64) -> Vec<Bytes> {
    let whole = usize::try_from(len / PAGE_BYTES as u64).unwrap_or(usize::MAX);
    let rest = usize::try_from(len % PAGE_BYTES as u64).unwrap_or(0);
    let mut pieces = vec![ZEROS.clone(); whole];
    if rest > 0 {
        pieces.push(ZEROS.slice(..rest));
    }
    pieces
}

/// Where a chunk begins and its capacity, when it must reach from `at` to `end` of its page.
fn fit(at: usize, end: usize) -> (usize, usize) {
    (at, (end - at).next_power_of_two().max(STEP_BYTES).min(PAGE_BYTES - at))
}

/// The share of a range that one page has.
#[derive(Debug, Clone, Copy)]
struct Span {
    page: u64,
    within: usize,
    len: usize,
}

fn spans_of(range: ByteRange) -> impl Iterator<Item = Span> {
    spans(range.start(), usize::try_from(range.len()).unwrap_or(usize::MAX))
}

fn spans(offset: u64, len: usize) -> impl Iterator<Item = Span> {
    let mut at = offset;
    let mut left = len;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let within = usize::try_from(at % PAGE_BYTES as u64).unwrap_or(0);
        let span = Span { page: at / PAGE_BYTES as u64, within, len: left.min(PAGE_BYTES - within) };
        at += span.len as u64;
        left -= span.len;
        Some(span)
    })
}

/// Puts `data` at `within`, filling what is missing before it with zeros; within the page's capacity.
fn overwrite(bytes: &mut Vec<u8>, within: usize, data: &[u8]) {
    if bytes.len() < within {
        bytes.resize(within, 0);
    }
    let replaced = (bytes.len() - within).min(data.len());
    let (over, beyond) = data.split_at(replaced);
    bytes[within..within + replaced].copy_from_slice(over);
    bytes.extend_from_slice(beyond);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::write::staging::Staging;

    #[derive(Debug, Clone)]
    enum Step {
        Write { at: usize, len: usize },
        Share { at: usize, len: usize },
        Forget { at: usize, len: usize },
        SendAway { pages: usize, last: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = prop_oneof![0..4_000_000usize, (0..4usize).prop_map(|page| page * PAGE_BYTES)];
        let len = prop_oneof![1..6000usize, 1..1_500_000usize];
        prop_oneof![
            5 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Write { at, len }),
            1 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Share { at, len }),
            1 => (at.clone(), len).prop_map(|(at, len)| Step::Forget { at, len }),
            2 => (1..4usize, at).prop_map(|(pages, last)| Step::SendAway { pages, last }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        /// The oracle is a vector of what was written and is still here.
        #[test]
        fn pages_hold_what_a_vector_would(steps in proptest::collection::vec(step(), 1..20)) {
            let budget = Budget::new(1 << 30);
            let mut pages = Pages::default();
            let mut oracle: Vec<Option<u8>> = vec![None; 6_000_000];
            let mut stamp = 0u8;
            let mut kept: Vec<(Vec<Share>, Vec<u8>)> = Vec::new();
            let file = Staging::new(std::env::temp_dir(), 1 << 30).file().unwrap();
            // The first run of written bytes in a range.
            let run = |oracle: &[Option<u8>], at: usize, len: usize| {
                let start = (at..at + len).find(|n| oracle[*n].is_some())?;
                let end = (start..at + len).find(|n| oracle[*n].is_none()).unwrap_or(at + len);
                Some((ByteRange::new(start as u64, end as u64).unwrap(), start, end))
            };
            for step in steps {
                stamp = stamp.wrapping_add(1);
                match step {
                    Step::Write { at, len } => {
                        while let Err(missing) = pages.write(&budget, at as u64, &vec![stamp; len]) {
                            let Missing::Page(page) = missing else { panic!("there is memory") };
                            let staged = pages.away(page).unwrap();
                            let mut read = budget.page(budget.overdraw(Class::Write, PAGE_BYTES as u64), PAGE_BYTES);
                            staged.read(0, staged.len(), read.bytes_mut()).unwrap();
                            pages.bring_back(page, &staged, read);
                        }
                        oracle[at..at + len].fill(Some(stamp));
                    }
                    Step::Share { at, len } => {
                        if let Some((range, start, end)) = run(&oracle, at, len) {
                            let wanted: Vec<u8> = oracle[start..end].iter().map(|byte| byte.unwrap()).collect();
                            kept.push((pages.share(range), wanted));
                        }
                    }
                    Step::SendAway { pages: count, last } => {
                        for (page, bytes) in pages.victims(count, last as u64) {
                            let staged = file.put(&bytes).unwrap().unwrap();
                            pages.send_away(page, &bytes, staged);
                        }
                    }
                    Step::Forget { at, len } => {
                        pages.forget(at as u64, (at + len) as u64);
                        let (first, end) = (at.div_ceil(PAGE_BYTES), (at + len) / PAGE_BYTES);
                        if first < end {
                            oracle[first * PAGE_BYTES..end * PAGE_BYTES].fill(None);
                        }
                    }
                }
                for at in [0, 500_000, 1 << 20, 3_000_000] {
                    if let Some((range, start, end)) = run(&oracle, at, 2_000_000)
                        && !pages.is_away(range)
                    {
                        let mut read = BytesMut::new();
                        pages.read(range, &mut read);
                        prop_assert!(read.iter().map(|byte| Some(*byte)).eq(oracle[start..end].iter().copied()));
                    }
                }
            }
            for (shared, wanted) in kept {
                let shared: Vec<Bytes> = shared.iter().map(|share| match share {
                    Share::Bytes(bytes) => bytes.clone(),
                    Share::Away(staged, from, len) => {
                        let mut out = Vec::new();
                        staged.read(*from, *len, &mut out).unwrap();
                        out.into()
                    }
                }).collect();
                prop_assert!(shared.concat() == wanted, "what a request has does not change");
            }
            pages.clear();
            prop_assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn a_small_file_takes_little_memory_and_so_does_a_random_write() {
        let budget = Budget::new(1 << 30);
        let mut pages = Pages::default();
        pages.write(&budget, 0, b"hello").unwrap();
        assert_eq!(budget.used(), FIRST_PAGE_BYTES as u64);
        pages.write(&budget, (7 << 20) + 900_000, b"hello").unwrap();
        assert_eq!(budget.used(), (FIRST_PAGE_BYTES + STEP_BYTES) as u64);
    }

    #[test]
    fn zeros_are_as_many_as_asked_for() {
        for len in [0u64, 1, PAGE_BYTES as u64, 3 * PAGE_BYTES as u64 + 5] {
            assert_eq!(zeros(len).iter().map(|piece| piece.len() as u64).sum::<u64>(), len);
        }
    }
}
