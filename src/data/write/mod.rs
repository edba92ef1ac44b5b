//! Writing one file: any byte in any order, streamed out in parts while it is written in order, committed at flush or fsync.
//!
//! Where each byte lies is said by [`extents`]: in an object that the store has, here in pages, in a part that was sent,
//! or nowhere, being zero. What has not left can be changed at will. What has left as a part can be neither read back nor
//! changed before the upload completes: then the file is committed as it stands first ([`crate::data::Error::CommitFirst`]), and goes on
//! from there. A commit is [`plan`]ned from the extents: unchanged ranges are copied inside the store, changes are sent.
//!
//! Lifecycle: clean or new -> changed -> parts in flight -> committed, or dropped (the upload is aborted). A part keeps its
//! bytes until the store has acknowledged it, so a failed commit can be repeated. The old object stays until `complete`; if
//! the process dies, an incomplete upload is left, never half an object.

mod access;
mod append;
pub mod commit;
mod copy;
mod damage;
pub mod extents;
mod fetch;
pub mod keep;
mod pages;
mod parts;
pub mod plan;
mod pressure;
mod readback;
pub mod settle;
mod spill;
pub mod staging;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

pub use self::access::{At, Change, Written};
pub use self::append::Rebased;
use self::commit::CommitDone;
use self::damage::Damaged;
use self::extents::{Extents, Place, Seek, SourceId};
use self::pages::{Missing, Pages};
use self::parts::Sending;
use self::plan::Limits;
use self::pressure::{Failed, Pressure};
use self::settle::Source;
use self::spill::Away;
use self::staging::Staging;
use crate::base::clock;
use crate::data::budget::{Budget, Class, Holder};
use crate::data::read::Reader;
use crate::store::{BucketName, ByteRange, ETag, ErrorKind, Key, MAX_PARTS, ObjectRef, ObjectStore, Properties, Upload};

/// Parts of all files that are sent at once: enough to hide 20 ms at 80 MiB/s a connection many times over.
pub const MAX_PARTS_IN_FLIGHT: usize = 32;
/// What was committed stays here up to this size, in bytes, for the next change: a small file is sent whole each time.
const RETAINED_BYTES: u64 = plan::PART_BYTES;

/// What all writers of a mount share.
#[derive(Debug, Clone)]
pub struct WriteShared<S> {
    /// Where the bytes go.
    pub store: S,
    /// The memory they lie in.
    pub budget: Budget,
    /// Bounds the parts in flight.
    pub slots: Arc<Semaphore>,
    /// Who fetches bytes without memory for them: one at a time.
    overdrawn: Arc<Semaphore>,
    /// Whether the store makes parts of ranges of objects, as far as is known.
    copies: Arc<AtomicBool>,
    staging: Staging,
    pressure: Arc<Pressure>,
    /// Uploads that could not be aborted: tried again with the next one, and when everything is committed.
    leftovers: Arc<Mutex<Vec<Upload>>>,
}

impl<S> WriteShared<S> {
    /// Writers over `store`, within `budget`; what does not fit goes to `staging`.
    #[must_use]
    pub fn new(store: S, budget: Budget, staging: Staging) -> Self {
        Self {
            store,
            budget,
            slots: Arc::new(Semaphore::new(MAX_PARTS_IN_FLIGHT)),
            overdrawn: Arc::new(Semaphore::new(1)),
            copies: Arc::new(AtomicBool::new(true)),
            staging,
            pressure: Arc::default(),
            leftovers: Arc::default(),
        }
    }

    /// Whether the store makes parts of ranges of objects (`UploadPartCopy`), as far as is known.
    #[must_use]
    pub fn copies_ranges(&self) -> bool {
        self.copies.load(Ordering::Relaxed)
    }

    fn leftovers(&self) -> MutexGuard<'_, Vec<Upload>> {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: ObjectStore> WriteShared<S> {
    /// Aborts what could not be aborted before.
    pub async fn abort_leftovers(&self) {
        let uploads = std::mem::take(&mut *self.leftovers());
        for upload in uploads {
            match self.store.abort_upload(&upload).await {
                Err(error) if error.kind() != ErrorKind::NoUpload => {
                    tracing::warn!(%error, "an upload could not be aborted; its parts cost money until it is");
                    self.leftovers().push(upload);
                }
                _ => {}
            }
        }
    }
}

/// Where a new content goes and with what: fixed when the first part leaves, or at the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: Key,
    /// Headers, metadata, class.
    pub properties: Properties,
}

/// The new content of one file.
#[derive(Debug)]
pub struct Writer<S> {
    shared: WriteShared<S>,
    state: Mutex<State<S>>,
    /// A part has ended, or pages have gone to the staging file.
    part_done: Notify,
    /// Itself, for tasks that somebody else has begun.
    me: Weak<Self>,
}

/// Whether parts may leave while the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streams {
    /// As soon as one is whole.
    Yes,
    /// Not before the next change: the objects that it comes from are about to go, and the file with them.
    NotNow,
    /// Never: the file has no name, so no commit will come.
    Never,
}

/// An object that bytes are taken from.
#[derive(Debug)]
struct Stored<S> {
    pin: Source,
    /// Made by the first read.
    reader: Option<Arc<Reader<S>>>,
}

#[derive(Debug)]
struct State<S> {
    destination: Destination,
    extents: Extents,
    pages: Pages,
    /// By their [`SourceId`].
    sources: Vec<Stored<S>>,
    /// The object of the file's own name, when bytes are taken from it.
    own: Option<SourceId>,
    sending: Sending,
    away: Away,
    /// The bytes written last without going back: first, and one past the last.
    run: (u64, u64),
    /// Nothing was changed but by appending.
    appended_only: bool,
    streams: Streams,
    /// Counts changes of the bytes; equal to `committed` when the store has them all, with the right properties.
    generation: u64,
    committed: Option<u64>,
    /// The object as the last request has made it, with the generation of its bytes, when the commit did not end well: it may
    /// lack the properties it should have.
    made: Option<(u64, CommitDone)>,
    /// Commits that may have been applied, for all anybody knows.
    doubtful: Vec<append::Doubt>,
    /// The object that the last commit has made, when that is wrong: it may have the only copy of what is not here.
    damaged: Option<Damaged>,
    /// The last commit failed, and nobody has repeated it.
    failed: Option<Failed>,
    used_at: Instant,
    changed_at: Instant,
    /// The generation that the last commit was begun for.
    tried: Option<u64>,
}

impl<S: ObjectStore> Writer<S> {
    /// An empty new content for `destination`.
    pub fn new(shared: WriteShared<S>, destination: Destination) -> Arc<Self> {
        let state = State {
            destination,
            extents: Extents::default(),
            pages: Pages::default(),
            sources: Vec::new(),
            own: None,
            sending: Sending::default(),
            away: Away::default(),
            run: (0, 0),
            appended_only: true,
            streams: Streams::Yes,
            generation: 0,
            committed: None,
            made: None,
            doubtful: Vec::new(),
            damaged: None,
            failed: None,
            used_at: clock::instant(),
            changed_at: clock::instant(),
            tried: None,
        };
        let writer =
            Arc::new_cyclic(|me| Self { shared, state: Mutex::new(state), part_done: Notify::new(), me: Weak::clone(me) });
        let holder: Weak<dyn Holder> = Arc::<Self>::downgrade(&writer);
        writer.shared.budget.register(holder);
        writer
    }

    /// The content of an object that is about to be changed: clean, until it is.
    pub fn of_object(shared: WriteShared<S>, destination: Destination, object: Source) -> Arc<Self> {
        let writer = Self::new(shared, destination);
        {
            let mut state = writer.lock();
            state.extents = Extents::of_object(SourceId(0), object.size);
            state.sources = vec![Stored { pin: object, reader: None }];
            state.own = Some(SourceId(0));
            state.committed = Some(0);
        }
        writer
    }

    /// A content that has no name: it stays here, and is never stored.
    pub fn nameless(shared: WriteShared<S>, destination: Destination, bytes: &Bytes) -> Arc<Self> {
        let writer = Self::new(shared, destination);
        {
            let mut state = writer.lock();
            state.streams = Streams::Never;
            state.stage_anew(&writer.shared.budget, 0, bytes);
        }
        writer
    }

    /// The length of the content in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.lock().extents.len()
    }

    /// Whether the content has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the store does not have this content yet.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.lock().is_dirty()
    }

    /// Whether it was last written so long ago, and nobody has tried to commit it since; as of now somebody has.
    pub fn claim(&self, age: Duration) -> bool {
        let mut state = self.lock();
        let present = Some(state.generation);
        let unclaimed = state.committed != present && state.tried != present;
        let old = clock::instant().saturating_duration_since(state.changed_at) >= age;
        if unclaimed && old {
            state.tried = present;
        }
        unclaimed && old
    }

    /// Whether every byte is here, so that the content needs no object.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.bytes_of_store() == 0
    }

    /// How many of its bytes only the store has, in objects or parts.
    #[must_use]
    pub fn bytes_of_store(&self) -> u64 {
        let state = self.lock();
        let there = state.extents.all().filter(|extent| matches!(extent.place, Place::Stored { .. } | Place::Sent));
        there.map(|extent| extent.range.len()).sum()
    }

    /// Where the content will go; changes made here travel with the next request that creates it.
    pub fn redirect(&self, change: impl FnOnce(&mut Destination)) {
        change(&mut self.lock().destination);
    }

    /// Where the content will go and with what.
    #[must_use]
    pub fn destination(&self) -> Destination {
        self.lock().destination.clone()
    }

    /// Whether parts have left for the present destination's key already.
    #[must_use]
    pub fn has_left(&self) -> bool {
        let state = self.lock();
        state.sending.end > 0 || state.damaged.is_some()
    }

    /// Whether nothing was ever written to it.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.lock().generation == 0
    }

    /// Whether it was changed by appending only.
    #[must_use]
    pub fn was_appended_only(&self) -> bool {
        self.lock().appended_only
    }

    /// Whether bytes of it are the own object's, and only there.
    #[must_use]
    pub fn refers_to_own(&self) -> bool {
        let state = self.lock();
        let own = state.own;
        state.extents.all().any(|extent| matches!(extent.place, Place::Stored { source, .. } if Some(source) == own))
    }

    /// The first byte at or after `offset` that is data, or is none. What the store has is data.
    #[must_use]
    pub fn seek(&self, offset: u64, wanted: Seek) -> Option<u64> {
        self.lock().extents.seek(offset, wanted)
    }

    /// This mount has made another object of the file's own, which was `old`, without changing its bytes, or moved it.
    pub fn repin(&self, old: &ETag, object: &ObjectRef, etag: &ETag) {
        let mut state = self.lock();
        let Some(own) = state.own else { return };
        if let Some(stored) = state.sources.get_mut(own.0).filter(|stored| stored.pin.etag == *old) {
            stored.pin = Source { object: object.clone(), etag: etag.clone(), ..stored.pin.clone() };
            if let Some(reader) = &stored.reader {
                reader.repin(object.clone(), etag.clone());
            }
        }
    }

    /// The name is gone: nothing leaves any more.
    pub fn stay(&self) {
        self.lock().streams = Streams::Never;
    }

    /// Gives everything up: staged bytes, parts and the upload. The writer is empty and new then.
    pub async fn discard(&self) {
        self.wait_for_parts().await;
        let upload = {
            let mut state = self.lock();
            state.pages.clear();
            (state.away, state.extents) = (Away::default(), Extents::default());
            (state.sources, state.own) = (Vec::new(), None);
            state.generation += 1;
            state.appended_only = true;
            state.run = (0, 0);
            state.doubtful.iter_mut().for_each(append::Doubt::forget_parts);
            if let Some((_, done)) = state.made.take() {
                // The object was made all the same.
                state.doubtful.extend(append::Doubt::of(&done.destination.properties, None));
            }
            (state.failed, state.damaged) = (None, None);
            std::mem::take(&mut state.sending).upload.get().cloned()
        };
        if let Some((upload, _)) = upload {
            self.abort(&upload).await;
        }
    }

    async fn abort(&self, upload: &Upload) {
        self.shared.leftovers().push(upload.clone());
        self.shared.abort_leftovers().await;
    }

    fn limits(&self, state: &State<S>) -> Limits {
        Limits {
            memory_bytes: self.shared.budget.limit(),
            parts: MAX_PARTS - state.sending.last_number(),
            copies: self.shared.copies_ranges(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: ObjectStore> State<S> {
    fn is_dirty(&self) -> bool {
        self.committed != Some(self.generation) || self.made.is_some()
    }

    /// Whether nobody knows if the parts are an object already, or what that is worth: nothing can be added to them before
    /// that is known.
    fn is_in_doubt(&self) -> bool {
        self.damaged.is_some() || !self.doubtful.is_empty() && self.sending.end > 0
    }

    /// Takes bytes that are the content's already, whatever memory there is; the error is a page that must be in memory first.
    fn stage(&mut self, budget: &Budget, offset: u64, bytes: &[u8]) -> Result<(), u64> {
        loop {
            match self.take_back(budget, offset, bytes) {
                Ok(()) => return Ok(()),
                Err(Missing::Memory(bytes)) => self.pages.prepay(budget.overdraw(Class::Write, bytes)),
                Err(Missing::Page(page)) => return Err(page),
            }
        }
    }

    /// Takes bytes that are the content's already, when there is memory.
    fn take_back(&mut self, budget: &Budget, offset: u64, bytes: &[u8]) -> Result<(), Missing> {
        self.pages.write(budget, offset, bytes)?;
        if let Some(range) = ByteRange::new(offset, offset + bytes.len() as u64) {
            self.extents.set(range, Place::Staged);
        }
        Ok(())
    }

    /// As [`State::stage`], where there are no pages yet.
    fn stage_anew(&mut self, budget: &Budget, offset: u64, bytes: &[u8]) {
        self.pages.clear();
        let staged = self.stage(budget, offset, bytes);
        debug_assert_eq!(staged, Ok(()), "no page is anywhere else");
    }

    /// The store has the content as the object that `done` tells of.
    fn adopt(&mut self, done: &CommitDone) {
        let Destination { bucket, key, .. } = done.destination.clone();
        let object = ObjectRef { version: done.committed.version.clone(), ..ObjectRef::current(bucket, key) };
        let (etag, crc64nvme) = (done.committed.etag.clone(), done.committed.crc64nvme);
        let pin = Source { object, etag, size: done.size, crc64nvme };
        self.sources = vec![Stored { pin, reader: None }];
        self.own = Some(SourceId(0));
        self.sending = Sending::default();
        self.appended_only = true;
        // Nothing of it was written since: no part may leave for the sake of what the object has already.
        self.run = (done.size, done.size);
        if done.size > RETAINED_BYTES {
            self.let_go();
            return;
        }
        let stored: Vec<ByteRange> = self
            .extents
            .all()
            .filter(|extent| matches!(extent.place, Place::Stored { .. } | Place::Sent))
            .map(|extent| extent.range)
            .collect();
        for range in stored {
            self.extents.set(range, Place::Stored { source: SourceId(0), at: range.start() });
        }
    }

    /// Keeps nothing of what the object has; returns how many bytes of memory that frees at least.
    fn let_go(&mut self) -> u64 {
        self.extents = Extents::of_object(SourceId(0), self.extents.len());
        self.away = Away::default();
        self.pages.clear()
    }
}

impl<S: ObjectStore> Holder for Writer<S> {
    fn used_at(&self) -> Instant {
        self.lock().used_at
    }

    /// What was committed and is here for the next change only can be had from the store again.
    fn give_up(&self) -> u64 {
        let mut state = self.lock();
        if state.is_dirty() || state.own != Some(SourceId(0)) || state.streams != Streams::Yes {
            // It goes to the staging file meanwhile.
            self.spill(&mut state, 1);
            return 0;
        }
        state.let_go()
    }
}
