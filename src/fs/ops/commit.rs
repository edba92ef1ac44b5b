//! Commits: bringing what was written to the store, and what follows from it in the tree.

use std::sync::Arc;

use bytes::Bytes;

use super::marker::Announced;
use crate::base::clock;
use crate::data;
use crate::data::budget::Holder as _;
use crate::data::write::commit::{Base, OnConflict};
use crate::fs::Fs;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::tree::inode::{Content, Inode, Known, Writing};
use crate::fs::tree::moves::Access;
use crate::store::{BucketService, Committed, Facts, ObjectInfo, ObjectStore, Properties, Tags};

/// So often what was appended is appended anew, because others append at the same time.
pub(super) const MAX_APPENDS: u32 = 100;

/// A file that the store does not have.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pending {
    /// Where, below the mount's root.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// Seconds since it was last written or read.
    pub idle_s: u64,
    /// Why the last try failed.
    pub error: Option<String>,
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Brings an inode's new content to the store, if it has one.
    pub(in crate::fs) async fn commit(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let _alone = self.alone_to_commit(inode).await?;
        self.commit_alone(inode).await
    }

    /// As [`Fs::commit`], for a caller who holds the gate alone.
    pub(in crate::fs) async fn commit_alone(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let Some(writing) = inode.writing() else { return Ok(()) };
        let (linked, replaced, lost) = {
            let state = inode.lock();
            (state.linked, !state.linked && state.attr.nlink > 0, state.lost.clone())
        };
        if let Some(lost) = lost {
            return Err(lost);
        }
        if replaced && writing.writer.is_dirty() {
            // What is written is never given up in silence.
            let error = super::open::replaced();
            inode.lock().lost = Some(error.clone());
            return Err(error);
        }
        if !linked || !writing.writer.is_dirty() {
            return Ok(());
        }
        let begun = clock::instant();
        let mut writing = self.with_news(inode, writing).await?;
        self.aim(inode, &writing)?;
        let metadata = writing.writer.destination().properties.metadata;
        let (directory, size) = (inode.place().parent, writing.writer.len());
        self.announce(inode, Announced { directory, size, metadata: &metadata, begun: writing.known.at }).await;
        let mut tries = 0;
        let done = loop {
            if self.is_marker(inode, &writing)? {
                self.undo_emptying(inode, &writing).await;
                return Err(Error::new(Situation::Invalid, "an empty object of this name would be the directory's marker"));
            }
            self.aim(inode, &writing)?;
            let done = writing.writer.commit(writing.base.clone(), writing.on_conflict).await;
            let appended =
                writing.on_conflict == OnConflict::Stale && writing.writer.was_appended_only() && !writing.writer.is_untouched();
            if matches!(done, Err(data::Error::Stale)) && appended && tries < MAX_APPENDS {
                tries += 1;
                if let Some(anew) = self.appending_to_present(inode, &writing).await? {
                    writing = anew;
                    continue;
                }
            }
            break done;
        };
        if matches!(done, Err(data::Error::Stale)) && writing.on_conflict == OnConflict::Stale && writing.writer.is_untouched() {
            // Opened with O_CREAT and never written: the file that is there is as good.
            self.give_name_up(inode);
            inode.lock().content = Content::Orphan(Some(Bytes::new()));
            writing.writer.discard().await;
            return Ok(());
        }
        let to_others =
            writing.on_conflict != OnConflict::Replace && matches!(done, Err(data::Error::Exists | data::Error::Stale));
        let done = done.map_err(|error| explain(error.into()));
        let done = done.inspect_err(|error| {
            self.forget_if_stale(inode, error);
            if to_others {
                // At once: who opens the name from now on gets the other's file.
                inode.lock().lost = Some(error.clone());
                self.give_name_up(inode);
            }
        })?;
        let key = done.destination.key.as_str().to_owned();
        let sent = done.destination.properties.clone();
        {
            let mut state = inode.lock();
            state.attr.size = done.size;
            state.closing.saved();
            state.unsent = false;
            state.committed(new_info(done.committed, done.size, done.destination.properties));
            if let Content::Writing(Writing { known, on_conflict, .. }) = &mut state.content {
                *known = Arc::new(Known { properties: sent.clone(), at: begun, ..Known::clone(known) });
                // The name is won, and what was written whole is there: from now on it is changed as any other file.
                *on_conflict = OnConflict::Stale;
            }
        }
        if let Some(parent) = note_stored(inode) {
            self.table.release(parent.ino);
        }
        tracing::debug!(key, bytes = done.size, "committed");
        self.put_back(&self.locate(inode)?.object()?, &sent, None, done.by).await
    }

    /// Whether the object would be no file any more.
    fn is_marker(&self, inode: &Arc<Inode<S>>, writing: &Writing<S>) -> Result<bool> {
        Ok(self.locate(inode)?.key.ends_with('/') && writing.writer.is_empty())
    }

    /// The file is what the store has again: that it is empty can never be stored, and no byte is lost with that.
    async fn undo_emptying(&self, inode: &Arc<Inode<S>>, writing: &Writing<S>) {
        let Base::Object(etag) = &writing.base else { return };
        {
            let mut state = inode.lock();
            state.content = Content::Clean(Some(etag.clone()));
            state.attr.size = state.info.as_ref().map_or(state.attr.size, |info| info.size);
            state.closing.saved();
        }
        writing.writer.discard().await;
    }

    /// Points the writer at the present name with the present attributes.
    fn aim(&self, inode: &Arc<Inode<S>>, writing: &Writing<S>) -> Result<()> {
        let object = self.locate(inode)?.object()?;
        writing.writer.redirect(|destination| (destination.bucket, destination.key) = (object.bucket, object.key));
        self.dress(inode);
        Ok(())
    }

    /// Commits everything that is dirty; returns what could not be.
    pub async fn commit_all(&self) -> Vec<Pending> {
        for inode in self.table.all() {
            let owes = inode.lock().owes();
            if !owes {
                continue;
            }
            let _entered = self.moves.enter(&inode, Access::Change).await;
            let outcome = match self.commit(&inode).await {
                Ok(()) => self.send_unsent_of(&inode).await,
                failed => failed,
            };
            let ended = self.end_writing(&inode).await;
            if let Err(error) = outcome.and(ended) {
                inode.lock().last_error = Some(error.words().into());
            }
        }
        self.writes.abort_leftovers().await;
        self.pending()
    }

    /// The end of the mount, with files that are still open: commits everything, and deletes what waits for its last close.
    pub async fn finish(&self) -> Vec<Pending> {
        let pending = self.commit_all().await;
        for inode in self.table.all() {
            let _entered = self.moves.enter(&inode, Access::Change).await;
            inode.lock().opens = 0;
            if let Err(error) = self.remove_if_doomed(&inode).await {
                tracing::error!(path = self.path_of(inode.ino), %error, "a removed file could not be deleted");
            }
        }
        pending
    }

    /// Lets go of a content that the store has, or that nobody can want any more.
    pub(in crate::fs) async fn end_writing(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let _alone = inode.gate.write().await;
        self.end_writing_alone(inode).await
    }

    /// As [`Fs::end_writing`], for a caller who holds the gate alone.
    pub(in crate::fs) async fn end_writing_alone(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let (writing, linked, lost) = {
            let state = inode.lock();
            if state.writers > 0 {
                return Ok(());
            }
            let Content::Writing(writing) = &state.content else { return Ok(()) };
            (writing.clone(), state.linked, state.lost.clone())
        };
        if linked {
            let mut state = inode.lock();
            if !writing.writer.is_dirty() {
                state.content = Content::Clean(state.etag());
            }
            return Ok(());
        }
        // Removed while it was open, or the name is another creator's: readers keep what is in memory.
        let readable = writing.writer.try_read(0, u64::MAX);
        let told = match lost {
            None => Ok(()),
            Some(lost) => match self.keep(inode, &writing, lost.words()).await {
                Ok(kept) => Err(Error::new(lost.situation(), format!("{}; {kept}", lost.words()))),
                Err(error) => {
                    tracing::error!(path = self.path_of(inode.ino), %error, "what the loser of a name has written cannot be kept");
                    Err(Error::new(lost.situation(), format!("{}; what was written cannot be kept ({error})", lost.words())))
                }
            },
        };
        inode.lock().content = Content::Orphan(readable);
        writing.writer.discard().await;
        told
    }

    /// Writes a content that cannot be stored to the local disk, and gives it up; says where it is.
    async fn keep(&self, inode: &Arc<Inode<S>>, writing: &Writing<S>, why: &str) -> std::io::Result<String> {
        let directory = self.config.kept_directory.as_deref();
        let directory = directory.ok_or_else(|| std::io::Error::other("there is no directory to keep it in"))?;
        let kept = writing.writer.keep(directory, &self.path_of(inode.ino), why).await?;
        let place = kept.place.display();
        let said = match kept.missing_bytes {
            0 => format!("what was written is kept in '{place}'"),
            missing => {
                format!("what was written is kept in '{place}', but for {missing} bytes: the note beside it says which")
            }
        };
        tracing::error!(path = self.path_of(inode.ino), said, why, "not stored");
        Ok(said)
    }

    /// Keeps everything that is dirty on the local disk, because the mount ends. Returns what could not be kept either.
    pub async fn keep_all(&self) -> Vec<Pending> {
        for inode in self.table.all() {
            let _entered = self.moves.enter(&inode, Access::Change).await;
            let _alone = inode.gate.write().await;
            let Some(writing) = inode.writing().filter(|writing| writing.writer.is_dirty()) else { continue };
            let (linked, why) = {
                let state = inode.lock();
                (state.linked, state.last_error.as_deref().unwrap_or("the mount ended").to_owned())
            };
            if linked && self.keep(&inode, &writing, &why).await.is_ok() {
                self.note_vanished(&inode);
                inode.lock().content = Content::Orphan(None);
            }
        }
        self.pending()
    }

    /// The files that the store does not have.
    #[must_use]
    pub fn pending(&self) -> Vec<Pending> {
        let mut pending = Vec::new();
        for inode in self.table.all() {
            let (owes, error) = {
                let state = inode.lock();
                (state.linked && state.owes(), state.last_error.as_deref().map(str::to_owned))
            };
            if owes {
                let writing = inode.writing();
                let bytes = writing.as_ref().map_or(0, |writing| writing.writer.len());
                let idle = writing.map(|writing| clock::instant().saturating_duration_since(writing.writer.used_at()));
                let idle_s = idle.unwrap_or_default().as_secs();
                pending.push(Pending { path: self.path_of(inode.ino), bytes, idle_s, error });
            }
        }
        pending
    }
}

/// Notes in the directory that the object was made or changed here just now: an answer about it that was asked for before is
/// older, also when the kernel has forgotten the inode meanwhile. Returns the directory.
pub(super) fn note_stored<S: Clone>(inode: &Inode<S>) -> Option<Arc<Inode<S>>> {
    let place = inode.place();
    let parent = place.parent?;
    parent.lock().directory.edit(inode.role(), place.component, true, false, clock::instant());
    Some(parent)
}

/// What a request that made an object tells about it.
pub(in crate::fs) fn new_info(committed: Committed, size: u64, properties: Properties) -> ObjectInfo {
    let tags = properties.tags.as_ref().map_or(0, Tags::len);
    let locked = properties.lock.to_facts();
    ObjectInfo {
        size,
        etag: committed.etag,
        last_modified: committed.at.unwrap_or_else(clock::now),
        as_of: None,
        version: committed.version,
        // As HEAD tells them.
        properties: Properties { tags: None, acl: None, ..properties },
        archive_status: None,
        facts: Facts { tag_count: u32::try_from(tags).unwrap_or(u32::MAX), others: locked },
        restore: None,
        checksums: committed.crc64nvme.map(|sum| ("crc64nvme".to_owned(), sum.to_string())).into_iter().collect(),
    }
}

/// As [`new_info`], of a copy: what is known of its source holds for it, too.
pub(in crate::fs) fn copied_info(source: &ObjectInfo, committed: Committed, properties: Properties) -> ObjectInfo {
    let sent_tags = properties.tags.is_some();
    let made = new_info(committed, source.size, properties);
    let mut facts = source.facts.clone();
    if sent_tags {
        facts.tag_count = made.facts.tag_count;
    }
    // A retention that is over has not gone along.
    facts.others.retain(|name, _| !name.starts_with("lock."));
    facts.others.extend(made.facts.others.clone());
    ObjectInfo { checksums: source.checksums.clone(), facts, ..made }
}

/// Says what the loser of a race may want to know.
fn explain(error: Error) -> Error {
    match error.situation() {
        Situation::Exists => {
            Error::new(Situation::Exists, "another client has created the object since this file was created with O_EXCL")
        }
        _ => error,
    }
}
