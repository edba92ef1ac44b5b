//! Taking names away: unlink, rmdir, and what becomes of a file that is open meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::clock;
use crate::data;
use crate::data::budget::Class;
use crate::data::write::Writer;
use crate::data::write::commit::Base;
use crate::data::write::settle::look;
use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::locate::Address;
use crate::fs::name::Component;
use crate::fs::ops::names::touch_directory;
use crate::fs::tree::directory::Listing;
use crate::fs::tree::inode::{Content, Inode, Role};
use crate::fs::tree::moves::Access;
use crate::store::{
    BucketService, Condition, DeleteObject, Delimiter, ETag, GetObject, ListedObject, ObjectRef, ObjectStore, Outcome,
};

/// A removed file that is still open is fetched up to this size, in bytes, so that its readers can go on; a larger one is
/// deleted when they are done.
const MAX_ORPHAN_BYTES: u64 = 64 << 20;

/// Memory for what readers keep is waited for so long: then the object itself stays until they are done.
const MEMORY_PATIENCE: Duration = Duration::from_secs(1);
/// How often a DELETE whose request was lost is sent again.
const MAX_DELETES: u32 = 7;
/// The wait before the n-th further try is n times this.
const PAUSE: Duration = Duration::from_millis(100);

/// What is kept of an object for those who have it open.
#[derive(Debug)]
pub(in crate::fs) enum Kept {
    /// Nobody needs anything.
    Nothing,
    /// Its bytes.
    Bytes(Bytes),
    /// The object itself: it is too large, or memory too short.
    Object,
}

/// Who has removed an object that is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fs) enum Gone {
    /// This mount, as far as anybody knows.
    Here,
    /// Another client, for certain, before this mount's request came.
    Before,
}

/// Why an object was not deleted, as far as anybody knows.
#[derive(Debug)]
pub(in crate::fs) struct NotDeleted {
    pub error: Error,
    /// A request was not answered: it may have been carried out, or be yet.
    pub unanswered: bool,
}

impl From<Error> for NotDeleted {
    fn from(error: Error) -> Self {
        Self { error, unanswered: false }
    }
}

impl From<NotDeleted> for Error {
    fn from(not_deleted: NotDeleted) -> Self {
        not_deleted.error
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Removes a file.
    ///
    /// # Errors
    /// [`Situation::NotFound`], [`Situation::IsDirectory`], [`Situation::Stale`] when another client has replaced it (the
    /// kernel looks again and repeats), and the store's failures.
    pub async fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        let directory = self.directory(parent)?;
        let _entered = self.moves.enter(&directory, Access::Change).await;
        let inode = self.must_find(&directory, name).await?;
        if inode.is_directory() {
            return Err(Error::new(Situation::IsDirectory, "it is a directory: use rmdir"));
        }
        let _alone = self.alone_to_change(&inode).await?;
        self.bring_back(&inode).await?;
        self.remove_object(&inode).await.inspect_err(|error| self.forget_if_stale(&inode, error))?;
        self.let_go_if_unused(&inode).await;
        self.note_removed(&directory, &inode);
        Ok(())
    }

    /// Deletes the object of an inode, or arranges that it is deleted at the last close. The caller holds the gate alone.
    async fn remove_object(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let content = inode.lock().content.clone();
        let etag = match &content {
            Content::Writing(writing) => match &writing.base {
                Base::Object(etag) => Some(etag.clone()),
                // The store has nothing of it, but parts, or a commit whose answer was lost.
                Base::Absent => match self.doubtful_tag(inode, &writing.writer).await? {
                    Some(etag) => Some(etag),
                    None => return Ok(()),
                },
            },
            Content::Clean(etag) => etag.clone(),
            Content::Orphan(_) | Content::Directory => return Ok(()),
        };
        let kept = match self.kept_for_readers(inode, etag.clone()).await? {
            Kept::Nothing => None,
            Kept::Bytes(bytes) => Some(bytes),
            Kept::Object => {
                inode.lock().doomed = Some(etag);
                return Ok(());
            }
        };
        self.delete_object(self.locate(inode)?.object()?, etag).await?;
        if let Some(bytes) = kept {
            inode.lock().content = Content::Orphan(Some(bytes));
        }
        Ok(())
    }

    /// The tag of the object that an unanswered commit of `writer` has made, if it has.
    pub(in crate::fs) async fn doubtful_tag(&self, inode: &Arc<Inode<S>>, writer: &Arc<Writer<S>>) -> Result<Option<ETag>> {
        if !writer.is_doubtful() {
            return Ok(None);
        }
        let there = look(&self.store, &self.locate(inode)?.object()?).await?;
        Ok(there.filter(|info| writer.may_have_made(info)).map(|info| info.etag))
    }

    /// A file whose bytes have left as parts is stored before it loses its name: only then they can be read by those who have
    /// it open. The caller holds the gate alone.
    pub(in crate::fs) async fn bring_back(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let opens = inode.lock().opens;
        match inode.writing() {
            Some(writing) if opens > 0 && writing.writer.has_left() => self.commit_alone(inode).await,
            _ => Ok(()),
        }
    }

    /// What must be kept of an object that is about to go, for those who have it open.
    pub(in crate::fs) async fn kept_for_readers(&self, inode: &Arc<Inode<S>>, etag: Option<ETag>) -> Result<Kept> {
        let (size, writer) = {
            let state = inode.lock();
            let (size, writer) = match &state.content {
                Content::Clean(_) => (state.attr.size, None),
                Content::Writing(writing) => (writing.writer.bytes_of_store(), Some(Arc::clone(&writing.writer))),
                Content::Orphan(_) | Content::Directory => (0, None),
            };
            // Where the bucket keeps versions, readers are pinned to theirs.
            if state.opens == 0 || size == 0 || state.version().is_some() {
                return Ok(Kept::Nothing);
            }
            (size, writer)
        };
        if size > MAX_ORPHAN_BYTES {
            return Ok(Kept::Object);
        }
        let class = if writer.is_some() { Class::Write } else { Class::Read };
        let Ok(permit) = clock::deadline(MEMORY_PATIENCE, self.budget.acquire(class, size)).await else {
            return Ok(Kept::Object);
        };
        match writer {
            None => Ok(Kept::Bytes(permit.hold(self.fetch_whole(inode, etag).await?))),
            Some(writer) => {
                // It pays for what it takes itself.
                drop(permit);
                match writer.pull(|_| true).await {
                    Err(data::Error::Full) => Ok(Kept::Object),
                    pulled => Ok(pulled.map(|()| Kept::Nothing)?),
                }
            }
        }
    }

    /// Gives up a content that nobody has open and that has no name any more. The caller holds the gate alone.
    pub(in crate::fs) async fn let_go_if_unused(&self, inode: &Arc<Inode<S>>) {
        let unused = inode.lock().opens == 0;
        if unused && let Some(writing) = inode.writing() {
            writing.writer.discard().await;
            inode.lock().content = Content::Orphan(Some(Bytes::new()));
        }
    }

    /// DELETE on the condition that the object is the one with `etag`. That it is gone already is no failure.
    pub(in crate::fs) async fn delete_object(
        &self,
        object: ObjectRef,
        etag: Option<ETag>,
    ) -> std::result::Result<Gone, NotDeleted> {
        let etag = match etag {
            Some(etag) => etag,
            // The listing did not say.
            None => match look(&self.store, &object).await.map_err(Error::from)? {
                Some(info) => info.etag,
                None => return Ok(Gone::Before),
            },
        };
        let request = DeleteObject { object, condition: Condition::IfMatch(etag.clone()) };
        let (mut attempt, mut unanswered) = (0, false);
        loop {
            let error = match self.store.delete(&request).await {
                Ok(()) => return Ok(Gone::Here),
                Err(error) => error,
            };
            let unknown = error.outcome() == Outcome::Unknown;
            unanswered |= unknown;
            // What is not there any more is removed, by whomever: also by our own request whose answer was lost.
            match look(&self.store, &request.object).await {
                Ok(None) => return Ok(if unanswered { Gone::Here } else { Gone::Before }),
                // A request that was lost on its way is sent again, as long as its condition holds.
                Ok(Some(info)) if unknown && info.etag == etag && attempt < MAX_DELETES => {
                    attempt += 1;
                    clock::sleep(PAUSE * attempt).await;
                }
                _ => return Err(NotDeleted { error: error.into(), unanswered }),
            }
        }
    }

    /// All bytes of an object, for readers that will outlive it.
    pub(in crate::fs) async fn fetch_whole(&self, inode: &Arc<Inode<S>>, etag: Option<ETag>) -> Result<Bytes> {
        let request = GetObject { object: self.locate(inode)?.object()?, range: None, if_match: etag };
        Ok(self.store.get(&request).await?.body.collect().await?)
    }

    /// The name is gone: in the tree, in what is known of the directory, and the directory stays although it may be empty.
    pub(in crate::fs) fn note_removed(&self, directory: &Arc<Inode<S>>, inode: &Arc<Inode<S>>) {
        let component = inode.place().component;
        let doomed = {
            let mut state = inode.lock();
            state.unlink();
            state.attr.nlink = 0;
            state.attr.ctime = clock::now();
            state.doomed.is_some()
        };
        if !doomed {
            self.table.unlink(directory.ino, inode.role(), &component, inode);
        }
        self.note_gone(directory, inode.role(), component, doomed);
        self.table.release(inode.ino);
    }

    /// This mount has taken a name out of a directory.
    pub(in crate::fs) fn note_gone(&self, directory: &Arc<Inode<S>>, role: Role, component: Component, pinned: bool) {
        let now = clock::instant();
        let beside = self.table.at(directory.ino, Role::Object, &component).is_some();
        {
            let mut state = directory.lock();
            let listed = |listing: Arc<Listing>| listing.children.get(&component).is_some_and(|child| child.object.is_some());
            let beside = role == Role::Directory && (beside || state.directory.last_listing().is_some_and(listed));
            state.directory.edit(role, component.clone(), false, pinned, now);
            if beside {
                state.directory.leave_beside(component);
            }
            touch_directory(&mut state.attr, -i32::from(role == Role::Directory));
        }
        // Without a marker it may be gone from every listing now, and those above it too, yet they stay until rmdir.
        let mut kept = Arc::clone(directory);
        // A bucket is there without a key.
        while self.locate(&kept).is_ok_and(|address| !address.is_bucket()) {
            let marked = {
                let mut state = kept.lock();
                let marked = state.info.is_some();
                if !marked {
                    state.directory.keep();
                }
                marked
            };
            let place = kept.place();
            let Some(parent) = place.parent.filter(|_| !marked) else { break };
            parent.lock().directory.edit(Role::Directory, place.component, true, true, now);
            kept = parent;
        }
    }

    /// The last close of a large removed file: deletes its object.
    pub(in crate::fs) async fn remove_if_doomed(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let doomed = {
            let mut state = inode.lock();
            if state.opens == 0 { state.doomed.take() } else { None }
        };
        let Some(etag) = doomed else { return Ok(()) };
        let place = inode.place();
        let object = self.locate(inode)?.object()?;
        let deleted = self.delete_object(object, etag).await;
        if let Some(directory) = place.parent {
            self.table.unlink(directory.ino, Role::Object, &place.component, inode);
            directory.lock().directory.edit(Role::Object, place.component, false, false, clock::instant());
        }
        deleted?;
        Ok(())
    }

    /// The name belongs to another creator now.
    pub(in crate::fs) fn give_name_up(&self, inode: &Arc<Inode<S>>) {
        self.lose_name(inode, Some(true));
    }

    /// The name is not this file's any more; whether it is anybody's, only the store can tell.
    pub(in crate::fs) fn forget_name(&self, inode: &Arc<Inode<S>>) {
        self.lose_name(inode, None);
    }

    /// A file that the store never had is no more.
    pub(in crate::fs) fn note_vanished(&self, inode: &Arc<Inode<S>>) {
        self.lose_name(inode, Some(false));
    }

    /// Takes the name away from an inode; `taken` tells whether there is something else of that name,
    /// if that is known.
    fn lose_name(&self, inode: &Arc<Inode<S>>, taken: Option<bool>) {
        let place = inode.place();
        inode.lock().unlink();
        if let Some(directory) = place.parent {
            self.table.unlink(directory.ino, Role::Object, &place.component, inode);
            let mut state = directory.lock();
            if let Some(taken) = taken {
                state.directory.edit(Role::Object, place.component, taken, false, clock::instant());
            }
            state.directory.forget_listing();
        }
    }

    /// Removes an empty directory with its marker.
    ///
    /// # Errors
    /// [`Situation::NotEmpty`], [`Situation::NotFound`], [`Situation::NotDirectory`], and the store's failures.
    pub async fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        let _shape = self.rename_lock.lock().await;
        let directory = self.directory(parent)?;
        let inode = self.must_find(&directory, name).await?;
        if !inode.is_directory() {
            return Err(Error::new(Situation::NotDirectory, "it is not a directory"));
        }
        let _alone = inode.gate.write().await;
        if self.is_account(&directory) {
            self.delete_bucket(&inode).await?;
        } else {
            self.delete_directory(&inode).await?;
        }
        inode.lock().directory = crate::fs::tree::directory::Directory::default();
        self.note_removed(&directory, &inode);
        Ok(())
    }

    /// Deletes the marker of a directory in which nothing else is.
    async fn delete_directory(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        if let Some(marker) = self.marker_of_empty(inode).await? {
            self.delete_object(self.locate(inode)?.object()?, marker.etag).await?;
        }
        Ok(())
    }

    /// The marker of a directory in which nothing else is.
    ///
    /// # Errors
    /// [`Situation::NotEmpty`] when there is.
    pub(super) async fn marker_of_empty(&self, inode: &Arc<Inode<S>>) -> Result<Option<ListedObject>> {
        if inode.lock().directory.has_own_names() {
            return Err(not_empty("what is not uploaded yet"));
        }
        self.marker_alone(&self.locate(inode)?).await
    }

    /// As [`Fs::marker_of_empty`], as the store has it.
    pub(super) async fn marker_alone(&self, address: &Address) -> Result<Option<ListedObject>> {
        let keys = self.list_some(address, Delimiter::None, 2).await?;
        let mut marker = None;
        for listed in keys {
            if listed.key != address.key || listed.size > 0 {
                return Err(not_empty(&format!("'{}'", listed.key)));
            }
            marker = Some(listed);
        }
        Ok(marker)
    }
}

fn not_empty(what: &str) -> Error {
    Error::new(Situation::NotEmpty, format!("the directory is not empty: it holds {what}"))
}
