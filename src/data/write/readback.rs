//! Reading a file that is written: what is here, what is zero, and what an object has.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::extents::{Extent, Place, SourceId};
use super::pages::{Share, zeros};
use super::staging::Staged;
use super::{State, Stored, Streams, Writer};
use crate::base::clock;
use crate::data::budget::{Class, PAGE_BYTES};
use crate::data::read::Reader;
use crate::data::{Error, Result};
use crate::store::{ByteRange, ObjectRef, ObjectStore};

/// Bytes of an object are fetched so many at a time when all of a file shall be here.
const PULL_BYTES: u64 = 1 << 20;

/// A piece of what is read.
enum Piece<S> {
    Here(Bytes),
    Away(Arc<Staged>, usize, usize),
    There(Arc<Reader<S>>, ByteRange),
}

impl<S: ObjectStore> Writer<S> {
    /// The bytes at `offset`, at most `len`, when all of them are here: no waiting, for the FUSE thread itself.
    #[must_use]
    pub fn try_read(&self, offset: u64, len: u64) -> Option<Bytes> {
        let mut state = self.lock();
        state.used_at = clock::instant();
        state.here(offset, len)
    }

    /// The bytes at `offset`, at most `len`, fewer only at the end.
    ///
    /// # Errors
    /// [`Error::CommitFirst`] for bytes that have left as parts and are not committed; what a reader of an object says.
    pub async fn read(&self, offset: u64, len: u64) -> Result<Bytes> {
        let pieces = self.pieces(offset, len)?;
        let mut all = BytesMut::new();
        let alone = pieces.len() == 1;
        for piece in pieces {
            let bytes = match piece {
                Piece::Here(bytes) => bytes,
                Piece::Away(staged, from, len) => {
                    let permit = self.shared.budget.overdraw(Class::Write, len as u64);
                    let page = self.shared.budget.page(permit, PAGE_BYTES);
                    staged.read_page(from, len, page).await.map_err(Error::of_staging)?.freeze()
                }
                Piece::There(reader, range) => {
                    let bytes = reader.read(range.start(), range.len()).await?;
                    if bytes.len() as u64 != range.len() {
                        // It is shorter than it was.
                        return Err(Error::Stale);
                    }
                    bytes
                }
            };
            if alone {
                return Ok(bytes);
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }

    fn pieces(&self, offset: u64, len: u64) -> Result<Vec<Piece<S>>> {
        let mut state = self.lock();
        state.used_at = clock::instant();
        if let Some(bytes) = state.here(offset, len) {
            return Ok(vec![Piece::Here(bytes)]);
        }
        let extents: Vec<Extent> = state.extents.within(offset, offset.saturating_add(len)).collect();
        let mut pieces = Vec::new();
        for Extent { range, place } in extents {
            match place {
                Place::Sent => return Err(Error::CommitFirst),
                Place::Zero => pieces.extend(zeros(range.len()).into_iter().map(Piece::Here)),
                Place::Staged if !state.pages.is_away(range) => {
                    pieces.extend(state.here(range.start(), range.len()).map(Piece::Here));
                }
                Place::Staged => pieces.extend(state.pages.share(range).into_iter().map(|share| match share {
                    Share::Bytes(bytes) => Piece::Here(bytes),
                    Share::Away(staged, from, len) => Piece::Away(staged, from, len),
                })),
                Place::Stored { source, at } => {
                    let range = ByteRange::new(at, at + range.len()).ok_or(Error::Incomplete)?;
                    pieces.push(Piece::There(self.reader(&mut state, source), range));
                }
            }
        }
        Ok(pieces)
    }

    fn reader(&self, state: &mut State<S>, source: SourceId) -> Arc<Reader<S>> {
        let Stored { pin, reader } = &mut state.sources[source.0];
        let (store, budget) = (&self.shared.store, &self.shared.budget);
        let made = reader
            .get_or_insert_with(|| Reader::new(store.clone(), budget.clone(), pin.object.clone(), pin.etag.clone(), pin.size));
        Arc::clone(made)
    }

    /// Fetches what only objects have that `wanted` says yes to, because they are about to go, as memory comes free; nothing
    /// leaves then, and nothing is let go, before the next change. The caller holds the file's gate alone.
    ///
    /// # Errors
    /// As [`Writer::read`], and [`Error::Full`].
    pub async fn pull(self: &Arc<Self>, wanted: impl Fn(&ObjectRef) -> bool) -> Result<()> {
        {
            let mut state = self.lock();
            if state.streams == Streams::Yes {
                state.streams = Streams::NotNow;
            }
        }
        loop {
            let next = {
                let state = self.lock();
                let is_wanted = |source: SourceId| wanted(&state.sources[source.0].pin.object);
                let stored = |extent: &Extent| matches!(extent.place, Place::Stored { source, .. } if is_wanted(source));
                state.extents.all().find(stored).map(|extent| extent.range)
            };
            let Some(range) = next else { return Ok(()) };
            let bytes = self.read(range.start(), range.len().min(PULL_BYTES)).await?;
            self.with_memory(|state| Ok(state.take_back(&self.shared.budget, range.start(), &bytes))).await?;
        }
    }

    /// Takes bytes that are the content's already, whatever must be in memory for it.
    pub(super) async fn restage(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        loop {
            let staged = self.lock().stage(&self.shared.budget, offset, bytes);
            let Err(page) = staged else { return Ok(()) };
            self.fetch_page_anyway(page).await?;
        }
    }
}

impl<S: ObjectStore> State<S> {
    /// The bytes of a range that lies in memory as a whole.
    fn here(&self, offset: u64, len: u64) -> Option<Bytes> {
        let end = offset.saturating_add(len).min(self.extents.len());
        let Some(range) = ByteRange::new(offset, end) else { return Some(Bytes::new()) };
        if self.extents.any(offset, end, |place| !matches!(place, Place::Staged | Place::Zero)) || self.pages.is_away(range) {
            return None;
        }
        let mut all = BytesMut::with_capacity(usize::try_from(range.len()).unwrap_or(0));
        for Extent { range, place } in self.extents.within(offset, end) {
            if place == Place::Staged {
                self.pages.read(range, &mut all);
            } else {
                all.resize(all.len() + usize::try_from(range.len()).unwrap_or(0), 0);
            }
        }
        Some(all.freeze())
    }
}
