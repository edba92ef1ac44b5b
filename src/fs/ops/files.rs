//! The bytes of open files: read, write, flush, fsync, release.

use std::sync::Arc;

use bytes::Bytes;

use crate::data;
use crate::data::read::Reader;
use crate::data::write::commit::OnConflict;
use crate::data::write::{At, Change, Writer, Written};
use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::error::{Error, Result, Situation};
use crate::fs::handles::{HandleId, OpenFile};
use crate::fs::tree::inode::{Content, Inode};
use crate::fs::tree::moves::Access;
use crate::store::{BucketService, ObjectStore};

/// So often a file is committed before one change of it can be taken; each commit makes that change possible, unless others
/// write meanwhile.
pub(super) const MAX_COMMITS_FIRST: u32 = 8;

/// So often a write that appends follows its name, because other clients replace the object again and again.
const MAX_FOLLOWS: u32 = 8;

/// A read that may be answered at once.
#[derive(Debug)]
pub enum ReadNow {
    /// The bytes.
    Bytes(Bytes),
    /// They must be waited for.
    Later,
}

/// Whose the bytes of a write are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// A caller's of write(2).
    Caller,
    /// A page's that a mapping has changed.
    PageCache,
}

/// A write that may be taken at once.
#[derive(Debug)]
pub enum WriteNow {
    /// All was taken, or it failed.
    Done(Result<()>),
    /// It must be waited for.
    Later,
}

/// Where the bytes of a handle are now.
enum Source<S> {
    Writer(Arc<Writer<S>>),
    Reader(Arc<Reader<S>>),
    Memory(Bytes),
}

impl<S: ObjectStore + BucketService> Fs<S> {
    pub(in crate::fs) fn open_file(&self, handle: HandleId) -> Result<Arc<OpenFile<S>>> {
        self.handles.file(handle).ok_or_else(|| Error::new(Situation::BadHandle, "the file is not open"))
    }

    /// The file that a handle stands for now.
    #[must_use]
    pub fn inode_of(&self, handle: HandleId) -> Option<Ino> {
        self.open_file(handle).ok().map(|open| open.inode().ino)
    }

    /// The bytes at `offset` when they are in memory: for the FUSE thread, which must not wait.
    #[must_use]
    pub fn read_now(&self, handle: HandleId, offset: u64, len: u64) -> ReadNow {
        let Ok(open) = self.open_file(handle) else { return ReadNow::Later };
        if !open.mode.read {
            return ReadNow::Later;
        }
        let Some(_entered) = self.moves.try_enter(&open.inode(), Access::Look) else { return ReadNow::Later };
        let bytes = match self.source(&open) {
            Ok(Source::Reader(reader)) => reader.read_now(offset, len),
            Ok(Source::Writer(writer)) => {
                let read = writer.try_read(offset, len);
                read.filter(|_| open.inode().is_written_by(&writer))
            }
            _ => None,
        };
        bytes.map_or(ReadNow::Later, ReadNow::Bytes)
    }

    /// The bytes at `offset`, at most `len`, fewer only at the end.
    ///
    /// # Errors
    /// [`Situation::BadHandle`], [`Situation::Stale`], [`Situation::Unsupported`], and the store's failures.
    pub async fn read(&self, handle: HandleId, offset: u64, len: u64) -> Result<Bytes> {
        let open = self.open_file(handle)?;
        if !open.mode.read {
            return Err(Error::new(Situation::BadHandle, "the file is open for writing only"));
        }
        let inode = open.inode();
        let _entered = self.moves.enter(&inode, Access::Look).await;
        loop {
            match self.source(&open)? {
                Source::Reader(reader) => match self.read_on(&open, &reader, offset, len).await {
                    Ok(Some(bytes)) => return Ok(bytes),
                    Ok(None) => {}
                    Err(error) => {
                        self.forget_if_stale(&inode, &error);
                        return Err(error);
                    }
                },
                Source::Writer(writer) => {
                    let read = self.read_written(&inode, &writer, offset, len).await;
                    // What was given up meanwhile, because nobody writes any more, is empty.
                    if inode.is_written_by(&writer) {
                        return read;
                    }
                }
                Source::Memory(bytes) => return Ok(cut(&bytes, offset, len)),
            }
        }
    }

    /// Reads what is being written. What has left as a part is read back after a commit.
    async fn read_written(&self, inode: &Arc<Inode<S>>, writer: &Arc<Writer<S>>, offset: u64, len: u64) -> Result<Bytes> {
        let mut waited = false;
        for _ in 0..MAX_COMMITS_FIRST {
            match writer.read(offset, len).await {
                Err(data::Error::CommitFirst) => self.commit(inode).await?,
                // The object that it is made of may have been replaced by its own commit, whose answer was lost.
                Err(data::Error::Stale) if writer.is_doubtful() => self.commit(inode).await?,
                // Or by one that is under way, and that the store has carried out already.
                Err(data::Error::Stale) if !waited => {
                    waited = true;
                    drop(inode.gate.read().await);
                }
                read => return Ok(read?),
            }
        }
        Err(data::Error::CommitFirst.into())
    }

    /// Reads the object. What seems to be gone may be on its way to another name or tag by this mount itself: then it is
    /// waited for, and read there. `None` when the object is not where the bytes are.
    async fn read_on(&self, open: &OpenFile<S>, reader: &Arc<Reader<S>>, offset: u64, len: u64) -> Result<Option<Bytes>> {
        let pins = reader.pins();
        let stale = match reader.read(offset, len).await {
            Err(data::Error::Stale) => Error::from(data::Error::Stale),
            read => return Ok(Some(read?)),
        };
        drop(open.inode().gate.read().await);
        match self.source(open)? {
            Source::Reader(now) if !Arc::ptr_eq(&now, reader) || now.pins() != pins => Ok(Some(now.read(offset, len).await?)),
            Source::Memory(_) | Source::Writer(_) => Ok(None),
            Source::Reader(_) => Err(stale),
        }
    }

    /// Where a handle's bytes are: what is being written comes first, then the object under its present tag.
    fn source(&self, open: &OpenFile<S>) -> Result<Source<S>> {
        let inode = &open.inode();
        let (etag, size, copy) = {
            let state = inode.lock();
            match &state.content {
                Content::Orphan(Some(bytes)) => return Ok(Source::Memory(bytes.clone())),
                Content::Orphan(None) => {
                    return Err(Error::new(Situation::Io, "the file was removed while its bytes were on their way to the store"));
                }
                Content::Writing(writing) if writing.writer.is_dirty() || writing.writer.is_here() => {
                    return Ok(Source::Writer(Arc::clone(&writing.writer)));
                }
                Content::Directory => return Err(Error::new(Situation::IsDirectory, "it is a directory")),
                Content::Writing(_) | Content::Clean(_) => (state.etag(), state.attr.size, state.copy_made()),
            }
        };
        let (object, etag) = match copy {
            Some((object, etag)) => (object, Some(etag)),
            None => (self.locate(inode)?.object()?, etag),
        };
        let mut slot = open.reader();
        if let Some(reader) = &*slot
            && etag.as_ref().is_none_or(|etag| reader.is_of(etag))
        {
            return Ok(Source::Reader(Arc::clone(reader)));
        }
        // This mount has committed another content since the handle was opened.
        let etag = etag.ok_or_else(|| Error::new(Situation::Io, "the object's tag is not known"))?;
        let reader = self.reader_of(inode, object, etag, size);
        *slot = Some(Arc::clone(&reader));
        drop(slot);
        Ok(Source::Reader(reader))
    }

    /// Takes `data` if that needs no waiting: for the FUSE thread.
    #[must_use]
    pub fn write_now(&self, handle: HandleId, (offset, from): (u64, From), data: &[u8], caller: Caller) -> WriteNow {
        let open = match self.open_file(handle) {
            Ok(open) => open,
            Err(error) => return WriteNow::Done(Err(error)),
        };
        let inode = open.inode();
        let Some(_entered) = self.moves.try_enter(&inode, Access::Change) else { return WriteNow::Later };
        let Ok(_shared) = inode.gate.try_read() else { return WriteNow::Later };
        let Some(writing) = inode.writing() else { return WriteNow::Later };
        match writing.writer.try_write(place(&open, offset, from), data) {
            Ok(Written::Done) => {
                self.note_written(&inode, &writing.writer, (from == From::Caller).then_some(handle), caller);
                WriteNow::Done(Ok(()))
            }
            Ok(Written::MustWait) | Err(data::Error::CommitFirst) => WriteNow::Later,
            Err(error) => WriteNow::Done(Err(error.into())),
        }
    }

    /// Takes `data`, waiting for memory if need be, or for a commit.
    ///
    /// # Errors
    /// What [`Writer::change`] says, and whatever keeps the content from being stored, when that must come first.
    pub async fn write(&self, handle: HandleId, offset: u64, data: Bytes, caller: Caller) -> Result<()> {
        self.write_from(handle, (offset, From::Caller), data, caller).await
    }

    /// As [`Fs::write`], for what comes from the kernel's pages, too.
    ///
    /// # Errors
    /// As [`Fs::write`].
    pub async fn write_from(&self, handle: HandleId, (offset, from): (u64, From), data: Bytes, caller: Caller) -> Result<()> {
        let open = self.open_file(handle)?;
        let change = Change::Write(place(&open, offset, from), data);
        let mut follows = 0;
        loop {
            let inode = open.inode();
            let _entered = self.moves.enter(&inode, Access::Change).await;
            match self.change_bytes(&inode, change.clone()).await {
                Err(stale)
                    if stale.situation() == Situation::Stale
                        && change.appends()
                        && follows < MAX_FOLLOWS
                        && self.follow_name(&open, &inode).await? =>
                {
                    follows += 1;
                }
                changed => {
                    changed?;
                    self.note_bytes(&inode, (from == From::Caller).then_some(handle), caller);
                    return Ok(());
                }
            }
        }
    }

    /// Changes what an inode's writer has; begins one when there is none, and commits when that must come first.
    pub(in crate::fs) async fn change_bytes(&self, inode: &Arc<Inode<S>>, change: Change) -> Result<()> {
        for _ in 0..MAX_COMMITS_FIRST {
            self.begin_change(inode, change.appends()).await?;
            let changed = {
                let _shared = inode.gate.read().await;
                let Some(writing) = inode.writing() else { continue };
                writing.writer.change(change.clone()).await
            };
            match changed {
                Err(data::Error::CommitFirst) => {
                    tracing::debug!(ino = inode.ino.0, "stored as it stands, before it is changed on");
                    self.commit(inode).await?;
                }
                changed => return Ok(changed?),
            }
        }
        Err(data::Error::CommitFirst.into())
    }

    /// Begins a writer when there is none, for a change that appends, or does not.
    pub(super) async fn begin_change(&self, inode: &Arc<Inode<S>>, appends: bool) -> Result<()> {
        if inode.writing().is_some() {
            return Ok(());
        }
        let _alone = inode.gate.write().await;
        match self.begin_writing(inode, OnConflict::Stale).await {
            // Replaced since it was opened: what is appended goes behind what is there now.
            Err(stale) if stale.situation() == Situation::Stale && appends => self.begin_appending(inode).await,
            begun => begun,
        }
    }

    pub(in crate::fs) fn note_written(
        &self,
        inode: &Arc<Inode<S>>,
        writer: &Arc<Writer<S>>,
        by: Option<HandleId>,
        caller: Caller,
    ) {
        let mut state = inode.lock();
        let before = state.attr.mode;
        state.note_changed(writer.len(), caller);
        let loses_privileges = state.attr.mode != before;
        // Nothing was, by a write of no bytes.
        if writer.is_dirty() {
            state.closing.changed(by);
        }
        drop(state);
        if loses_privileges {
            self.attributes_changed(inode.ino);
        }
    }

    /// A descriptor of the handle is closed: commits what is new, unless a further flush certainly comes, or it was another
    /// handle that has changed the file, and is open still.
    ///
    /// # Errors
    /// Whatever keeps the content from being stored.
    pub async fn flush(&self, handle: HandleId, is_open_elsewhere: impl FnOnce(&OpenFile<S>) -> bool + Send) -> Result<()> {
        let open = self.open_file(handle)?;
        if !open.mode.write || !open.inode().lock().is_dirty() {
            return Ok(());
        }
        let inode = open.inode();
        let _entered = self.moves.enter(&inode, Access::Change).await;
        let writers = || {
            let state = inode.lock();
            (state.open_writers(), state.closing.opened())
        };
        // With others, what is open elsewhere may be one of them; also with one that was opened meanwhile.
        let before = writers();
        let later = inode.lock().closing.is_anothers(handle) || before.0 == 1 && is_open_elsewhere(&open) && before == writers();
        if later { Ok(()) } else { self.commit(&inode).await }
    }

    /// The kernel asks for the release of a handle: no descriptor of it is left, and whoever asks for anything from now on comes
    /// after that.
    pub fn part(&self, handle: HandleId) {
        let Ok(open) = self.open_file(handle) else { return };
        if open.mode.write {
            open.inode().lock().closing.part(handle);
        }
    }

    /// Commits what is new.
    ///
    /// # Errors
    /// Whatever keeps the content from being stored.
    pub async fn fsync(&self, handle: HandleId) -> Result<()> {
        let open = self.open_file(handle)?;
        let inode = open.inode();
        let _entered = self.moves.enter(&inode, Access::Change).await;
        self.commit(&inode).await?;
        self.send_unsent_of(&inode).await
    }

    /// The last descriptor of the handle is closed: commits what no flush has, and lets go of what nobody needs.
    ///
    /// # Errors
    /// Nobody can be told any more; the caller records it. The content stays, and is tried again at unmount.
    pub async fn release(&self, handle: HandleId) -> Result<()> {
        let Some(open) = self.handles.remove_file(handle) else { return Ok(()) };
        let inode = open.inode();
        let _entered = self.moves.enter(&inode, Access::Change).await;
        let last_writer = {
            let mut state = inode.lock();
            state.opens -= 1;
            state.writers -= u32::from(open.mode.write);
            state.closing.leave(handle);
            open.mode.write && state.writers == 0
        };
        let committed = if last_writer { self.commit_what_is_left(&inode).await } else { Ok(()) };
        if last_writer
            && committed.is_err()
            && let Content::Writing(writing) = &mut inode.lock().content
            && writing.on_conflict == OnConflict::Replace
        {
            // The close that would have been the last one has failed: what others make from now on is newer.
            writing.on_conflict = OnConflict::Stale;
        }
        let ended = self.end_writing(&inode).await;
        let removed = self.remove_if_doomed(&inode).await;
        self.table.release(inode.ino);
        // What became of the bytes says more than why they could not be stored.
        ended.and(committed).and(removed)
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Commits what the last writer has left; when another one has opened the file meanwhile, that is for him.
    pub(super) async fn commit_what_is_left(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let _alone = self.alone_to_commit(inode).await?;
        let nobody_writes = inode.lock().writers == 0;
        if nobody_writes { self.commit_alone(inode).await } else { Ok(()) }
    }
}

/// A part of what is in memory.
fn cut(bytes: &Bytes, offset: u64, len: u64) -> Bytes {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let end = start.saturating_add(usize::try_from(len).unwrap_or(usize::MAX)).min(bytes.len());
    bytes.slice(start..end)
}

/// Where a write goes: to the end for `O_APPEND`, whatever size the kernel believes in. The pages of a mapping have their
/// places, however the file was opened.
const fn place<S>(open: &OpenFile<S>, offset: u64, from: From) -> At {
    match from {
        From::Caller if open.mode.append => At::End,
        From::Caller | From::PageCache => At::Offset(offset),
    }
}
