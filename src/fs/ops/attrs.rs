//! Attributes: getattr, setattr, readlink, statfs, and the one way in which an object's properties are changed.

use std::sync::Arc;
use std::time::SystemTime;

use super::ahead::Wanted;
use super::begin::source_of;
use super::commit::{copied_info, note_stored};
use super::files::MAX_COMMITS_FIRST;
use super::keeping::TagsBy;
use super::marker::Announced;
use crate::base::clock;
use crate::data;
use crate::data::write::Destination;
use crate::data::write::commit::{Base, MadeBy, OnConflict, with_token};
use crate::data::write::settle::{Source, replace_properties};
use crate::fs::attr::{Attr, Caller, Ino, Kind, SetAttr, SetTime, without_privileges};
use crate::fs::config::{AttrsMode, Config};
use crate::fs::error::{Error, Result, Situation};
use crate::fs::handles::HandleId;
use crate::fs::meta::posix::{self, ExplicitTimes};
use crate::fs::tree::inode::{Content, Inode, Writing};
use crate::fs::tree::moves::Access;
use crate::fs::{Fs, Stat};
use crate::store::{BucketService, ETag, ObjectInfo, ObjectRef, ObjectStore, Properties, RestoreState};

/// So often a change of properties is begun anew when other clients change the object meanwhile.
pub(super) const MAX_CONFLICTS: usize = 8;

/// What statfs says: S3 has no bounds, so a large round number of each.
#[derive(Debug, Clone, Copy)]
pub struct SpaceInfo {
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Blocks in all, and free.
    pub blocks: u64,
    /// Files in all, and free.
    pub files: u64,
    /// The longest new name in bytes.
    pub name_bytes: u32,
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// What stat shows.
    ///
    /// # Errors
    /// [`Situation::Stale`] for a number that was forgotten.
    pub async fn getattr(&self, ino: Ino) -> Result<Stat> {
        let inode = self.inode(ino)?;
        let _entered = self.moves.enter(&inode, Access::Look).await;
        if self.wants_metadata(&inode) && inode.is_directory() {
            // What cannot be asked for stays as it is.
            let _ = self.look_at_root(&inode).await;
        } else if self.wants_metadata(&inode) {
            let unknown = inode.lock().info.is_none();
            // What cannot be asked for stays as the listing said.
            let _ = if unknown { self.info_in_walk(&inode, Wanted::Attributes).await } else { self.fresh_info(&inode).await };
        }
        Ok(self.stat(&inode))
    }

    /// What stat shows, when nothing must be asked: for the FUSE thread.
    #[must_use]
    pub fn getattr_now(&self, ino: Ino) -> Option<Stat> {
        let inode = self.table.get(ino)?;
        (!self.wants_metadata(&inode)).then(|| self.stat(&inode))
    }

    /// Whether the attributes shown are only a listing's, where the metadata may say otherwise.
    fn wants_metadata(&self, inode: &Arc<Inode<S>>) -> bool {
        let (exact, parent, modified, looked_at) = {
            let state = inode.lock();
            let exact = state.exact || !matches!(state.content, Content::Clean(_));
            (exact, state.place.parent.clone(), state.attr.mtime, state.looked_at)
        };
        if inode.is_directory() {
            // No lookup leads to the root: nobody else looks at its marker.
            let is_new_root = inode.ino == Ino::ROOT && looked_at.is_none();
            return is_new_root && self.config.attrs != AttrsMode::Listing && self.has_marker(inode);
        }
        if exact {
            return false;
        }
        match self.config.attrs {
            AttrsMode::Listing => false,
            AttrsMode::Posix => true,
            // Of what only a listing is known its date is the modification time.
            AttrsMode::Auto => parent.is_some_and(|parent| parent.lock().directory.since.covers(modified)),
        }
    }

    /// Changes length and attributes: with the pending upload where there is one, else by one conditional self-copy.
    ///
    /// # Errors
    /// [`Situation::ReadOnly`], [`Situation::Archived`], [`Situation::Stale`], [`Situation::TooLarge`], and the store's
    /// failures.
    pub async fn setattr(&self, ino: Ino, change: SetAttr, caller: Caller) -> Result<Stat> {
        self.writable()?;
        let mut inode = self.inode(ino)?;
        let _entered = self.moves.enter(&inode, Access::Change).await;
        let mut left = MAX_CONFLICTS;
        loop {
            // In a box: it is large, and the stack of a debug build is not.
            let stale = match Box::pin(self.change(&inode, change, caller)).await {
                // The number is the one that the kernel knows.
                Ok(()) => return Ok(Stat { ino, ..self.stat(&inode) }),
                Err(error) if error.situation() == Situation::Stale => error,
                Err(error) => return Err(error),
            };
            // Whose the file is has decided whether it may be changed.
            match self.successor(&inode, &stale, |old, new| old.uid == new.uid).await {
                Some(next) if left > 0 && change.size.is_none() => inode = next,
                _ => return Err(stale),
            }
            left -= 1;
        }
    }

    async fn change(&self, inode: &Arc<Inode<S>>, change: SetAttr, caller: Caller) -> Result<()> {
        if let Some(size) = change.size {
            self.truncate(inode, size, change.through, caller).await?;
        }
        if !change.changes_attributes() {
            return Ok(());
        }
        if !inode.is_directory() {
            self.setter.note(caller.tid);
        }
        self.change_attributes(inode, change).await
    }

    /// Cuts or extends a file. When nobody has it open for writing, it is in the store when this returns.
    /// Also while somebody has, and has nothing to store: his release may come late.
    pub(in crate::fs) async fn truncate(
        &self,
        inode: &Arc<Inode<S>>,
        size: u64,
        through: Option<HandleId>,
        caller: Caller,
    ) -> Result<()> {
        if inode.is_directory() {
            return Err(Error::new(Situation::IsDirectory, "a directory has no length"));
        }
        let _alone = self.alone_to_change(inode).await?;
        let (clean, attr, explicit, unsaved) = {
            let state = inode.lock();
            let clean = match &state.content {
                Content::Clean(etag) => Some(etag.clone()),
                Content::Writing(Writing { writer, base: Base::Object(etag), .. }) if !writer.is_dirty() => {
                    Some(Some(etag.clone()))
                }
                _ => None,
            };
            (clean, state.attr, state.explicit, state.closing.has_unsaved())
        };
        let mut done = self.truncate_alone(inode, size, through).await;
        let (nobody_stores_it, loses_privileges) = {
            let mut state = inode.lock();
            if done.is_ok() {
                state.note_changed(size, caller);
                if state.is_dirty() {
                    state.closing.changed(through);
                }
            }
            (state.open_writers() == 0 || through.is_none() && !unsaved, state.attr.mode != attr.mode)
        };
        if loses_privileges {
            // The answer to fallocate does not tell.
            self.attributes_changed(inode.ino);
        }
        if !nobody_stores_it {
            return done;
        }
        if done.is_ok() {
            // No close will come to commit it.
            done = self.commit_alone(inode).await;
        }
        if done.is_err()
            && let (Some(etag), Some(writing)) = (clean, inode.writing())
        {
            // What the caller was told has failed must not happen later.
            {
                let mut state = inode.lock();
                state.content = Content::Clean(etag);
                (state.attr, state.explicit) = (attr, explicit);
            }
            writing.writer.discard().await;
        }
        let ended = self.end_writing_alone(inode).await;
        done.and(ended)
    }

    async fn truncate_alone(&self, inode: &Arc<Inode<S>>, size: u64, through: Option<HandleId>) -> Result<()> {
        let (is_same, is_writing, is_dirty, is_removed) = {
            let state = inode.lock();
            (size == state.attr.size, state.is_writing(), state.is_dirty(), state.attr.nlink == 0)
        };
        if is_same && (!is_writing || through.is_none() && !is_dirty) {
            if !is_removed {
                // Nothing is sent whose condition would tell: what is there now may have another length.
                self.fresh_info(inode).await?;
            }
            if !is_writing {
                return Ok(());
            }
        }
        // Emptied, it is written whole; else it is changed.
        let on_conflict = if size == 0 { OnConflict::Replace } else { OnConflict::Stale };
        for _ in 0..MAX_COMMITS_FIRST {
            self.begin_writing(inode, on_conflict).await?;
            // A commit may have brought another writer.
            let Some(writing) = inode.writing() else { break };
            match writing.writer.truncate(size).await {
                Err(data::Error::CommitFirst) => self.commit_alone(inode).await?,
                cut => {
                    cut?;
                    if size == 0 {
                        inode.lock().begin_anew();
                    }
                    self.dress(inode);
                    return Ok(());
                }
            }
        }
        Err(data::Error::CommitFirst.into())
    }

    async fn change_attributes(&self, inode: &Arc<Inode<S>>, change: SetAttr) -> Result<()> {
        let _alone = self.alone_to_change(inode).await?;
        if inode.is_directory() {
            self.look_at_present_marker(inode).await?;
        } else if matches!(inode.lock().content, Content::Clean(_)) {
            // The metadata that is not known yet must not be overwritten by what a listing guessed.
            let known = {
                let state = inode.lock();
                state.exact && state.info.is_some()
            };
            if !known {
                self.known_info(inode).await?;
            }
        }
        if is_nothing(&self.config, inode, change) {
            // No older than a second: what another client has changed meanwhile must not count as done.
            let stored = {
                let state = inode.lock();
                matches!(state.content, Content::Clean(_)) || state.linked && state.is_writing() && !state.is_dirty()
            };
            if stored {
                self.current_info(inode).await?;
            }
            if is_nothing(&self.config, inode, change) {
                // `chmod 644` of what has that mode costs no copy.
                inode.lock().attr.ctime = clock::now();
                return Ok(());
            }
        }
        let kind = inode.kind;
        let now = clock::now();
        if self.is_about_to_be_renamed(inode) {
            let (attr, explicit) = wanted(inode, change, now);
            {
                let mut state = inode.lock();
                (state.attr, state.explicit) = (attr, explicit);
                state.mode_is_ours |= change.mode.is_some();
            }
            self.dress(inode);
            self.let_wait(inode);
            return Ok(());
        }
        let (first, pending) = (wanted(inode, change, now), inode.lock().is_dirty());
        // Of a stored object anew each time: what is known of it may have changed since. (A pending upload is locked here.)
        let apply = |properties: &mut Properties, _: Option<&ObjectInfo>| {
            let (attr, explicit) = if pending { first } else { wanted(inode, change, now) };
            posix::encode(&self.config, kind, &attr, explicit, &mut properties.metadata);
        };
        self.update_alone(inode, apply).await?;
        let (attr, explicit) = wanted(inode, change, now);
        let mut state = inode.lock();
        state.attr = Attr { size: state.attr.size, nlink: state.attr.nlink, ..attr };
        state.explicit = explicit;
        state.mode_is_ours |= change.mode.is_some();
        Ok(())
    }

    /// Changes the properties of an inode's object; the bytes stay, and the times of the file.
    pub(in crate::fs) async fn update(&self, inode: &Arc<Inode<S>>, apply: impl Fn(&mut Properties) + Sync) -> Result<()> {
        let _alone = self.alone_to_change(inode).await?;
        let apply = |properties: &mut Properties, stored: Option<&ObjectInfo>| {
            apply(properties);
            if let Some(stored) = stored {
                self.keep_time(Some(inode), stored, &mut properties.metadata);
            }
        };
        self.update_alone(inode, apply).await.inspect_err(|error| self.forget_if_stale(inode, error))
    }

    /// As [`Fs::update`], for a caller who holds the gate alone. `apply` is told what is stored, unless it changes what is yet to
    /// be.
    pub(super) async fn update_alone(
        &self,
        inode: &Arc<Inode<S>>,
        apply: impl Fn(&mut Properties, Option<&ObjectInfo>) + Send,
    ) -> Result<()> {
        let lost = inode.lock().lost.clone();
        if let Some(lost) = lost {
            return Err(lost.in_situation(Situation::Stale));
        }
        if let Some(writing) = inode.writing()
            && writing.writer.is_dirty()
        {
            writing.writer.redirect(|destination| apply(&mut destination.properties, None));
            inode.lock().attr.ctime = clock::now();
            return Ok(());
        }
        let (gone, removed) = {
            let state = inode.lock();
            (!state.linked || matches!(state.content, Content::Orphan(_)), state.opens > 0 && state.attr.nlink == 0)
        };
        match (gone, removed) {
            (false, _) => {}
            // The name is another object's now: the kernel looks it up anew.
            (true, false) => return Err(Error::new(Situation::Stale, "the file has no name any more")),
            (true, true) => return Ok(()),
        }
        if inode.is_directory() {
            return self.update_marker(inode, apply).await;
        }
        // What is known may be old: the copy asks that the object was not written since, and then it is looked at again.
        let mut info = self.known_info(inode).await?;
        for _ in 0..MAX_CONFLICTS {
            match self.update_object(inode, &info, &apply).await {
                Err(error) if error.situation() == Situation::Stale => info = self.fresh_info(inode).await?,
                done => return done,
            }
        }
        Err(Error::new(Situation::Busy, "other clients change the object all the time"))
    }

    /// Changes the properties of the object that `info` describes.
    async fn update_object(
        &self,
        inode: &Arc<Inode<S>>,
        info: &ObjectInfo,
        apply: &(impl Fn(&mut Properties, Option<&ObjectInfo>) + Send),
    ) -> Result<()> {
        self.must_be_as_shown(inode, info)?;
        let (mut properties, now) = (info.properties.clone(), clock::now());
        posix::note_change(&mut properties.metadata, now);
        self.with_unsent(inode, &mut properties.metadata);
        apply(&mut properties, Some(info));
        let leaves = properties.storage_class != info.properties.storage_class;
        let readable = is_restored(info);
        if info.archived() && !(leaves && readable) {
            let words = if readable {
                "the metadata of a restored object cannot be changed in the archive: move it to another class first, with setfattr -n user.s3.storage-class -v STANDARD FILE"
            } else if leaves {
                "an archived object cannot be moved to another class before it is restored: setfattr -n user.s3.restore -v 5 FILE"
            } else {
                "the metadata of an archived object cannot be changed: S3 would have to copy it. Restore it (user.s3.restore), then move it to another class (user.s3.storage-class)"
            };
            return Err(Error::new(Situation::Archived, words));
        }
        let directory = inode.place().parent;
        let announced = Announced { directory, size: info.size, metadata: &properties.metadata, begun: clock::instant() };
        self.announce(inode, announced).await;
        let object = self.locate(inode)?.object()?;
        let old = info.etag.clone();
        let (info, put_back) = self.replace(object.clone(), info, properties).await?;
        let (version, etag) = (info.version.clone(), info.etag.clone());
        if let Some(writing) = inode.writing() {
            writing.writer.redirect(|destination| {
                // Tags and list are the object's still: the next upload carries them.
                let Properties { tags, acl, .. } = std::mem::take(&mut destination.properties);
                destination.properties = Properties { tags, acl, ..info.properties.clone() };
            });
        }
        note_made(inode, info);
        inode.lock().unsent = false;
        self.repin(inode, &old, &ObjectRef { version, ..object }, &etag);
        put_back
    }

    /// Lets those who read the object `old` of an inode go on with what this mount has made of it, or where: the bytes are the
    /// same. Who reads what was there before has other bytes.
    pub(in crate::fs) fn repin(&self, inode: &Arc<Inode<S>>, old: &ETag, object: &ObjectRef, etag: &ETag) {
        let readers = inode.lock().readers();
        for reader in readers.into_iter().filter(|reader| reader.is_of(old)) {
            reader.repin(object.clone(), etag.clone());
        }
        if let Some(writing) = inode.writing() {
            writing.writer.repin(old, object, etag);
        }
    }

    /// What the object is then; the second result is that of putting back what the store has dropped.
    async fn replace(&self, object: ObjectRef, info: &ObjectInfo, properties: Properties) -> Result<(ObjectInfo, Result<()>)> {
        let bucket = object.bucket.clone();
        let properties = self.kept(&object, info, properties, TagsBy::of_copy(info.size)).await?;
        let tags = self.tags_to_put_back(&object, info, &properties).await?;
        let destination = with_token(&Destination { bucket, key: object.key.clone(), properties });
        let sent = destination.properties.clone();
        let source = Source { object: object.clone(), ..source_of(&object, info) };
        let committed = replace_properties(&self.store, source, info.last_modified, destination.properties).await?;
        let put_back = self.put_back(&object, &sent, tags.as_ref(), MadeBy::copy_of(info.size)).await;
        Ok((copied_info(info, committed, sent), put_back))
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// [`Situation::Invalid`] for anything but a link, and the store's failures.
    pub async fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        let _entered = self.moves.enter(&inode, Access::Look).await;
        if inode.kind != Kind::Symlink {
            return Err(Error::new(Situation::Invalid, "it is not a symbolic link"));
        }
        let known = inode.lock().target.clone();
        if let Some(target) = known {
            return Ok(target.as_bytes().to_vec());
        }
        let info = self.known_info(&inode).await?;
        if let Some(target) = posix::target(&info.properties.metadata) {
            return Ok(target.into_owned().into_bytes());
        }
        // s3fs keeps the target as the object's content.
        let target = self.fetch_whole(&inode, Some(info.etag.clone())).await?;
        Ok(target.to_vec())
    }

    /// What statfs says.
    #[must_use]
    pub fn statfs(&self) -> SpaceInfo {
        let name_bytes = u32::try_from(crate::fs::name::MAX_NEW_BYTES).unwrap_or(u32::MAX);
        // 1 EiB in blocks of 4 KiB.
        SpaceInfo { block_bytes: 4096, blocks: 1 << 48, files: 1 << 40, name_bytes }
    }
}

/// Whether an archived object has a copy that can be read now.
pub(super) fn is_restored(info: &ObjectInfo) -> bool {
    matches!(info.restore, Some(RestoreState::Until(until)) if until > clock::now())
}

/// The attributes that an inode gets by a change.
fn wanted<S: ObjectStore>(inode: &Inode<S>, change: SetAttr, now: SystemTime) -> (Attr, ExplicitTimes) {
    let state = inode.lock();
    let (attr, mut explicit) = changed(inode.kind, state.attr, state.explicit, (change, now));
    // Without a stored mtime the last-modified date is shown: a self-copy for another reason must not move it.
    explicit.mtime |= change.mtime.is_none() && !state.is_dirty();
    (attr, explicit)
}

/// Whether a change leaves everything as it is. (A mode with bits that are not shown, since others have set them, becomes ours.)
fn is_nothing<S: ObjectStore>(config: &Config, inode: &Inode<S>, change: SetAttr) -> bool {
    let attr = wanted(inode, change, clock::now()).0;
    let state = inode.lock();
    let same = (attr.mode, attr.uid, attr.gid) == (state.attr.mode, state.attr.uid, state.attr.gid);
    let mode = |is_ours| posix::shown(config, inode.kind, state.attr, is_ours).mode;
    let shows = change.mode.is_none() || mode(state.mode_is_ours) == mode(true);
    same && shows && change.mtime.is_none() && change.atime.is_none() && !state.is_dirty()
}

/// What is known of an inode after this mount has changed its metadata.
pub(super) fn note_made<S: Clone>(inode: &Inode<S>, info: ObjectInfo) {
    {
        let mut state = inode.lock();
        state.attr.ctime = posix::changed_at(&info.properties.metadata).unwrap_or_else(clock::now);
        state.committed(info);
    }
    note_stored(inode);
}

/// The attributes after a change. chown clears setuid and setgid of what is no directory.
fn changed(
    kind: Kind,
    mut attr: Attr,
    mut explicit: ExplicitTimes,
    (change, now): (SetAttr, SystemTime),
) -> (Attr, ExplicitTimes) {
    if kind != Kind::Directory && (change.uid.is_some() || change.gid.is_some()) {
        attr.mode = without_privileges(attr.mode);
    }
    attr.mode = change.mode.map_or(attr.mode, |mode| mode & 0o7777);
    attr.uid = change.uid.unwrap_or(attr.uid);
    attr.gid = change.gid.unwrap_or(attr.gid);
    let set = |time: &mut SystemTime, stored: &mut bool, change: Option<SetTime>| match change {
        None => {}
        Some(SetTime::Now) => (*time, *stored) = (now, false),
        Some(SetTime::At(at)) => (*time, *stored) = (at, true),
    };
    set(&mut attr.mtime, &mut explicit.mtime, change.mtime);
    set(&mut attr.atime, &mut explicit.atime, change.atime);
    attr.ctime = now;
    (attr, explicit)
}
