//! What is done to ranges of an open file: allocation, holes, and copies inside the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::RwLockWriteGuard;

use crate::data;
use crate::data::write::extents::Seek;
use crate::data::write::{Change, Writer};
use crate::fs::Fs;
use crate::fs::attr::Caller;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::handles::{HandleId, OpenFile};
use crate::fs::locate::Address;
use crate::fs::ops::begin::{is_readable, source_of};
use crate::fs::ops::files::MAX_COMMITS_FIRST;
use crate::fs::tree::inode::{Content, Inode};
use crate::fs::tree::moves::Access;
use crate::store::{BucketService, ETag, MIN_PART_BYTES, ObjectRef, ObjectStore};

/// What `fallocate(2)` shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Extend the file to the end of the range.
    Extend,
    /// Nothing that can be seen (`FALLOC_FL_KEEP_SIZE`): there is nothing to reserve.
    Reserve,
    /// Make zeros of what the file has of the range (`FALLOC_FL_PUNCH_HOLE`, or `FALLOC_FL_ZERO_RANGE` that keeps the size).
    Punch,
    /// Make zeros of the range, and extend the file to its end (`FALLOC_FL_ZERO_RANGE`).
    Zero,
}

/// Where a range begins.
#[derive(Debug, Clone, Copy)]
pub struct Spot {
    /// The open file.
    pub handle: HandleId,
    /// The offset in bytes.
    pub offset: u64,
}

/// Files whose content refers to objects of other files, and is not stored yet: the other file first.
#[derive(Debug)]
pub(in crate::fs) struct Copies<S>(Mutex<Vec<Copied<S>>>);

#[derive(Debug)]
struct Copied<S> {
    /// By its address: its inode may be forgotten and made anew before the copy is.
    source: ObjectRef,
    copy: Weak<Inode<S>>,
}

impl<S> Default for Copies<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S: ObjectStore> Copies<S> {
    /// Lets `copy` refer to the object `source`, whose file `from` writes, by `refer`; `false` when that file is itself a copy of
    /// others'. So no two files ever wait for each other.
    fn add(
        &self,
        (source, from): (&ObjectRef, Option<&Writer<S>>),
        copy: &Arc<Inode<S>>,
        refer: impl FnOnce() -> data::Result<()>,
    ) -> data::Result<bool> {
        let mut copies = self.lock();
        if from.is_some_and(|writer| writer.refers_to(|_| true)) {
            return Ok(false);
        }
        refer()?;
        // What is stored, and is not written any more, refers to nobody else's object. (Rank 3 under rank 4, against the order:
        // safe, since `try_lock` never waits.)
        copies.retain(|copied| {
            let copy = copied.copy.upgrade();
            copy.is_some_and(|copy| copy.try_lock().is_none_or(|state| state.writers > 0 || state.is_writing()))
        });
        if !copies.iter().any(|copied| copied.is(source, copy)) {
            copies.push(Copied { source: source.clone(), copy: Arc::downgrade(copy) });
        }
        Ok(true)
    }

    /// Those that refer to `source`, or have done.
    fn of(&self, source: &ObjectRef) -> Vec<Arc<Inode<S>>> {
        let copies = self.lock();
        copies.iter().filter(|copied| copied.source == *source).filter_map(|copied| copied.copy.upgrade()).collect()
    }

    /// `copy` refers to `source` no more. The caller holds its gate alone.
    fn forget(&self, source: &ObjectRef, copy: &Arc<Inode<S>>) {
        self.lock().retain(|copied| !copied.is(source, copy));
    }

    fn sources_below(&self, directory: &Address) -> Vec<ObjectRef> {
        let sources = self.lock().iter().map(|copied| copied.source.clone()).collect::<Vec<_>>();
        let is_below = |source: &ObjectRef| source.bucket == directory.bucket && source.key.as_str().starts_with(&directory.key);
        sources.into_iter().filter(is_below).collect()
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Copied<S>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Copied<S> {
    fn is(&self, source: &ObjectRef, copy: &Arc<Inode<S>>) -> bool {
        self.source == *source && std::ptr::eq(self.copy.as_ptr(), Arc::as_ptr(copy))
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// `fallocate(2)`.
    ///
    /// # Errors
    /// [`Situation::BadHandle`], [`Situation::TooLarge`], and whatever keeps a commit from being made that must come first.
    pub async fn allocate(&self, spot: Spot, len: u64, how: Allocate, caller: Caller) -> Result<()> {
        let open = self.file_to_write(spot.handle)?;
        let inode = open.inode();
        let _entered = self.moves.enter(&inode, Access::Change).await;
        let size = inode.lock().attr.size;
        let end = spot.offset.checked_add(len).ok_or_else(|| Error::new(Situation::TooLarge, "no file is so long"))?;
        match how {
            Allocate::Reserve => return Ok(()),
            Allocate::Extend if end <= size => return Ok(()),
            Allocate::Extend => return self.truncate(&inode, end, Some(spot.handle), caller).await,
            Allocate::Punch | Allocate::Zero => {}
        }
        let end = if how == Allocate::Punch { end.min(size) } else { end };
        if spot.offset < end {
            self.change_bytes(&inode, Change::Zero(spot.offset, end)).await?;
            self.note_bytes(&inode, Some(spot.handle), caller);
        }
        Ok(())
    }

    /// `SEEK_DATA` and `SEEK_HOLE`: what was stored is data, since S3 knows no holes.
    ///
    /// # Errors
    /// [`Situation::BeyondEnd`] when there is no data any more, or the offset is behind the end.
    pub fn seek(&self, spot: Spot, wanted: Seek) -> Result<u64> {
        let open = self.open_file(spot.handle)?;
        let found = match open.inode().writing() {
            Some(writing) => writing.writer.seek(spot.offset, wanted),
            None => {
                let size = open.inode().lock().attr.size;
                (spot.offset < size).then_some(if wanted == Seek::Data { spot.offset } else { size })
            }
        };
        found.ok_or_else(|| Error::new(Situation::BeyondEnd, "there is nothing behind the end of the file"))
    }

    /// `copy_file_range(2)` inside the store: no byte travels. Returns how many bytes were taken, fewer only at the end of the
    /// source.
    ///
    /// # Errors
    /// [`Situation::Unsupported`] for what is cheaper to read and write, which the kernel then does: short ranges, and
    /// ranges of the same file.
    pub async fn copy_range(&self, from: Spot, to: Spot, len: u64, caller: Caller) -> Result<u64> {
        let (from_file, to_file) = (self.open_file(from.handle)?, self.file_to_write(to.handle)?);
        if !from_file.mode.read {
            return Err(Error::new(Situation::BadHandle, "the source is open for writing only"));
        }
        let elsewhere = |why: &str| Error::new(Situation::Unsupported, why);
        let (source, target) = (from_file.inode(), to_file.inode());
        if Arc::ptr_eq(&source, &target) {
            return Err(elsewhere("ranges of one file are read and written"));
        }
        let _entered = self.moves.enter_both(&source, &target, Access::Change).await;
        if !has_object(&source) || !has_object(&target) {
            return Err(elsewhere("a removed file has no object to copy from, and will have none"));
        }
        for _ in 0..MAX_COMMITS_FIRST {
            self.commit(&source).await?;
            let info = self.known_info(&source).await?;
            let len = len.min(info.size.saturating_sub(from.offset));
            let whole = from.offset == 0 && len == info.size;
            if !whole && len < MIN_PART_BYTES {
                return Err(elsewhere("a short range is read and written"));
            }
            if len == 0 || !is_readable(&info) {
                return if len == 0 { Ok(0) } else { Err(elsewhere("an archived object must be restored before it is copied")) };
            }
            self.begin_change(&target, false).await?;
            let object = self.locate(&source)?.object()?;
            let refer = |writer: &Writer<S>| writer.refer(to.offset, source_of(&object, &info), from.offset, len);
            match self.refer((&source, &object, &info.etag), &target, refer).await {
                Ok(true) => {
                    self.note_bytes(&target, Some(to.handle), caller);
                    return Ok(len);
                }
                Ok(false) => {}
                Err(data::Error::CommitFirst) => self.commit(&target).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(elsewhere("what others change all the time is read and written"))
    }

    /// Lets `target` refer to the object of `source` by `refer`, and remembers it; `false` when either is not as it was. Both
    /// gates are shared meanwhile, so that nobody replaces the object who has not heard of the copy; the second is not waited for
    /// while the first is held.
    async fn refer(
        &self,
        (source, object, etag): (&Arc<Inode<S>>, &ObjectRef, &ETag),
        target: &Arc<Inode<S>>,
        refer: impl FnOnce(&Writer<S>) -> data::Result<()> + Send,
    ) -> data::Result<bool> {
        let kept = source.gate.read().await;
        let Ok(_shared) = target.gate.try_read() else {
            drop(kept);
            drop(target.gate.read().await);
            return Ok(false);
        };
        let as_it_was = has_object(source) && source.lock().etag().is_none_or(|now| now == *etag);
        let (from, Some(to)) = (source.writing(), target.writing()) else { return Ok(false) };
        let from = from.as_ref().map(|writing| &*writing.writer);
        Ok(as_it_was && has_object(target) && self.copies.add((object, from), target, || refer(&to.writer))?)
    }

    /// The gate of an inode alone, for who is about to change or remove its object: the copies that refer to that are made.
    pub(in crate::fs) async fn alone_to_change<'a>(&self, inode: &'a Arc<Inode<S>>) -> Result<RwLockWriteGuard<'a, ()>> {
        self.alone_when(inode, |_| true).await
    }

    /// As [`Fs::alone_to_change`], for a commit: when there is something to commit.
    pub(super) async fn alone_to_commit<'a>(&self, inode: &'a Arc<Inode<S>>) -> Result<RwLockWriteGuard<'a, ()>> {
        self.alone_when(inode, |inode| inode.lock().is_dirty()).await
    }

    async fn alone_when<'a>(
        &self,
        inode: &'a Arc<Inode<S>>,
        changes: impl Fn(&Inode<S>) -> bool,
    ) -> Result<RwLockWriteGuard<'a, ()>> {
        loop {
            let alone = inode.gate.write().await;
            if !changes(inode) || !self.is_copied(inode)? {
                return Ok(alone);
            }
            drop(alone);
            self.make_copies_of(inode).await?;
        }
    }

    /// Whether there may be copies that refer to the object of an inode. As long as the caller holds its gate alone, there will be
    /// no new ones.
    pub(super) fn is_copied(&self, source: &Arc<Inode<S>>) -> Result<bool> {
        if source.is_directory() || self.copies.is_empty() {
            return Ok(false);
        }
        Ok(!self.copies.of(&self.locate(source)?.object()?).is_empty())
    }

    /// Makes the copies that refer to the object of an inode, because it is about to be changed or removed. The caller holds no
    /// gate.
    pub(super) async fn make_copies_of(&self, source: &Arc<Inode<S>>) -> Result<()> {
        if source.is_directory() || self.copies.is_empty() {
            return Ok(());
        }
        self.make_copies_of_object(&self.locate(source)?.object()?).await
    }

    /// As [`Fs::make_copies_of`], of all objects below a directory.
    pub(in crate::fs) async fn make_copies_below(&self, directory: &Address) -> Result<()> {
        for source in self.copies.sources_below(directory) {
            self.make_copies_of_object(&source).await?;
        }
        Ok(())
    }

    async fn make_copies_of_object(&self, object: &ObjectRef) -> Result<()> {
        for copy in self.copies.of(object) {
            self.make_copy(object, &copy).await?;
        }
        Ok(())
    }

    /// Ends when `copy` does not refer to the object any more. Until then it is remembered: whoever else is about to change the
    /// object makes it, too, or waits for its gate.
    async fn make_copy(&self, object: &ObjectRef, copy: &Arc<Inode<S>>) -> Result<()> {
        let is_of_object = |other: &ObjectRef| (&other.bucket, &other.key) == (&object.bucket, &object.key);
        for _ in 0..MAX_COMMITS_FIRST {
            let alone = copy.gate.write().await;
            let writing = copy.writing().filter(|writing| writing.writer.refers_to(is_of_object));
            let Some(writing) = writing else {
                self.copies.forget(object, copy);
                return Ok(());
            };
            let linked = || copy.lock().linked;
            if !linked() {
                // What was removed, or has lost its name, will never be an object: it gets the bytes.
                match writing.writer.pull(is_of_object).await {
                    // Others have replaced the object: there is nothing to wait for.
                    Err(data::Error::Stale) => {
                        self.copies.forget(object, copy);
                        return Ok(());
                    }
                    pulled => pulled?,
                }
                continue;
            }
            drop(alone);
            // What is copied may itself be the source of another copy.
            match Box::pin(self.commit(copy)).await {
                Err(_) if !linked() => {}
                committed => committed?,
            }
        }
        Err(data::Error::CommitFirst.into())
    }

    fn file_to_write(&self, handle: HandleId) -> Result<Arc<OpenFile<S>>> {
        let open = self.open_file(handle)?;
        if open.mode.write { Ok(open) } else { Err(Error::new(Situation::BadHandle, "the file is open for reading only")) }
    }

    /// Notes that `caller` has changed the bytes, by that handle if it is known.
    pub(in crate::fs) fn note_bytes(&self, inode: &Arc<Inode<S>>, by: Option<HandleId>, caller: Caller) {
        if let Some(writing) = inode.writing() {
            self.note_written(inode, &writing.writer, by, caller);
        }
    }
}

fn has_object<S>(inode: &Inode<S>) -> bool {
    let state = inode.lock();
    state.linked && !matches!(state.content, Content::Orphan(_))
}
