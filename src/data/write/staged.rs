//! The bytes of a file that have not left yet, in pages of 1 MiB. Pure but for the budget.
//!
//! Invariants: the chunks cover `sent..len` (a chunk shorter than its share stands for zeros at its end); `sent` is a
//! multiple of [`PAGE_BYTES`]; only the last chunk's capacity may be less than a page.

use bytes::{Bytes, BytesMut};

use crate::data::budget::{Budget, Class, FIRST_PAGE_BYTES, PAGE_BYTES, Page, Permit};

/// Staged pages and how much has left before them.
#[derive(Debug, Default)]
pub(super) struct Staged {
    sent: u64,
    staged: usize,
    chunks: Vec<Chunk>,
    /// Memory that was waited for and is not used yet.
    prepaid: Option<Permit>,
}

#[derive(Debug)]
enum Chunk {
    /// Still written to.
    Open(Page),
    /// Shared with a request; changed only by a copy.
    Frozen(Bytes),
}

/// This many bytes of the budget are missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NeedMemory(pub u64);

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Open(page) => page.filled(),
            Self::Frozen(bytes) => bytes,
        }
    }

    const fn capacity(&self) -> usize {
        match self {
            Self::Open(page) => page.capacity(),
            Self::Frozen(_) => 0,
        }
    }
}

impl Staged {
    /// Bytes that have left.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes that are here.
    pub(super) const fn staged(&self) -> u64 {
        self.staged as u64
    }

    /// The length of the whole content, what has left included.
    pub(super) const fn len(&self) -> u64 {
        self.sent + self.staged()
    }

    /// Adds memory that was waited for.
    pub(super) fn prepay(&mut self, permit: Permit) {
        match &mut self.prepaid {
            Some(prepaid) => prepaid.merge(permit),
            None => self.prepaid = Some(permit),
        }
    }

    /// Writes `data` at `offset` (not before `sent`); a gap before it reads as zeros. All of it or nothing.
    pub(super) fn write(&mut self, budget: &Budget, offset: u64, data: &[u8]) -> Result<(), NeedMemory> {
        let start = self.place(offset);
        let end = start + data.len();
        self.reserve(budget, end)?;
        let mut at = start;
        let mut rest = data;
        while !rest.is_empty() {
            let within = at % PAGE_BYTES;
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - within));
            overwrite(self.open_mut(budget, at / PAGE_BYTES).bytes_mut(), within, now);
            at += now.len();
            rest = later;
        }
        self.staged = self.staged.max(end);
        self.prepaid = None;
        Ok(())
    }

    /// The bytes at `offset`, at most `len`; `None` when they have left.
    pub(super) fn read(&self, offset: u64, len: u64) -> Option<Bytes> {
        if offset < self.sent {
            return None;
        }
        let end = offset.saturating_add(len).min(self.len());
        if offset >= end {
            return Some(Bytes::new());
        }
        let (mut at, end) = (self.place(offset), self.place(end));
        let mut all = BytesMut::with_capacity(end - at);
        while at < end {
            let (chunk, within) = (self.chunks.get(at / PAGE_BYTES)?.bytes(), at % PAGE_BYTES);
            let now = (end - at).min(PAGE_BYTES - within);
            let have = chunk.len().saturating_sub(within).min(now);
            all.extend_from_slice(&chunk[chunk.len().min(within)..][..have]);
            all.resize(all.len() + now - have, 0);
            at += now;
        }
        Some(all.freeze())
    }

    /// Cuts to `len` bytes in all (not before `sent`, not beyond the end).
    pub(super) fn truncate(&mut self, len: u64) {
        let keep = self.place(len).min(self.staged);
        self.chunks.truncate(keep.div_ceil(PAGE_BYTES));
        self.staged = keep;
        let last = self.chunks.len().saturating_sub(1);
        let within = keep - last * PAGE_BYTES;
        match self.chunks.last_mut() {
            Some(Chunk::Open(page)) => page.bytes_mut().truncate(within),
            Some(Chunk::Frozen(bytes)) => bytes.truncate(within),
            None => {}
        }
    }

    /// Takes the first `bytes` (whole pages, or all that is left) out: they leave as a part.
    pub(super) fn take(&mut self, bytes: u64) -> Vec<Bytes> {
        let taken = self.place(self.sent + bytes).min(self.staged);
        let pages = taken.div_ceil(PAGE_BYTES);
        let lengths: Vec<usize> = (0..pages).map(|index| self.share_of(index)).collect();
        let out = self.chunks.drain(..pages).zip(lengths).map(|(chunk, len)| freeze(chunk, len)).collect();
        self.sent += taken as u64;
        self.staged -= taken;
        out
    }

    /// Shares all that is here: for a request that may have to be repeated.
    pub(super) fn share(&mut self) -> Vec<Bytes> {
        let lengths: Vec<usize> = (0..self.chunks.len()).map(|index| self.share_of(index)).collect();
        let chunks = std::mem::take(&mut self.chunks);
        let frozen: Vec<Bytes> = chunks.into_iter().zip(lengths).map(|(chunk, len)| freeze(chunk, len)).collect();
        self.chunks = frozen.iter().cloned().map(Chunk::Frozen).collect();
        frozen
    }

    /// How many bytes the chunk at `index` stands for.
    fn share_of(&self, index: usize) -> usize {
        (self.staged - index * PAGE_BYTES).min(PAGE_BYTES)
    }

    /// An offset of the file as a place in the chunks; it fits, since what is staged fits memory.
    fn place(&self, offset: u64) -> usize {
        usize::try_from(offset - self.sent).unwrap_or(usize::MAX)
    }

    /// Makes room for chunks up to the place `end`, all of it or nothing.
    fn reserve(&mut self, budget: &Budget, end: usize) -> Result<(), NeedMemory> {
        let pages = end.div_ceil(PAGE_BYTES);
        let capacity_at = |index: usize| match end - index * PAGE_BYTES {
            first if index == 0 && pages == 1 => first.next_power_of_two().clamp(FIRST_PAGE_BYTES, PAGE_BYTES),
            _ => PAGE_BYTES,
        };
        // The last chunk there is may be too small for what it will hold, or shared and then copied.
        let last = self.chunks.len().checked_sub(1).filter(|index| end > index * PAGE_BYTES).and_then(|index| {
            let wanted = (end - index * PAGE_BYTES).min(PAGE_BYTES);
            let have = self.chunks[index].capacity();
            (have < wanted).then(|| (index, have, capacity_at(index)))
        });
        let grown = last.map_or(0, |(_, have, capacity)| capacity - have);
        let fresh: usize = (self.chunks.len()..pages).map(capacity_at).sum();
        let missing = (grown + fresh) as u64;
        if missing == 0 {
            return Ok(());
        }
        let mut permit = self.pay(budget, missing)?;
        if let Some((index, _, capacity)) = last {
            let paid = permit.split(grown as u64);
            match &mut self.chunks[index] {
                Chunk::Open(page) => page.grow(capacity, paid),
                Chunk::Frozen(bytes) => {
                    let mut page = budget.page(paid, capacity);
                    page.bytes_mut().extend_from_slice(bytes);
                    self.chunks[index] = Chunk::Open(page);
                }
            }
        }
        for index in self.chunks.len()..pages {
            let paid = permit.split(capacity_at(index) as u64);
            self.chunks.push(Chunk::Open(budget.page(paid, capacity_at(index))));
        }
        Ok(())
    }

    fn pay(&mut self, budget: &Budget, bytes: u64) -> Result<Permit, NeedMemory> {
        match self.prepaid.take() {
            Some(prepaid) if prepaid.bytes() >= bytes => Ok(prepaid),
            _ => budget.try_acquire(Class::Write, bytes).ok_or(NeedMemory(bytes)),
        }
    }

    /// The page at `index`, copied first when it is shared. The copy may pass the limit, a page at a time: it replaces one
    /// that a request still holds, for as long as the request lasts.
    fn open_mut(&mut self, budget: &Budget, index: usize) -> &mut Page {
        let chunk = &mut self.chunks[index];
        if let Chunk::Frozen(bytes) = chunk {
            let mut page = budget.page(budget.overdraw(Class::Write, PAGE_BYTES as u64), PAGE_BYTES);
            page.bytes_mut().extend_from_slice(bytes);
            *chunk = Chunk::Open(page);
        }
        match chunk {
            Chunk::Open(page) => page,
            Chunk::Frozen(_) => unreachable!("thawed above"),
        }
    }
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

/// Ends writing to a chunk that stands for `len` bytes.
fn freeze(chunk: Chunk, len: usize) -> Bytes {
    match chunk {
        Chunk::Frozen(bytes) if bytes.len() == len => bytes,
        Chunk::Frozen(bytes) => {
            let mut all = BytesMut::from(&bytes[..]);
            all.resize(len, 0);
            all.freeze()
        }
        Chunk::Open(mut page) => {
            page.bytes_mut().resize(len, 0);
            page.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write { back: usize, len: usize },
        Gap { gap: usize, len: usize },
        Truncate { keep: usize },
        Take { pages: usize },
        Share,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3_000_000usize, 0..1_500_000usize).prop_map(|(back, len)| Step::Write { back, len }),
            (0..1_500_000usize, 1..70_000usize).prop_map(|(gap, len)| Step::Gap { gap, len }),
            (0..2_000_000usize).prop_map(|keep| Step::Truncate { keep }),
            (1..3usize).prop_map(|pages| Step::Take { pages }),
            Just(Step::Share),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        /// The oracle is a plain vector.
        #[test]
        fn staged_pages_hold_what_a_vector_would(steps in proptest::collection::vec(step(), 1..25)) {
            let budget = Budget::new(1 << 30);
            let mut staged = Staged::default();
            let mut oracle: Vec<u8> = Vec::new();
            let mut sent: Vec<u8> = Vec::new();
            let mut stamp = 0u8;
            for step in steps {
                stamp = stamp.wrapping_add(1);
                let left = sent.len();
                match step {
                    Step::Write { back, len } => {
                        let offset = oracle.len().saturating_sub(back).max(left);
                        staged.write(&budget, offset as u64, &vec![stamp; len]).unwrap();
                        oracle.resize(oracle.len().max(offset + len), 0);
                        oracle[offset..offset + len].fill(stamp);
                    }
                    Step::Gap { gap, len } => {
                        let offset = oracle.len() + gap;
                        staged.write(&budget, offset as u64, &vec![stamp; len]).unwrap();
                        oracle.resize(offset + len, 0);
                        oracle[offset..].fill(stamp);
                    }
                    Step::Truncate { keep } => {
                        let keep = (left + keep).min(oracle.len());
                        staged.truncate(keep as u64);
                        oracle.truncate(keep);
                    }
                    Step::Take { pages } => {
                        if staged.staged() as usize >= pages * PAGE_BYTES {
                            for bytes in staged.take((pages * PAGE_BYTES) as u64) {
                                sent.extend_from_slice(&bytes);
                            }
                        }
                    }
                    Step::Share => {
                        let all: Vec<u8> = staged.share().concat();
                        prop_assert!(all == oracle[left..]);
                    }
                }
                prop_assert_eq!(staged.len() as usize, oracle.len());
                prop_assert!(oracle.starts_with(&sent));
                let read = staged.read(staged.sent(), u64::MAX).unwrap();
                prop_assert!(read[..] == oracle[sent.len()..]);
            }
            drop(staged);
            prop_assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn a_small_file_takes_little_memory() {
        let budget = Budget::new(0);
        let mut staged = Staged::default();
        staged.write(&budget, 0, b"hello").unwrap();
        assert_eq!(budget.used(), FIRST_PAGE_BYTES as u64);
    }
}
