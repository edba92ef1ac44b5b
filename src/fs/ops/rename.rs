//! Rename of a file: a copy inside the store and a delete, both conditional; a file that the store does not have yet moves
//! with no request.
//!
//! A copy or delete that was not answered may have been carried out, or be yet. Then the copy stays, since it may be the only
//! one; the file keeps its old name, reads from the copy, and knows the copy's token ([`Moving`]), so that the next try finds
//! what this one has done.

use std::sync::Arc;

use super::attrs::is_restored;
use super::commit::copied_info;
use super::keeping::TagsBy;
use super::marker::Announced;
use crate::base::clock;
use crate::data::guess;
use crate::data::write::Destination;
use crate::data::write::commit::{Base, MadeBy, OnConflict, token_of, with_token};
use crate::data::write::settle::{Source, copy_object, look};
use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::posix;
use crate::fs::name::{self, Component, Shown};
use crate::fs::ops::begin::source_of;
use crate::fs::ops::names::touch_directory;
use crate::fs::ops::remove::{Gone, Kept, NotDeleted};
use crate::fs::tree::inode::{Content, Inode, Moving, Place, Role};
use crate::store::{BucketService, Condition, ETag, ObjectInfo, ObjectLock, ObjectRef, ObjectStore, Tags};

/// Whether a rename may replace what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// POSIX rename.
    Allowed,
    /// `RENAME_NOREPLACE`.
    Forbidden,
}

/// Where a name is and what it is there.
pub(super) struct Spot<'a, S> {
    pub(super) directory: Arc<Inode<S>>,
    pub(super) name: &'a [u8],
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Moves a file or a directory to another name.
    ///
    /// # Errors
    /// [`Situation::Exists`], [`Situation::NotEmpty`], [`Situation::NotDirectory`], [`Situation::IsDirectory`],
    /// [`Situation::Archived`], [`Situation::Stale`], and the store's failures. Until the copy is complete nothing has
    /// changed; if only the delete fails, the file has both names.
    pub async fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), replace: Replace) -> Result<()> {
        self.writable()?;
        let _shape = self.rename_lock.lock().await;
        let from = Spot { directory: self.directory(from.0)?, name: from.1 };
        let to = Spot { directory: self.directory(to.0)?, name: to.1 };
        let inode = self.must_find(&from.directory, from.name).await?;
        if self.is_account(&from.directory) {
            return Err(super::buckets::not_renamed());
        }
        if inode.is_directory() {
            // In a box: it is large, and files need not pay for it.
            return Box::pin(self.rename_directory(&inode, &from, &to, replace)).await;
        }
        let (shown, address) = self.new_name(&to.directory, to.name, Role::Object).await?;
        let object = address.object()?;
        let target = self.target(&to, &shown.component, replace).await?;
        if target.as_ref().is_some_and(|target| Arc::ptr_eq(target, &inode)) {
            return Ok(());
        }
        let _gates = self.gates_to_change(&inode, target.as_ref()).await?;
        if let Some(target) = &target {
            self.bring_back(target).await?;
        }
        let made = self.made_before(&inode, &object).await?;
        let kept = match &target {
            Some(target) => match self.keep_readable(target).await {
                // An earlier try has replaced it: who reads it has what he has.
                Err(error) if made.is_some() && error.situation() == Situation::Stale => None,
                kept => kept?,
            },
            None => None,
        };
        let moved = self.move_object(&inode, (target.as_ref(), made), (&to.directory, &object), replace).await;
        if let Err(error) = moved {
            self.forget_if_stale(&inode, &error);
            for directory in [&from.directory, &to.directory] {
                directory.lock().directory.forget_listing();
            }
            if let Some(target) = target.as_ref().filter(|target| !target.lock().linked) {
                self.leave_to_readers(target, kept).await;
                self.table.release(target.ino);
            }
            return Err(error);
        }
        if let Some(writing) = inode.writing() {
            writing.writer.redirect(|destination| {
                let headers = &mut destination.properties.headers;
                headers.content_type = guess::renamed(headers.content_type.take(), destination.key.as_str(), object.key.as_str());
                (destination.bucket, destination.key) = (object.bucket, object.key);
            });
        }
        if let Some(target) = &target {
            self.leave_to_readers(target, kept).await;
        }
        self.note_moved(&inode, target.as_ref(), &to.directory, shown);
        Ok(())
    }

    /// As [`Fs::alone_to_change`], of two inodes.
    async fn gates_to_change<'a>(&self, inode: &'a Arc<Inode<S>>, target: Option<&'a Arc<Inode<S>>>) -> Result<Gates<'a>> {
        loop {
            let gates = Gates::lock(inode, target).await;
            let mut copied = None;
            for inode in std::iter::once(inode).chain(target) {
                if self.is_copied(inode)? {
                    copied = Some(inode);
                }
            }
            let Some(copied) = copied else { return Ok(gates) };
            drop(gates);
            self.make_copies_of(copied).await?;
        }
    }

    /// What was replaced has only what its readers keep.
    async fn leave_to_readers(&self, target: &Arc<Inode<S>>, kept: Option<bytes::Bytes>) {
        if let Some(bytes) = kept {
            target.lock().content = Content::Orphan(Some(bytes));
        }
        self.let_go_if_unused(target).await;
    }

    /// What is at the new name.
    async fn target(&self, to: &Spot<'_, S>, component: &Component, replace: Replace) -> Result<Option<Arc<Inode<S>>>> {
        let text = super::names::utf8(to.name)?;
        let beside_directory = name::parse(text).is_some_and(|shown| shown.beside_directory);
        if self.table.at(to.directory.ino, Role::Object, component).is_some_and(|there| there.lock().doomed.is_some()) {
            return Err(Error::new(Situation::Busy, "a removed file of the new name is still being read"));
        }
        let shown = Shown { component: component.clone(), beside_directory };
        let target = match self.known(&to.directory, &shown) {
            Some(target) => Some(target),
            None => self.find(&to.directory, &shown).await?,
        };
        match &target {
            Some(_) if replace == Replace::Forbidden => Err(Error::new(Situation::Exists, "the new name is taken")),
            Some(target) if target.is_directory() => Err(Error::new(Situation::IsDirectory, "the new name is a directory")),
            _ => Ok(target),
        }
    }

    /// The copy that an earlier rename to `to` has made, although it failed.
    async fn made_before(&self, inode: &Arc<Inode<S>>, to: &ObjectRef) -> Result<Option<ObjectInfo>> {
        let moving = inode.lock().moving.clone().filter(|moving| moving.to == *to);
        let Some(Moving { tokens, .. }) = moving else { return Ok(None) };
        let there = look(&self.store, to).await?;
        Ok(there.filter(|info| token_of(&info.properties).is_some_and(|token| tokens.iter().any(|own| own == token))))
    }

    /// Brings the bytes to where `to` is and away from the old place; `target` has the name, and `made` is what an earlier try
    /// has left there. Both gates are held alone.
    async fn move_object(
        &self,
        inode: &Arc<Inode<S>>,
        (target, made): (Option<&Arc<Inode<S>>>, Option<ObjectInfo>),
        (directory, to): (&Arc<Inode<S>>, &ObjectRef),
        replace: Replace,
    ) -> Result<()> {
        let replaced = match (&made, target) {
            (Some(made), _) => Base::Object(made.etag.clone()),
            (None, Some(target)) => self.base_of(target).await?,
            (None, None) => Base::Absent,
        };
        if let Some(writing) = inode.writing().filter(|writing| writing.writer.is_dirty()) {
            if writing.base == Base::Absent && !writing.writer.has_left() && !writing.writer.is_doubtful() {
                if let Content::Writing(writing) = &mut inode.lock().content {
                    writing.base = replaced;
                    writing.on_conflict = match replace {
                        Replace::Allowed => OnConflict::Replace,
                        Replace::Forbidden => OnConflict::Fail,
                    };
                }
                return Ok(());
            }
            self.commit_alone(inode).await?;
        }
        if let Some(made) = made {
            let (old, place) = (inode.lock().etag(), ObjectRef { version: made.version.clone(), ..to.clone() });
            if look(&self.store, &self.locate(inode)?.object()?).await?.is_none() {
                // The old object was deleted as well, and that answer was lost, too.
                if let Some(old) = old {
                    self.repin(inode, &old, &place, &made.etag);
                }
                inode.lock().committed(made);
                return Ok(());
            }
        }
        self.copy_and_delete((inode, target), replaced, (directory, to)).await
    }

    /// What the store has of a file.
    async fn base_of(&self, inode: &Arc<Inode<S>>) -> Result<Base> {
        let known = match &inode.lock().content {
            Content::Writing(writing) => Some(writing.base.clone()),
            Content::Clean(etag) => etag.clone().map(Base::Object),
            Content::Orphan(_) | Content::Directory => Some(Base::Absent),
        };
        match known {
            Some(base) => Ok(base),
            // The listing did not say.
            None => Ok(Base::Object(self.known_info(inode).await?.etag.clone())),
        }
    }

    async fn copy_and_delete(
        &self,
        (inode, target): (&Arc<Inode<S>>, Option<&Arc<Inode<S>>>),
        replaced: Base,
        (directory, to): (&Arc<Inode<S>>, &ObjectRef),
    ) -> Result<()> {
        let info = self.current_info(inode).await?;
        if info.archived() {
            let words = if is_restored(&info) {
                "a restored object cannot be renamed in the archive: move it to another class first, with setfattr -n user.s3.storage-class -v STANDARD FILE"
            } else {
                "an archived object cannot be copied, so it cannot be renamed: restore it (setfattr -n user.s3.restore -v 5 FILE), then move it to another class (user.s3.storage-class)"
            };
            return Err(Error::new(Situation::Archived, words));
        }
        let source = self.locate(inode)?.object()?;
        let (mut destination, tags) = self.moved(&source, &info, to).await?;
        self.with_unsent(inode, &mut destination.properties.metadata);
        self.keep_time(Some(inode), &info, &mut destination.properties.metadata);
        posix::note_change(&mut destination.properties.metadata, clock::now());
        let (directory, metadata) = (Some(Arc::clone(directory)), &destination.properties.metadata);
        self.announce(inode, Announced { directory, size: info.size, metadata, begun: clock::instant() }).await;
        // What was asked for by an earlier try may be carried out yet.
        let is_first_try = inode.lock().moving.is_none();
        if let Some(token) = token_of(&destination.properties) {
            inode.lock().note_moving(to, token.to_owned());
        }
        let was_free = replaced == Base::Absent;
        let condition = match &replaced {
            Base::Absent => Condition::IfAbsent,
            Base::Object(etag) => Condition::IfMatch(etag.clone()),
        };
        let from = Source { object: source.clone(), ..source_of(&source, &info) };
        let copied = copy_object(&self.store, from, &destination, condition).await;
        let committed = copied.map_err(|error| match Error::from(error) {
            // Somebody has taken the new name meanwhile: what is believed of it is stale.
            error if error.situation() == Situation::Exists => error.in_situation(Situation::Stale),
            error => error,
        })?;
        // Readers go on at the new place before the old one is taken away, and back should it have to stay.
        let place = |object: &ObjectRef, version| ObjectRef { version, ..object.clone() };
        self.repin(inode, &info.etag, &place(to, committed.version.clone()), &committed.etag);
        if let Base::Object(earlier) = &replaced {
            // Since an earlier try they may read the copy that it had made.
            self.repin(inode, earlier, &place(to, committed.version.clone()), &committed.etag);
        }
        let deleted = match self.put_back(to, &destination.properties, tags.as_ref(), MadeBy::copy_of(info.size)).await {
            Ok(()) => self.delete_object(source.clone(), Some(info.etag.clone())).await,
            Err(error) => Err(error.into()),
        };
        if matches!(deleted, Ok(Gone::Before)) && was_free && is_first_try {
            // Who takes a name first has it: another client has moved it away, or removed it, before.
            self.take_copy_back(inode, to, committed.etag).await;
            self.note_vanished(inode);
            return Err(Error::new(Situation::NotFound, "another client has moved or removed it meanwhile"));
        }
        if let Err(NotDeleted { error, unanswered }) = deleted {
            if !unanswered {
                self.repin(inode, &committed.etag, &place(&source, info.version.clone()), &info.etag);
            } else if let Some(moving) = &mut inode.lock().moving {
                moving.made = Some((info.etag.clone(), place(to, committed.version.clone()), committed.etag.clone()));
            }
            if let Some(target) = target.filter(|_| !was_free) {
                // What was there is gone for good: the name has the copy now, also for whoever tries again.
                self.give_name_up(target);
            } else if was_free && !unanswered {
                // Nothing shall have happened. (Where the old object may be gone, or go yet, the copy is the only one.)
                self.take_copy_back(inode, to, committed.etag).await;
            }
            return Err(error);
        }
        let mut state = inode.lock();
        state.committed(copied_info(&info, committed, destination.properties));
        state.unsent = false;
        Ok(())
    }

    /// Removes the copy that a failed rename has made, unless it was changed already.
    async fn take_copy_back(&self, inode: &Inode<S>, copy: &ObjectRef, etag: ETag) {
        match self.delete_object(copy.clone(), Some(etag)).await {
            Ok(_) => inode.lock().moving = None,
            Err(NotDeleted { error, .. }) => {
                tracing::warn!(%copy, %error, "a copy that a failed rename has made could not be removed");
            }
        }
    }

    /// What the copy of `source` at `to` is made with, and the tags that are to be put back behind it.
    pub(super) async fn moved(
        &self,
        source: &ObjectRef,
        info: &ObjectInfo,
        to: &ObjectRef,
    ) -> Result<(Destination, Option<Tags>)> {
        let mut properties = self.kept(source, info, info.properties.clone(), TagsBy::of_copy(info.size)).await?;
        if source.bucket != to.bucket {
            // A lock is an agreement with its bucket: another one has rules of its own, and mostly takes no locks at all.
            properties.lock = ObjectLock::default();
        }
        // rsync and editors write under another name first.
        let content_type = &mut properties.headers.content_type;
        *content_type = guess::renamed(content_type.take(), source.key.as_str(), to.key.as_str());
        let tags = self.tags_to_put_back(source, info, &properties).await?;
        Ok((with_token(&Destination { bucket: to.bucket.clone(), key: to.key.clone(), properties }), tags))
    }

    /// What is replaced may be open: these are the bytes that its readers keep.
    async fn keep_readable(&self, target: &Arc<Inode<S>>) -> Result<Option<bytes::Bytes>> {
        let etag = target.lock().etag();
        match self.kept_for_readers(target, etag).await? {
            Kept::Nothing => Ok(None),
            Kept::Bytes(bytes) => Ok(Some(bytes)),
            Kept::Object => Err(Error::new(Situation::Busy, "the file to be replaced is large and being read")),
        }
    }

    fn note_moved(&self, inode: &Arc<Inode<S>>, target: Option<&Arc<Inode<S>>>, to: &Arc<Inode<S>>, shown: Shown) {
        let Shown { component, beside_directory } = shown;
        if let Some(target) = target {
            let mut state = target.lock();
            state.unlink();
            state.attr.nlink = 0;
            drop(state);
            self.table.unlink(to.ino, Role::Object, &component, target);
            self.table.release(target.ino);
        }
        let old = inode.place();
        let dirty = {
            let mut state = inode.lock();
            state.place = Place { parent: Some(Arc::clone(to)), component: component.clone() };
            state.beside_directory = beside_directory;
            state.moving = None;
            let dirty = state.is_dirty();
            let copy = state.info.as_ref().filter(|_| !dirty);
            let stored = copy.and_then(|info| posix::changed_at(&info.properties.metadata));
            state.attr.ctime = stored.unwrap_or_else(clock::now);
            dirty
        };
        if let Some(from) = &old.parent {
            self.table.relink((from.ino, &old.component), (to.ino, &component), inode);
            self.note_gone(from, Role::Object, old.component, false);
        }
        let mut state = to.lock();
        state.directory.edit(Role::Object, component, true, dirty, clock::instant());
        touch_directory(&mut state.attr, 0);
    }
}

/// Two gates held alone, taken in the order of the inode numbers, under the rename lock.
struct Gates<'a> {
    _first: tokio::sync::RwLockWriteGuard<'a, ()>,
    _second: Option<tokio::sync::RwLockWriteGuard<'a, ()>>,
}

impl<'a> Gates<'a> {
    async fn lock<S>(one: &'a Arc<Inode<S>>, other: Option<&'a Arc<Inode<S>>>) -> Self {
        let Some(other) = other else { return Self { _first: one.gate.write().await, _second: None } };
        let (first, second) = if one.ino < other.ino { (one, other) } else { (other, one) };
        Self { _first: first.gate.write().await, _second: Some(second.gate.write().await) }
    }
}
