//! Changing the bytes of a file that is written.

use std::sync::Arc;

use bytes::Bytes;

use super::append::Doubt;
use super::extents::{Place, SourceId};
use super::pages::Missing;
use super::plan::PART_BYTES;
use super::settle::Source;
use super::{State, Stored, Streams, Writer};
use crate::base::clock;
use crate::data::budget::{Class, PAGE_BYTES, Permit};
use crate::data::{Error, Result};
use crate::store::{ByteRange, MAX_PART_BYTES, MAX_PARTS, ObjectRef, ObjectStore};

/// The largest object that S3 takes, in bytes.
const MAX_OBJECT_BYTES: u64 = MAX_PARTS as u64 * MAX_PART_BYTES;
/// So many parts are left for what is here when a file is committed because its parts are nearly used up.
const SPARE_PARTS: u64 = 200;

/// With more pages in memory than a part has, and one that is being written, a file is not about to send one.
const PAGES_OF_A_PART: usize = (PART_BYTES as usize / PAGE_BYTES) + 1;

/// Where a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// To an offset in bytes.
    Offset(u64),
    /// To the end of the file, wherever that is (`O_APPEND`).
    End,
}

/// A change of the bytes.
#[derive(Debug, Clone)]
pub enum Change {
    /// These bytes, there.
    Write(At, Bytes),
    /// Zeros from the first offset to the second; the file is extended to that.
    Zero(u64, u64),
}

impl Change {
    /// Whether it goes to the end, wherever that is.
    #[must_use]
    pub const fn appends(&self) -> bool {
        matches!(self, Self::Write(At::End, _))
    }
}

/// What became of a write.
#[derive(Debug)]
pub enum Written {
    /// All bytes are taken.
    Done,
    /// There is no memory for them now: use [`Writer::change`] and wait.
    MustWait,
}

impl<S: ObjectStore> Writer<S> {
    /// Takes `data` without waiting: for the FUSE thread itself.
    ///
    /// # Errors
    /// [`Error::CommitFirst`] for bytes that have left already, [`Error::TooLarge`].
    pub fn try_write(self: &Arc<Self>, at: At, data: &[u8]) -> Result<Written> {
        let mut state = self.lock();
        match self.take(&mut state, at, data)? {
            Ok(()) => Ok(Written::Done),
            Err(_) => Ok(Written::MustWait),
        }
    }

    /// Makes a change, waiting for memory when there is none.
    ///
    /// # Errors
    /// As [`Writer::try_write`], and the failure of a part that keeps the memory which this needs. [`Error::CommitFirst`] also
    /// when only a commit frees memory.
    pub async fn change(self: &Arc<Self>, change: Change) -> Result<()> {
        match change {
            Change::Write(at, data) => self.write(at, data).await,
            Change::Zero(start, end) => self.zero(start, end),
        }
    }

    async fn write(self: &Arc<Self>, at: At, data: Bytes) -> Result<()> {
        self.with_memory(|state| self.take(state, at, &data)).await
    }

    /// Repeats `attempt`, with the memory and pages that it was missing.
    pub(super) async fn with_memory(
        self: &Arc<Self>,
        attempt: impl Fn(&mut State<S>) -> Result<std::result::Result<(), Missing>>,
    ) -> Result<()> {
        let mut least = usize::MAX;
        loop {
            let part_done = self.part_done.notified();
            tokio::pin!(part_done);
            part_done.as_mut().enable();
            let (missing, crowds) = {
                let mut state = self.lock();
                match attempt(&mut state)? {
                    Ok(()) => return Ok(()),
                    Err(missing) => (missing, self.crowds_others_out(&state)),
                }
            };
            if let (Some(here), Missing::Memory(_)) = (crowds, &missing) {
                // Less and less is here, or no more can go.
                if here >= least || !self.spill(&mut self.lock(), PAGES_OF_A_PART) {
                    return Err(Error::Full);
                }
                least = here;
                part_done.await;
                continue;
            }
            let needed = match missing {
                Missing::Memory(bytes) => bytes,
                Missing::Page(_) => PAGE_BYTES as u64,
            };
            let permit = match self.shared.budget.try_acquire(Class::Write, needed) {
                Some(permit) => permit,
                None => match self.wait_for_memory(needed, part_done).await? {
                    Some(permit) => permit,
                    None => continue,
                },
            };
            match missing {
                Missing::Memory(_) => self.lock().pages.prepay(permit),
                Missing::Page(page) => self.fetch_page(page, permit).await?,
            }
        }
    }

    /// What has no name is never stored, so its memory comes free only when it is closed: half of all is the most that one file
    /// may keep for so long. How many pages it has, if that is more.
    fn crowds_others_out(&self, state: &State<S>) -> Option<usize> {
        let here = state.pages.count_here();
        (state.streams == Streams::Never && (here * PAGE_BYTES) as u64 > self.shared.budget.limit() / 2).then_some(here)
    }

    /// Waits for so many bytes, or for something to have changed: then it is tried again.
    async fn wait_for_memory(
        self: &Arc<Self>,
        needed: u64,
        part_done: std::pin::Pin<&mut tokio::sync::futures::Notified<'_>>,
    ) -> Result<Option<Permit>> {
        {
            let mut state = self.lock();
            // What has failed is tried again at the commit; until then its memory is not coming back.
            state.sending.failure()?;
            // What can leave shall leave now: others, or this one, get its memory. What cannot, or stays all the same, goes to the
            // staging file, unless it is about to become a part.
            if state.appended_only || !self.cut_early(&mut state) {
                self.spill(&mut state, PAGES_OF_A_PART);
            }
        }
        let budget = &self.shared.budget;
        tokio::select! {
            // What has come free meanwhile is taken before anything is given up.
            biased;
            permit = budget.acquire(Class::Write, needed) => Ok(Some(permit)),
            () = part_done => Ok(None),
            () = self.shared.pressure.nothing_will_free_any() => {
                if self.spill(&mut self.lock(), 1) {
                    return Ok(None);
                }
                self.must_not_wait()?;
                Ok(Some(budget.overdraw(Class::Write, needed)))
            }
        }
    }

    /// Nothing leaves, and there is no memory: what this file has here must be committed, or nobody can help.
    fn must_not_wait(&self) -> Result<()> {
        let state = self.lock();
        let here = state.extents.any(0, u64::MAX, |place| place == Place::Staged);
        if here && state.streams == Streams::Yes && state.is_dirty() {
            return Err(Error::CommitFirst);
        }
        // Files that are still written will free it in the end; those that could not be stored will not.
        if self.shared.pressure.has_failures() { Err(Error::Full) } else { Ok(()) }
    }

    fn take(self: &Arc<Self>, state: &mut State<S>, at: At, data: &[u8]) -> Result<std::result::Result<(), Missing>> {
        let len = state.extents.len();
        let offset = match at {
            At::Offset(offset) => offset,
            At::End => len,
        };
        let Some(range) = range(offset, data.len() as u64)? else { return Ok(Ok(())) };
        state.accept(range)?;
        let extra = state.pages.extra(offset, data.len());
        if extra > 0 && !state.pages.is_away(range) && self.crowds_others_out(state).is_some() {
            return Ok(Err(Missing::Memory(extra)));
        }
        if let Err(missing) = state.pages.write(&self.shared.budget, offset, data) {
            return Ok(Err(missing));
        }
        state.extents.set(range, Place::Staged);
        // What begins a little behind the end goes on too: the hole is never filled, as a rule. A large one may well be.
        let behind = offset >= len && offset - len <= PART_BYTES && state.run.1 == len;
        let goes_on = offset == state.run.1 || behind;
        state.run = (if goes_on { state.run.0 } else { offset }, range.end());
        state.changed();
        state.appended_only &= at == At::End;
        self.cut_parts(state);
        Ok(Ok(()))
    }

    /// Cuts or extends the content to `len` bytes.
    ///
    /// # Errors
    /// [`Error::CommitFirst`] when bytes that have left would have to change, [`Error::TooLarge`].
    pub async fn truncate(self: &Arc<Self>, len: u64) -> Result<()> {
        if len == 0 && self.has_left() {
            self.discard().await;
        }
        if len > MAX_OBJECT_BYTES {
            return Err(Error::TooLarge);
        }
        let mut state = self.lock();
        if state.extents.len() == len {
            return Ok(());
        }
        if len < state.sending.end || state.is_in_doubt() {
            return Err(Error::CommitFirst);
        }
        state.extents.truncate(len);
        state.pages.forget(len, u64::MAX);
        if len == 0 {
            (state.sources, state.own) = (Vec::new(), None);
        }
        // What comes after goes on, wherever it is.
        state.run = (len, len);
        state.changed();
        state.appended_only = len == 0;
        state.doubtful.iter_mut().for_each(Doubt::forget_parts);
        Ok(())
    }

    fn zero(&self, start: u64, end: u64) -> Result<()> {
        let Some(range) = range(start, end.saturating_sub(start))? else { return Ok(()) };
        self.replace(range, |_| Place::Zero)
    }

    /// Makes the bytes from `offset` on a copy of `len` bytes of an object from `at` on. What is copied stays where it is until
    /// the commit, so nothing is waited for.
    ///
    /// # Errors
    /// As [`Writer::try_write`].
    pub fn refer(&self, offset: u64, object: Source, at: u64, len: u64) -> Result<()> {
        let Some(range) = range(offset, len)? else { return Ok(()) };
        self.replace(range, |state| {
            let source = state.source(object);
            Place::Stored { source, at }
        })
    }

    /// Whether bytes of it are those of an object that is not the file's own, and that `wanted` says yes to.
    pub fn refers_to(&self, wanted: impl Fn(&ObjectRef) -> bool) -> bool {
        let state = self.lock();
        let is_wanted = |source| Some(source) != state.own && wanted(&state.sources[source.0].pin.object);
        state.extents.all().any(|extent| matches!(extent.place, Place::Stored { source, .. } if is_wanted(source)))
    }

    fn replace(&self, range: ByteRange, place: impl FnOnce(&mut State<S>) -> Place) -> Result<()> {
        let mut state = self.lock();
        state.accept(range)?;
        let place = place(&mut state);
        state.extents.set(range, place);
        state.pages.forget(range.start(), range.end());
        state.run = (range.end(), range.end());
        state.changed();
        state.appended_only = false;
        Ok(())
    }
}

impl<S: ObjectStore> State<S> {
    /// Whether the bytes of `range` may change now.
    fn accept(&self, range: ByteRange) -> Result<()> {
        let parts = u64::from(MAX_PARTS);
        let used_up = self.sending.end > 0 && u64::from(self.sending.last_number()) + SPARE_PARTS > parts;
        // Each change in the middle may become two parts.
        let scattered = self.extents.count() as u64 + range.end() / MAX_PART_BYTES + SPARE_PARTS > parts
            && self.extents.count() as u64 > SPARE_PARTS
            && self.streams == Streams::Yes;
        if range.start() < self.sending.end || self.is_in_doubt() || used_up || scattered {
            return Err(Error::CommitFirst);
        }
        Ok(())
    }

    /// The number of an object that bytes are taken from.
    pub(super) fn source(&mut self, pin: Source) -> SourceId {
        let known = self.sources.iter().position(|stored| (&stored.pin.object, &stored.pin.etag) == (&pin.object, &pin.etag));
        if known.is_none() {
            self.sources.push(Stored { pin, reader: None });
        }
        SourceId(known.unwrap_or(self.sources.len() - 1))
    }

    pub(super) fn changed(&mut self) {
        self.generation += 1;
        self.changed_at = clock::instant();
        if self.streams == Streams::NotNow {
            // They did not go.
            self.streams = Streams::Yes;
        }
        self.used_at = self.changed_at;
    }
}

/// The bytes `offset..offset + len`; none when they are none.
fn range(offset: u64, len: u64) -> Result<Option<ByteRange>> {
    match offset.checked_add(len) {
        Some(end) if end <= MAX_OBJECT_BYTES => Ok(ByteRange::new(offset, end)),
        _ => Err(Error::TooLarge),
    }
}
