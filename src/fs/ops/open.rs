//! Opening: create, open, and what a content begins with.
//!
//! Every open asks the store, with the request that is needed anyway: a reader's first GET carries `If-Match`. When another
//! client has replaced the object the open is [`Situation::Stale`]; the kernel then looks the name up anew by itself and
//! opens the new inode, so old and new bytes never share a page cache.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::base::clock;
use crate::base::rng::Rng;
use crate::data::budget::Class;
use crate::data::guess;
use crate::data::read::{OPEN_BYTES, Reader};
use crate::data::write::Writer;
use crate::data::write::commit::OnConflict;
use crate::data::write::settle::Source;
use crate::fs::attr::{Attr, Caller, Ino, Kind};
use crate::fs::error::{Error, Result, Situation};
use crate::fs::handles::{HandleId, OpenFile, OpenMode};
use crate::fs::name::Shown;
use crate::fs::ops::begin::{is_readable, source_of};
use crate::fs::tree::facts::Facts;
use crate::fs::tree::inode::{Content, Inode, Role, Writing};
use crate::fs::tree::moves::Access;
use crate::fs::{Fs, Stat};
use crate::store::{
    BucketService, ByteRange, ETag, ErrorKind, GetObject, HeadObject, Headers, ObjectInfo, ObjectRef, ObjectStore, Properties,
};

/// What was looked at so recently is not asked for again before it is changed.
pub(super) const CURRENT: Duration = Duration::from_secs(1);

/// Who finds that another client was faster waits for a random time of less than this, in milliseconds.
const MAX_STEP_ASIDE_MS: u64 = 20;

/// An open that is under way, counted as one that is done; not any more when this is dropped.
struct Counted<S>(Option<(Arc<Inode<S>>, OpenMode)>);

impl<S> Counted<S> {
    fn new(inode: &Arc<Inode<S>>, mode: OpenMode) -> Self {
        let mut state = inode.lock();
        state.opens += 1;
        if mode.write {
            state.writers += 1;
            state.closing.open();
        }
        drop(state);
        Self(Some((Arc::clone(inode), mode)))
    }

    /// It is done.
    fn keep(mut self) -> (Arc<Inode<S>>, OpenMode) {
        self.0.take().expect("it is taken once")
    }

    /// It failed; whether it was the last that could write.
    fn give_up(mut self) -> bool {
        self.0.take().is_some_and(|(inode, mode)| uncount(&inode, mode))
    }
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        if let Some((inode, mode)) = self.0.take() {
            uncount(&inode, mode);
        }
    }
}

/// One open less; whether it was the last that could write.
fn uncount<S>(inode: &Inode<S>, mode: OpenMode) -> bool {
    let mut state = inode.lock();
    state.opens -= 1;
    state.writers -= u32::from(mode.write);
    mode.write && state.writers == 0
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Situation::Stale`] when another client has replaced it, [`Situation::Archived`], [`Situation::Denied`],
    /// [`Situation::ReadOnly`], and the store's failures.
    pub async fn open(&self, ino: Ino, mode: OpenMode, caller: Caller) -> Result<HandleId> {
        let inode = self.inode(ino)?;
        let access = if mode.write || mode.truncate { Access::Change } else { Access::Look };
        let _entered = self.moves.enter(&inode, access).await;
        self.open_inode(inode, mode, caller).await
    }

    async fn open_inode(&self, inode: Arc<Inode<S>>, mode: OpenMode, caller: Caller) -> Result<HandleId> {
        if inode.is_directory() {
            return Err(Error::new(Situation::IsDirectory, "it is a directory"));
        }
        if !inode.lock().linked {
            // The kernel looks the name up anew by itself.
            return Err(replaced());
        }
        if mode.write || mode.truncate {
            self.writable()?;
        }
        // Before anything is emptied: the release of an earlier handle, which comes late, commits when nobody else writes.
        let (counted, shown) = (Counted::new(&inode, mode), inode.lock().attr);
        let opened = match self.begin_open(&inode, mode, caller).await {
            Err(error) if error.situation() == Situation::Archived && mode.read && !mode.write => {
                Err(self.refuse_archived(&inode, error).await)
            }
            opened => opened,
        };
        self.tell_what_is_other(&inode, shown, mode);
        match opened {
            Ok(reader) => Ok(self.add_handle(counted, mode.write && mode.truncate, caller, reader)),
            Err(error) => {
                self.forget_if_stale(&inode, &error);
                if counted.give_up() {
                    // An earlier handle's release may have counted on this one.
                    self.commit_what_is_left(&inode).await?;
                    self.end_writing(&inode).await?;
                }
                Err(error)
            }
        }
    }

    async fn begin_open(&self, inode: &Arc<Inode<S>>, mode: OpenMode, caller: Caller) -> Result<Option<Arc<Reader<S>>>> {
        if !mode.write && !mode.truncate && self.is_about_to_be_renamed(inode) {
            // rsync opens what it has just written to change its mode: who reads it all the same asks then.
            return Ok(None);
        }
        if !mode.truncate {
            self.must_not_be_replaced(inode).await?;
        }
        if mode.write || mode.truncate {
            self.know_attributes(inode, mode, caller).await?;
        }
        match (mode.write, mode.truncate) {
            (true, true) => self.begin_whole(inode, caller).await.map(|()| None),
            (false, true) => {
                self.truncate(inode, 0, None, caller).await?;
                self.open_reader(inode, caller).await
            }
            _ if mode.read => self.open_reader_again(inode, caller).await,
            _ => Ok(None),
        }
    }

    /// Makes a file and opens it. The store hears of it at the first flush.
    ///
    /// # Errors
    /// [`Situation::Exists`], [`Situation::ReadOnly`], and names that cannot be.
    pub async fn create(
        &self,
        parent: Ino,
        name: &[u8],
        file_mode: u32,
        mode: OpenMode,
        caller: Caller,
    ) -> Result<(Stat, HandleId)> {
        self.writable()?;
        let directory = self.directory(parent)?;
        let _entered = self.moves.enter(&directory, Access::Change).await;
        let (shown, address) = self.new_name(&directory, name, Role::Object).await?;
        let free = self.must_be_free(&directory, &shown);
        let Shown { component, beside_directory } = shown;
        if let Err(taken) = free {
            let there = self.table.at(directory.ino, Role::Object, &component);
            // Two creators without O_EXCL: the later one opens what the earlier one has made.
            return match there {
                Some(there) if taken.situation() == Situation::Exists && !mode.exclusive => {
                    let handle = self.open_inode(Arc::clone(&there), mode, caller).await?;
                    Ok((self.told(&there), handle))
                }
                _ => Err(taken),
            };
        }
        let attr = Attr { mode: file_mode & 0o7777, ..self.new_attr(parent, Kind::File, caller)? };
        let facts = Facts { exact: true, ..Facts::plain(Kind::File, attr) };
        let old = self.table.at(directory.ino, Role::Object, &component);
        let inode = self.insert(&directory, &component, facts, old.as_ref());
        {
            let headers = Headers { content_type: Some(guess::content_type(component.as_str())), ..Headers::default() };
            let properties = Properties { headers, ..Properties::default() };
            let on_conflict = match mode {
                OpenMode { exclusive: true, .. } => OnConflict::Fail,
                OpenMode { truncate: true, .. } => OnConflict::Replace,
                // Begun on what was believed to be nothing: it replaces nothing else.
                _ => OnConflict::Stale,
            };
            let writer = Writer::new(self.writes.clone(), address.destination(properties)?);
            let mut state = inode.lock();
            (state.ours, state.mode_is_ours) = (true, true);
            state.beside_directory = beside_directory;
            state.content = Content::Writing(Writing::anew(writer, on_conflict));
        }
        self.dress(&inode);
        self.note_made(&directory, &inode, &component, true);
        let counted = Counted::new(&inode, mode.of_maker());
        if mode.exclusive && self.config.strict_excl {
            self.be_first(&inode).await?;
        }
        let stat = self.told(&inode);
        Ok((stat, self.add_handle(counted, true, caller, None)))
    }

    /// Stores a new file as it is, empty; there is no such file when that fails.
    async fn be_first(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let _alone = inode.gate.write().await;
        let first = self.commit_alone(inode).await;
        let Err(error) = &first else { return Ok(()) };
        // The name of who has come second is the other's already.
        if error.situation() != Situation::Exists {
            self.note_vanished(inode);
        }
        if let Some(writing) = inode.writing() {
            inode.lock().content = Content::Orphan(Some(Bytes::new()));
            writing.writer.discard().await;
        }
        first
    }

    /// Lets who appends go on in the file that has the name now, if another client has replaced the one that was opened: whether
    /// there is one.
    pub(super) async fn follow_name(&self, open: &OpenFile<S>, old: &Arc<Inode<S>>) -> Result<bool> {
        let replaced = {
            let state = old.lock();
            !state.linked && state.attr.nlink > 0 && state.lost.is_none()
        };
        let place = old.place();
        let Some(directory) = place.parent.filter(|_| replaced) else { return Ok(false) };
        let shown = Shown { component: place.component, beside_directory: false };
        let Some(new) = self.find(&directory, &shown).await?.filter(|new| new.kind == old.kind) else { return Ok(false) };
        let (new, mode) = Counted::new(&new, open.mode).keep();
        let left = if open.follow(old, Arc::clone(&new)) { old } else { &new };
        uncount(left, mode);
        left.lock().closing.leave(open.id);
        self.end_writing(left).await?;
        self.table.release(left.ino);
        Ok(true)
    }

    /// `emptied`: the open itself has changed the file, or made it.
    fn add_handle(&self, counted: Counted<S>, emptied: bool, caller: Caller, reader: Option<Arc<Reader<S>>>) -> HandleId {
        let (inode, mode) = counted.keep();
        let id = self.handles.id();
        if emptied {
            inode.lock().closing.changed(Some(id));
        }
        self.handles.add_file(OpenFile { id, at: Mutex::new(inode), mode, opened_by: caller.tid, reader: Mutex::new(reader) })
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// What is stale must be asked for anew: the next lookup may not believe the listing.
    pub(in crate::fs) fn forget_if_stale(&self, inode: &Arc<Inode<S>>, error: &Error) {
        if error.situation() != Situation::Stale {
            return;
        }
        if let Some(parent) = inode.place().parent {
            parent.lock().directory.forget_listing();
        }
    }

    /// Sends the kernel to look again when a file's name is another object's now, and nobody has this one open.
    pub(in crate::fs) fn is_current(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let state = inode.lock();
        let current = inode.is_directory() || state.linked || state.opens > 0;
        if current { Ok(()) } else { Err(replaced()) }
    }

    /// What has a file's name after another client has replaced it, as `stale` says. The kernel looks again, but once only. Who
    /// has the file open means that one and no other; and where the kernel's judgement of the old attributes would not be that
    /// of the new ones, it has to look.
    pub(in crate::fs) async fn successor(
        &self,
        inode: &Arc<Inode<S>>,
        stale: &Error,
        same_judgement: fn(&Attr, &Attr) -> bool,
    ) -> Option<Arc<Inode<S>>> {
        self.forget_if_stale(inode, stale);
        let (place, mine) = {
            let state = inode.lock();
            (state.place.clone(), state.opens > 0 || state.lost.is_some() || state.is_writing())
        };
        let parent = place.parent.filter(|_| !mine && !inode.is_directory())?;
        // Two that change it at the same time would else meet again and again.
        clock::sleep(Duration::from_millis(Rng::from_os().below(MAX_STEP_ASIDE_MS))).await;
        let plain = Shown { component: place.component, beside_directory: false };
        let found = match self.find(&parent, &plain).await.ok()?? {
            directory if directory.is_directory() => {
                self.find(&parent, &Shown { beside_directory: true, ..plain }).await.ok()??
            }
            file => file,
        };
        let (old, new) = (inode.lock().attr, found.lock().attr);
        let same = found.kind == inode.kind && same_judgement(&old, &new);
        (same && !Arc::ptr_eq(&found, inode)).then_some(found)
    }

    /// All that HEAD says about an object, asked when it is not known. It is that of the inode's own tag, or the inode is
    /// stale.
    pub(in crate::fs) async fn known_info(&self, inode: &Arc<Inode<S>>) -> Result<Arc<ObjectInfo>> {
        let known = inode.lock().info.clone();
        match known {
            Some(info) => Ok(info),
            None => match self.fetched_ahead(inode).await {
                Some(info) => Ok(info),
                None => self.fresh_info(inode).await,
            },
        }
    }

    /// As [`Fs::known_info`], but no older than a second: what a self-copy starts from, so that it takes no change of another
    /// client's back.
    pub(in crate::fs) async fn current_info(&self, inode: &Arc<Inode<S>>) -> Result<Arc<ObjectInfo>> {
        let known = {
            let state = inode.lock();
            let recent = state.looked_at.is_some_and(|at| clock::instant().saturating_duration_since(at) < CURRENT);
            state.info.clone().filter(|_| recent)
        };
        match known {
            Some(info) => Ok(info),
            None => self.fresh_info(inode).await,
        }
    }

    /// As [`Fs::known_info`], but always asked: what changes without the object changing (a restore).
    pub(in crate::fs) async fn fresh_info(&self, inode: &Arc<Inode<S>>) -> Result<Arc<ObjectInfo>> {
        let address = self.locate(inode)?;
        let asked = clock::instant();
        let info = match self.store.head(&HeadObject { object: address.object()? }).await {
            Ok(info) => Arc::new(info),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(replaced()),
            Err(error) => return Err(error.into()),
        };
        self.remembered.note(&address, &info);
        self.learn_head(inode, info, asked)
    }

    /// Takes over what HEAD said when it was `asked`; the inode is stale if that is about another object.
    pub(in crate::fs) fn learn_head(&self, inode: &Inode<S>, info: Arc<ObjectInfo>, asked: Instant) -> Result<Arc<ObjectInfo>> {
        let facts = if inode.is_directory() {
            self.directory_facts(Some(Arc::clone(&info)))
        } else {
            self.object_facts(Arc::clone(&info))
        };
        let mut state = inode.lock();
        if let Some(newer) = state.info.clone().filter(|_| state.committed_at.is_some_and(|at| at >= asked)) {
            // What this mount did meanwhile it knows better.
            return Ok(newer);
        }
        let own = state.etag();
        if !inode.is_directory() && own.is_some_and(|own| own != info.etag) {
            return Err(replaced());
        }
        state.learn(&facts);
        state.info = Some(Arc::clone(&info));
        state.looked_at = Some(asked);
        drop(state);
        Ok(info)
    }

    /// As [`Fs::open_reader`]; what seems to be gone may be on its way to another name or tag by this mount itself.
    async fn open_reader_again(&self, inode: &Arc<Inode<S>>, caller: Caller) -> Result<Option<Arc<Reader<S>>>> {
        let before = {
            let state = inode.lock();
            (state.etag(), state.committed_at)
        };
        let opened = self.open_reader(inode, caller).await;
        if !matches!(&opened, Err(error) if error.situation() == Situation::Stale) {
            return opened;
        }
        drop(inode.gate.read().await);
        let changed_here = {
            let state = inode.lock();
            state.linked && (state.etag(), state.committed_at) != before
        };
        if changed_here { self.open_reader(inode, caller).await } else { opened }
    }

    /// Sends the GET that an open needs anyway, and waits for its headers.
    async fn open_reader(&self, inode: &Arc<Inode<S>>, caller: Caller) -> Result<Option<Arc<Reader<S>>>> {
        let (etag, shown, read_before) = {
            let state = inode.lock();
            match &state.content {
                Content::Clean(etag) => (etag.clone(), state.attr, !state.readers.is_empty()),
                Content::Writing(_) | Content::Orphan(_) | Content::Directory => return Ok(None),
            }
        };
        let size = shown.size;
        let address = self.locate(inode)?;
        let object = address.object()?;
        let range = ByteRange::new(0, size.min(OPEN_BYTES));
        let (Some(etag), Some(range), false) = (etag, range, read_before && size > OPEN_BYTES) else {
            // Empty, of unknown tag, or in the page cache already: HEAD tells as much.
            let info = self.fresh_info(inode).await?;
            self.judge(inode, shown, caller)?;
            if !is_readable(&info) {
                return Err(archived(&object));
            }
            return Ok(Some(self.new_reader(inode, object, &info)));
        };
        let permit = self.budget.acquire(Class::Read, range.len()).await;
        let asked = clock::instant();
        let request = GetObject { object: object.clone(), range: Some(range), if_match: Some(etag) };
        let download = match self.store.get(&request).await {
            Ok(download) => download,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Changed) => return Err(replaced()),
            // The object is shorter than the range: another one.
            Err(error) if error.story().status == Some(416) => return Err(replaced()),
            Err(error) => return Err(error.into()),
        };
        let info = Arc::new(download.info.clone());
        self.remembered.note(&address, &info);
        let facts = self.object_facts(Arc::clone(&info));
        {
            let mut state = inode.lock();
            // What this mount did meanwhile it knows better.
            if state.committed_at.is_none_or(|at| at < asked) {
                state.learn(&facts);
            }
        }
        self.judge(inode, shown, caller)?;
        let reader = self.new_reader(inode, object, &info);
        reader.adopt(download, permit);
        Ok(Some(reader))
    }

    /// A reader of the object as `info` has it, known to the inode so that it can be pinned anew.
    pub(in crate::fs) fn new_reader(&self, inode: &Arc<Inode<S>>, object: ObjectRef, info: &ObjectInfo) -> Arc<Reader<S>> {
        let Source { object, etag, size, .. } = source_of(&object, info);
        self.reader_of(inode, object, etag, size)
    }

    pub(in crate::fs) fn reader_of(&self, inode: &Arc<Inode<S>>, object: ObjectRef, etag: ETag, size: u64) -> Arc<Reader<S>> {
        let reader = Reader::new(self.store.clone(), self.budget.clone(), object, etag, size);
        let mut state = inode.lock();
        state.readers.retain(|reader| reader.strong_count() > 0);
        state.readers.push(Arc::downgrade(&reader));
        reader
    }
}

pub(super) fn replaced() -> Error {
    Error::new(Situation::Stale, "another client has replaced or removed the object")
}

pub(super) fn archived(object: &ObjectRef) -> Error {
    crate::store::Error::new(ErrorKind::Archived, crate::store::Operation::GetObject, object, "the object is archived").into()
}
