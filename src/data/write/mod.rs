//! Writing one file: staged in pages, streamed out in parts while it is written, committed at flush or fsync.
//!
//! Bytes are taken in order. What has not left yet can be changed at will; what has left as a part cannot be read back
//! or changed before the upload completes. A file that fits one part is one PUT.
//!
//! Lifecycle: staged -> parts in flight -> committed, or dropped (the upload is aborted). A part keeps its bytes until the
//! store has acknowledged it, so a failed commit can be repeated. The old object stays until `complete`; if the process
//! dies, an incomplete upload is left, never half an object.

pub mod commit;
mod copy;
pub mod keep;
mod parts;
mod pressure;
pub mod settle;
mod staged;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, OnceCell, Semaphore};

use self::commit::CommitDone;
use self::parts::PartSlot;
use self::pressure::{Failed, Pressure};
use self::staged::{NeedMemory, Staged};
use crate::data::budget::{Budget, Class};
use crate::data::{Error, Result};
use crate::store::{BucketName, Key, ObjectInfo, ObjectStore, Properties, Upload};

/// Parts of all files that are sent at once: enough to hide 20 ms at 80 MiB/s a connection many times over.
pub const MAX_PARTS_IN_FLIGHT: usize = 32;
/// A hole in new data is filled with zeros up to this size, in bytes; larger ones need extents.
const MAX_GAP_BYTES: u64 = 16 << 20;

/// What all writers of a mount share.
#[derive(Debug, Clone)]
pub struct WriteShared<S> {
    /// Where the bytes go.
    pub store: S,
    /// The memory they lie in.
    pub budget: Budget,
    /// Bounds the parts in flight.
    pub slots: Arc<Semaphore>,
    pressure: Arc<Pressure>,
}

impl<S> WriteShared<S> {
    /// Writers over `store`, within `budget`.
    #[must_use]
    pub fn new(store: S, budget: Budget) -> Self {
        Self { store, budget, slots: Arc::new(Semaphore::new(MAX_PARTS_IN_FLIGHT)), pressure: Arc::default() }
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
    state: Mutex<State>,
    /// A part has ended.
    part_done: Notify,
}

#[derive(Debug)]
struct State {
    destination: Destination,
    staged: Staged,
    parts: BTreeMap<u16, PartSlot>,
    /// The upload, begun by the first part that leaves, and the destination it was begun with.
    upload: Arc<OnceCell<(Upload, Destination)>>,
    /// Counts changes of the bytes; equal to `committed` when the store has them all.
    generation: u64,
    committed: Option<u64>,
    /// Everything sent was completed: what is staged may be changed, what has left may not.
    completed: bool,
    /// The object was made of the parts, but not yet given the properties it should have.
    unsettled: Option<CommitDone>,
    /// Tokens of commits that may have been applied, for all anybody knows.
    doubtful: Vec<String>,
    /// A change was refused: the content is not what its writer wanted, and must not become the object.
    refused: Option<&'static str>,
    /// The last commit failed, and nobody has repeated it.
    failed: Option<Failed>,
}

/// What became of a write.
#[derive(Debug)]
pub enum Written {
    /// All bytes are taken.
    Done,
    /// There is no memory for them now: use [`Writer::write`] and wait.
    MustWait,
}

impl<S: ObjectStore> Writer<S> {
    /// An empty new content for `destination`.
    pub fn new(shared: WriteShared<S>, destination: Destination) -> Arc<Self> {
        let state = State {
            destination,
            staged: Staged::default(),
            parts: BTreeMap::new(),
            upload: Arc::default(),
            generation: 0,
            committed: None,
            completed: false,
            unsettled: None,
            doubtful: Vec::new(),
            refused: None,
            failed: None,
        };
        Arc::new(Self { shared, state: Mutex::new(state), part_done: Notify::new() })
    }

    /// The length of the content in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.lock().staged.len()
    }

    /// Whether the content has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the store does not have this content yet.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let state = self.lock();
        state.committed != Some(state.generation)
    }

    /// Whether every byte is still in memory, so that the content can be read and changed anywhere.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lock().staged.sent() == 0
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
        self.lock().staged.sent() > 0
    }

    /// Whether the store may have a content of this writer's that it was not heard to take.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        let state = self.lock();
        state.unsettled.is_some() || !state.doubtful.is_empty()
    }

    /// Whether `info` is of a commit of this writer's that was not heard to be taken.
    #[must_use]
    pub fn may_have_made(&self, info: &ObjectInfo) -> bool {
        let state = self.lock();
        let completed = state.unsettled.as_ref().is_some_and(|done| done.committed.etag == info.etag);
        completed || commit::token_of(&info.properties).is_some_and(|token| state.doubtful.iter().any(|own| own == token))
    }

    /// Why the content cannot become the object any more: a change of it was refused.
    #[must_use]
    pub fn refused(&self) -> Option<&'static str> {
        self.lock().refused
    }

    /// Whether nothing was ever written to it.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.lock().generation == 0
    }

    /// Takes `data` at `offset` without waiting: for the FUSE thread itself.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for bytes that have left already, [`Error::TooLarge`].
    pub fn try_write(self: &Arc<Self>, offset: u64, data: &[u8]) -> Result<Written> {
        let mut state = self.lock();
        state.accept(offset)?;
        match state.staged.write(&self.shared.budget, offset, data) {
            Ok(()) => {
                state.generation += 1;
                self.cut_parts(&mut state)?;
                Ok(Written::Done)
            }
            Err(NeedMemory(_)) => Ok(Written::MustWait),
        }
    }

    /// Takes `data` at `offset`, waiting for memory when there is none.
    ///
    /// # Errors
    /// As [`Writer::try_write`], and the failure of a part that keeps the memory which this needs.
    pub async fn write(self: &Arc<Self>, offset: u64, data: Bytes) -> Result<()> {
        loop {
            let part_done = self.part_done.notified();
            tokio::pin!(part_done);
            part_done.as_mut().enable();
            let needed = {
                let mut state = self.lock();
                state.accept(offset)?;
                match state.staged.write(&self.shared.budget, offset, &data) {
                    Ok(()) => {
                        state.generation += 1;
                        return self.cut_parts(&mut state);
                    }
                    Err(NeedMemory(needed)) => {
                        // What has failed is tried again at the commit; until then its memory is not coming back.
                        state.failure()?;
                        // What can leave shall leave now: others, or this one, get its memory.
                        self.cut_early(&mut state)?;
                        needed
                    }
                }
            };
            let budget = &self.shared.budget;
            let permit = tokio::select! {
                permit = budget.acquire(Class::Write, needed) => permit,
                () = part_done => continue,
                () = self.shared.pressure.nothing_will_free_any() => {
                    // Files that are still written will free it in the end; those that could not be stored will not.
                    if self.shared.pressure.has_failures() {
                        return Err(Error::Full);
                    }
                    budget.overdraw(Class::Write, needed)
                }
            };
            self.lock().staged.prepay(permit);
        }
    }

    /// The bytes at `offset`, at most `len`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for bytes that have left as parts and are not committed.
    pub fn read(&self, offset: u64, len: u64) -> Result<Bytes> {
        self.lock()
            .staged
            .read(offset, len)
            .ok_or(Error::Unsupported("reading data that is being uploaded, before the file is closed, is not supported yet"))
    }

    /// Cuts or extends the content to `len` bytes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when bytes that have left would have to change, or for a large hole.
    pub async fn truncate(self: &Arc<Self>, len: u64) -> Result<()> {
        if len == 0 && self.has_left() {
            self.discard().await;
        }
        if len == 0 {
            self.lock().refused = None;
        }
        let old = {
            let mut state = self.lock();
            let old = state.staged.len();
            if len < old {
                state.accept(len)?;
                state.staged.truncate(len);
                state.generation += 1;
            }
            old
        };
        if len > old {
            self.write(len, Bytes::new()).await?;
        }
        Ok(())
    }

    /// Gives everything up: staged bytes, parts and the upload. The writer is empty and new then.
    pub async fn discard(&self) {
        self.wait_for_parts().await;
        let upload = {
            let mut state = self.lock();
            state.parts.clear();
            state.staged = Staged::default();
            state.refused = None;
            state.generation += 1;
            let upload = std::mem::take(&mut state.upload);
            if let Some(done) = state.unsettled.take() {
                // The object was made all the same.
                state.doubtful.extend(commit::token_of(&done.destination.properties).map(str::to_owned));
            }
            state.failed = None;
            let completed = std::mem::take(&mut state.completed);
            if completed { None } else { upload.get().cloned() }
        };
        if let Some((upload, _)) = upload
            && let Err(error) = self.shared.store.abort_upload(&upload).await
        {
            tracing::warn!(%error, "an upload could not be aborted; its parts cost money until it is");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// As [`State::accepts`]; what was refused once is remembered.
    fn accept(&mut self, offset: u64) -> Result<()> {
        let accepted = self.accepts(offset);
        if self.is_in_doubt() {
            // Refused for now only: the next commit settles it.
            return accepted;
        }
        if let Err(Error::Unsupported(why)) = &accepted {
            self.refused = Some(why);
        }
        accepted
    }

    /// Whether nobody knows if the parts are an object already.
    fn is_in_doubt(&self) -> bool {
        !self.doubtful.is_empty() && self.staged.sent() > 0
    }

    /// Whether bytes from `offset` on may change.
    fn accepts(&self, offset: u64) -> Result<()> {
        if self.completed && self.staged.sent() > 0 {
            return Err(Error::Unsupported(
                "writing on after an fsync or a rename of a large file, which stored it as it was, is not supported yet",
            ));
        }
        if self.is_in_doubt() {
            // The parts may be an object already: nothing can be added to them before that is known.
            return Err(Error::Unsupported("the last commit was not answered: close the file, or fsync it, before writing on"));
        }
        if offset < self.staged.sent() {
            return Err(Error::Unsupported("changing data that is being uploaded is not supported yet: write from start to end"));
        }
        if offset > self.staged.len() + MAX_GAP_BYTES {
            return Err(Error::Unsupported("holes of more than 16 MiB are not supported yet"));
        }
        Ok(())
    }
}
