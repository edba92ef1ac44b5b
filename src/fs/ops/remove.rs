//! Taking names away: unlink, rmdir, and what becomes of a file that is open meanwhile.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::clock;
use crate::data::write::commit::Base;
use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::name::Component;
use crate::fs::ops::names::touch_directory;
use crate::fs::tree::inode::{Content, Inode, Role};
use crate::store::{Condition, DeleteObject, Delimiter, ETag, ErrorKind, GetObject, ObjectStore};

/// A removed file that is still open is fetched up to this size, in bytes, so that its readers can go on; a larger one is
/// deleted when they are done.
const MAX_ORPHAN_BYTES: u64 = 64 << 20;

impl<S: ObjectStore> Fs<S> {
    /// Removes a file.
    ///
    /// # Errors
    /// [`Situation::NotFound`], [`Situation::IsDirectory`], [`Situation::Stale`] when another client has replaced it (the
    /// kernel looks again and repeats), and the store's failures.
    pub async fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        let directory = self.directory(parent)?;
        let inode = self.must_find(&directory, name).await?;
        if inode.is_directory() {
            return Err(Error::new(Situation::IsDirectory, "it is a directory: use rmdir"));
        }
        let _alone = inode.gate.write().await;
        self.remove_object(&inode).await.inspect_err(|error| self.forget_if_stale(&inode, error))?;
        self.note_removed(&directory, &inode);
        Ok(())
    }

    /// Deletes the object of an inode, or arranges that it is deleted at the last close. The caller holds the gate alone.
    async fn remove_object(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let (content, size, opens, versioned) = {
            let state = inode.lock();
            (state.content.clone(), state.attr.size, state.opens, state.version().is_some())
        };
        let etag = match content {
            // The store has nothing of it (but parts, which go when the handle is closed).
            Content::Writing(writing) => match writing.base {
                Base::Absent => return self.drop_unwritten(inode).await,
                Base::Object(etag) => Some(etag),
            },
            Content::Clean(etag) => {
                if opens > 0 && size > 0 && !versioned {
                    if size > MAX_ORPHAN_BYTES {
                        inode.lock().doomed = Some(etag);
                        return Ok(());
                    }
                    let bytes = self.fetch_whole(inode, etag.clone()).await?;
                    inode.lock().content = Content::Orphan(bytes);
                }
                etag
            }
            Content::Orphan(_) | Content::Directory => return Ok(()),
        };
        let deleted = self.delete_object(&self.key_of(inode), etag.clone()).await;
        if deleted.is_err() {
            let mut state = inode.lock();
            if matches!(state.content, Content::Orphan(_)) {
                state.content = Content::Clean(etag);
            }
        }
        deleted
    }

    async fn drop_unwritten(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let unused = inode.lock().opens == 0;
        if unused && let Some(writing) = inode.writing() {
            writing.writer.discard().await;
            inode.lock().content = Content::Orphan(Bytes::new());
        }
        Ok(())
    }

    /// DELETE on the condition that the object is the one with `etag`.
    pub(in crate::fs) async fn delete_object(&self, key: &str, etag: Option<ETag>) -> Result<()> {
        let condition = etag.map_or(Condition::None, Condition::IfMatch);
        let request = DeleteObject { object: self.object_ref(key)?, condition };
        let error = match self.store.delete(&request).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // What is not there any more is removed, by whomever: also by our own request whose answer was lost.
        let head = crate::store::HeadObject { object: request.object };
        match self.store.head(&head).await {
            Err(missing) if missing.kind() == ErrorKind::NotFound => Ok(()),
            _ => Err(error.into()),
        }
    }

    /// All bytes of an object, for readers that will outlive it.
    pub(in crate::fs) async fn fetch_whole(&self, inode: &Arc<Inode<S>>, etag: Option<ETag>) -> Result<Bytes> {
        let request = GetObject { object: self.object_ref(&self.key_of(inode))?, range: None, if_match: etag };
        Ok(self.store.get(&request).await?.body.collect().await?)
    }

    /// The name is gone: in the tree, in what is known of the directory, and the directory stays although it may be empty.
    pub(in crate::fs) fn note_removed(&self, directory: &Arc<Inode<S>>, inode: &Arc<Inode<S>>) {
        let component = inode.place().component;
        let doomed = {
            let mut state = inode.lock();
            state.linked = false;
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
        {
            let mut state = directory.lock();
            state.directory.edit(role, component, false, pinned, now);
            touch_directory(&mut state.attr);
        }
        // Without a marker it may be gone from every listing now, and those above it too, yet they stay until rmdir.
        let mut kept = Arc::clone(directory);
        loop {
            let marked = {
                let mut state = kept.lock();
                state.directory.keep();
                state.info.is_some()
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
        let deleted = self.delete_object(&self.key_of(inode), etag).await;
        if let Some(directory) = place.parent {
            self.table.unlink(directory.ino, Role::Object, &place.component, inode);
            directory.lock().directory.edit(Role::Object, place.component, false, false, clock::instant());
        }
        deleted
    }

    /// The name belongs to another creator now.
    pub(in crate::fs) fn give_name_up(&self, inode: &Arc<Inode<S>>) {
        let place = inode.place();
        inode.lock().linked = false;
        if let Some(directory) = place.parent {
            self.table.unlink(directory.ino, Role::Object, &place.component, inode);
            let mut state = directory.lock();
            state.directory.edit(Role::Object, place.component, true, false, clock::instant());
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
        let prefix = self.prefix_of(&inode);
        let not_empty = |what: &str| Error::new(Situation::NotEmpty, format!("the directory is not empty: it holds '{what}'"));
        let uncommitted =
            self.pending().into_iter().find(|pending| pending.path.starts_with(&format!("{}/", self.path_of(inode.ino))));
        if let Some(pending) = uncommitted {
            return Err(not_empty(&pending.path));
        }
        let keys = self.list_some(&prefix, Delimiter::None, 2).await?;
        let mut marker = None;
        for listed in keys {
            if listed.key != prefix || listed.size > 0 {
                return Err(not_empty(&listed.key));
            }
            marker = Some(listed);
        }
        if let Some(marker) = marker {
            self.delete_object(&prefix, marker.etag).await?;
        }
        inode.lock().directory = crate::fs::tree::directory::Directory::default();
        self.note_removed(&directory, &inode);
        Ok(())
    }
}
