//! What was only appended is appended anew when another client has made something else of the object meanwhile: behind that,
//! and only what is not in it already.
//!
//! A request that was sent and not answered may have made its object all the same, and the other client have appended to
//! that. Then its commit token is gone, and its bytes are where it has put them: appending moves nothing. So the parts that
//! such a request would have made are summed up in what is there now. If they are there, it was applied, or another client
//! has appended the very same bytes at the very same place.

use std::sync::Arc;

use bytes::BytesMut;

use super::access::{At, Change};
use super::commit::token_of;
use super::extents::{Extents, Place, SourceId};
use super::plan::PART_BYTES;
use super::settle::Source;
use super::{State, Stored, Writer};
use crate::data::{Error, Result};
use crate::store::{ByteRange, ObjectInfo, ObjectStore, Part, Properties};

/// A commit of which nobody knows whether it was applied.
#[derive(Debug, Clone)]
pub(super) struct Doubt {
    /// The token it carries.
    pub(super) token: String,
    /// What it would have made, in order. `None` when the content is another one since.
    parts: Option<Arc<[Part]>>,
}

impl Doubt {
    /// Of the commit that has sent these properties.
    pub(super) fn of(properties: &Properties, parts: Option<Vec<Part>>) -> Option<Self> {
        Some(Self { token: token_of(properties)?.to_owned(), parts: parts.map(Arc::from) })
    }

    /// The content is another one from now on.
    pub(super) fn forget_parts(&mut self) {
        self.parts = None;
    }

    fn parts(&self) -> Option<(u64, Arc<[Part]>)> {
        let parts = self.parts.clone()?;
        Some((parts.iter().map(|part| part.size).sum(), parts))
    }
}

/// More appended bytes than these are not moved in memory: they may not be there.
const MAX_MOVED_BYTES: u64 = PART_BYTES;
/// They are carried over so many at a time.
const CARRIED_BYTES: u64 = 1 << 20;

/// What became of a content that was to go behind another object.
#[derive(Debug)]
pub enum Rebased<S> {
    /// It does, as of the next commit of this writer, which takes the place of the one that was asked.
    Behind(Arc<Writer<S>>),
    /// The object is another one already.
    Moved,
    /// Something else was done than to append, or what was appended is not here any more: nothing has changed.
    Impossible,
}

impl<S: ObjectStore> State<S> {
    /// How many bytes the content began with: those of the object that it changes.
    fn begun_with(&self) -> u64 {
        self.own.and_then(|own| self.sources.get(own.0)).map_or(0, |stored| stored.pin.size)
    }

    /// Whether what is behind `stored` was appended, and is here.
    fn has_appended_only(&self, stored: u64) -> bool {
        let here = !self.extents.any(stored, self.extents.len(), |place| place != Place::Staged);
        self.appended_only && here && self.damaged.is_none()
    }
}

impl<S: ObjectStore> Writer<S> {
    /// Whether the store may have a content of this writer's that it was not heard to take.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        let state = self.lock();
        state.made.is_some() || !state.doubtful.is_empty()
    }

    /// Whether `info` is of a commit of this writer's that was not heard to be taken.
    #[must_use]
    pub fn may_have_made(&self, info: &ObjectInfo) -> bool {
        let state = self.lock();
        let completed = state.made.as_ref().is_some_and(|(_, done)| done.committed.etag == info.etag);
        completed || token_of(&info.properties).is_some_and(|token| state.doubtful.iter().any(|own| own.token == token))
    }

    /// Whether all that was appended is at hand, so that it can go behind whatever is there.
    pub(super) fn is_movable(&self) -> bool {
        let state = self.lock();
        state.generation > 0 && state.has_appended_only(state.begun_with())
    }

    /// Begins anew behind what another client has made of the object: what was appended is appended to that. The caller holds
    /// the file's gate alone.
    ///
    /// # Errors
    /// The store's, when it must be looked what is there, or parts are sent anew; nothing has changed then.
    pub async fn append_to(self: &Arc<Self>, now: Option<Source>) -> Result<Rebased<S>> {
        let stored = match self.stored_in(now.as_ref()).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(Rebased::Impossible),
            Err(Error::Stale) => return Ok(Rebased::Moved),
            Err(error) => return Err(error),
        };
        let (len, in_memory) = {
            let state = self.lock();
            let len = state.extents.len();
            if !state.has_appended_only(stored) {
                return Ok(Rebased::Impossible);
            }
            let appended = ByteRange::new(stored, len);
            (len, appended.is_none_or(|range| range.len() <= MAX_MOVED_BYTES && !state.pages.is_away(range)))
        };
        if in_memory { self.move_behind(now, stored, len).await } else { self.carry_behind(now, stored, len).await }
    }

    /// Makes the bytes `stored..len`, which are in memory, those behind `now`.
    async fn move_behind(self: &Arc<Self>, now: Option<Source>, stored: u64, len: u64) -> Result<Rebased<S>> {
        let upload = {
            let mut state = self.lock();
            let new = now.as_ref().map_or(0, |now| now.size);
            let mut appended = BytesMut::new();
            if let Some(range) = ByteRange::new(stored, len) {
                state.pages.read(range, &mut appended);
            }
            state.extents = Extents::of_object(SourceId(0), new);
            state.own = now.as_ref().map(|_| SourceId(0));
            state.sources = now.into_iter().map(|pin| Stored { pin, reader: None }).collect();
            state.stage_anew(&self.shared.budget, new, &appended);
            state.changed();
            // Whether they were applied is known.
            state.doubtful.clear();
            state.made = None;
            // What has left is of a content that nobody wants any more.
            let left = state.sending.end > 0;
            left.then(|| std::mem::take(&mut state.sending).upload.get().cloned()).flatten()
        };
        if let Some((upload, _)) = upload {
            self.abort(&upload).await;
        }
        Ok(Rebased::Behind(Arc::clone(self)))
    }

    /// As [`Writer::move_behind`], by another writer, which waits for memory and uses the staging directory as any other; this one
    /// has all its bytes until that one has them, too.
    async fn carry_behind(self: &Arc<Self>, now: Option<Source>, stored: u64, len: u64) -> Result<Rebased<S>> {
        let (shared, destination) = (self.shared.clone(), self.destination());
        let behind = match now {
            Some(now) => Self::of_object(shared, destination, now),
            None => Self::new(shared, destination),
        };
        let mut at = stored;
        while at < len {
            if self.shared.budget.used() > self.shared.budget.limit() / 2 {
                // Nobody asks who is read all the time to make room.
                self.spill(&mut self.lock(), 0);
            }
            let carried = async {
                let bytes = self.read(at, CARRIED_BYTES.min(len - at)).await?;
                let next = at + bytes.len() as u64;
                behind.change(Change::Write(At::End, bytes)).await.map(|()| next)
            };
            match carried.await {
                Ok(next) => at = next,
                Err(error) => {
                    behind.discard().await;
                    // There is no room for them twice.
                    let full = matches!(error, Error::CommitFirst | Error::Full);
                    return if full { Ok(Rebased::Impossible) } else { Err(error) };
                }
            }
        }
        self.discard().await;
        Ok(Rebased::Behind(behind))
    }

    /// How many bytes of the content, from its beginning, need not be appended to `now`: what the content began with, and what
    /// a commit that was not answered has put behind it. `None` when nobody can tell.
    async fn stored_in(&self, now: Option<&Source>) -> Result<Option<u64>> {
        let (own, doubts) = {
            let state = self.lock();
            (state.begun_with(), state.doubtful.clone())
        };
        let Some(now) = now else { return Ok(Some(own)) };
        let Some(mut doubts) = doubts.iter().map(Doubt::parts).collect::<Option<Vec<_>>>() else { return Ok(None) };
        doubts.retain(|(size, _)| (own + 1..=now.size).contains(size));
        doubts.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        for (size, parts) in doubts {
            let Some(has_all) = self.has_all(now, own, &parts).await? else { return Ok(None) };
            if has_all {
                return Ok(Some(size));
            }
        }
        Ok(Some(own))
    }

    /// Whether `now` has the parts that go beyond `from`, each at its place. `None` when nothing tells what they add up to.
    async fn has_all(&self, now: &Source, from: u64, parts: &[Part]) -> Result<Option<bool>> {
        let mut start = 0;
        for part in parts {
            let range = ByteRange::new(start, start + part.size);
            start += part.size;
            let Some(range) = range.filter(|range| range.end() > from) else { continue };
            if part.crc64nvme.is_none() && !part.tag_is_md5 {
                return Ok(None);
            }
            if !self.is_right(now, range, part).await? {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }
}
