//! What a new content begins with: the object that is changed, nothing where it is written whole, or what a removed file had.

use std::sync::Arc;

use bytes::Bytes;

use super::commit::MAX_APPENDS;
use super::open::{archived, replaced};
use crate::base::clock;
use crate::data::write::commit::{Base, OnConflict};
use crate::data::write::settle::{Source, look};
use crate::data::write::{Rebased, Writer};
use crate::fs::Fs;
use crate::fs::attr::Caller;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::posix;
use crate::fs::tree::inode::{Content, Inode, Writing};
use crate::store::{BucketService, ObjectInfo, ObjectRef, ObjectStore, Properties, RestoreState};

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Begins a new content of an existing file, with nothing in it; the old object stays until it is committed.
    pub(in crate::fs) async fn begin_whole(&self, inode: &Arc<Inode<S>>, caller: Caller) -> Result<()> {
        let _alone = inode.gate.write().await;
        let writing = inode.writing();
        match writing {
            Some(writing) => writing.writer.truncate(0).await?,
            None => self.begin_writing(inode, OnConflict::Replace).await?,
        }
        {
            let mut state = inode.lock();
            if let Content::Orphan(bytes) = &mut state.content {
                *bytes = Some(Bytes::new());
            }
            state.begin_anew();
            state.note_changed(0, caller);
        }
        self.dress(inode);
        Ok(())
    }

    /// Puts the inode's attributes into what the next upload of its content carries.
    pub(in crate::fs) fn dress(&self, inode: &Arc<Inode<S>>) {
        let (attr, explicit) = {
            let state = inode.lock();
            (state.attr, state.explicit)
        };
        if let Some(writing) = inode.writing() {
            writing.writer.redirect(|destination| {
                posix::encode(&self.config, inode.kind, &attr, explicit, &mut destination.properties.metadata);
            });
        }
    }

    /// Turns a clean file into one that is written: from its start (`OnConflict::Replace`), or as a change of what is there.
    /// The caller holds the gate alone.
    pub(in crate::fs) async fn begin_writing(&self, inode: &Arc<Inode<S>>, on_conflict: OnConflict) -> Result<()> {
        let (content, linked, attr) = {
            let state = inode.lock();
            (state.content.clone(), state.linked, state.attr)
        };
        // Others have replaced it: what is written here would belong to nothing.
        if !linked && attr.nlink > 0 {
            return Err(replaced());
        }
        let nameless = match content {
            Content::Clean(_) if !linked && attr.size == 0 => Some(Bytes::new()),
            Content::Clean(_) => None,
            Content::Orphan(Some(bytes)) => Some(bytes),
            Content::Orphan(None) => return Err(Error::new(Situation::Stale, "the file was removed")),
            Content::Writing(_) | Content::Directory => return Ok(()),
        };
        let address = self.locate(inode)?;
        if let Some(bytes) = nameless {
            // What has no name is written in memory only, and ends with its last handle.
            let writer = Writer::nameless(self.writes.clone(), address.destination(Properties::default())?, &bytes);
            inode.lock().content = Content::Writing(Writing::anew(writer, OnConflict::Fail));
            return Ok(());
        }
        let object = address.object()?;
        if !linked {
            // Its object is there until it is closed.
            let info = self.known_info(inode).await?;
            let (shared, destination) = (self.writes.clone(), address.destination(Properties::default())?);
            let writer = Writer::of_object(shared, destination, source_of(&object, &info));
            writer.stay();
            let base = Base::Object(info.etag.clone());
            inode.lock().content = Content::Writing(Writing { base, ..Writing::anew(writer, on_conflict) });
            return Ok(());
        }
        // No older than a second: under the same tag another client may have changed the metadata, and a PUT has no condition
        // that would tell.
        let info = self.current_info(inode).await?;
        self.must_be_as_shown(inode, &info)?;
        let whole = on_conflict == OnConflict::Replace;
        if !whole && !is_readable(&info) {
            return Err(archived(&object));
        }
        let asked = inode.lock().looked_at.unwrap_or_else(clock::instant);
        let known = self.known_of(&object, &info, asked).await?;
        let (shared, destination) = (self.writes.clone(), address.destination(known.properties.clone())?);
        let writer = match whole {
            true => Writer::new(shared, destination),
            false => Writer::of_object(shared, destination, source_of(&object, &info)),
        };
        let base = Base::Object(info.etag.clone());
        let mut state = inode.lock();
        if !state.linked {
            // While it was looked at somebody has looked its name up, and found what another client has put there.
            return Err(replaced());
        }
        state.content = Content::Writing(Writing { writer, base, on_conflict, known });
        Ok(())
    }

    /// Turns a file into one that is appended to, whatever other clients have made of it since it was opened. The caller holds
    /// the gate alone.
    pub(in crate::fs) async fn begin_appending(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let (address, linked) = (self.locate(inode)?, inode.lock().linked);
        if !linked {
            return Err(replaced());
        }
        let writer = Writer::new(self.writes.clone(), address.destination(Properties::default())?);
        let writing = self.appending_to_present(inode, &Writing::anew(writer, OnConflict::Stale)).await?;
        if writing.is_none() { Err(replaced()) } else { Ok(()) }
    }

    /// Lets `writing`, which was only appended to, go behind what its name has in the store now. `None` when what was appended
    /// is not at hand any more. The caller holds the gate alone.
    pub(super) async fn appending_to_present(&self, inode: &Arc<Inode<S>>, writing: &Writing<S>) -> Result<Option<Writing<S>>> {
        let object = self.locate(inode)?.object()?;
        let mut looks = 0;
        let (asked, info, writer) = loop {
            let asked = clock::instant();
            let info = look(&self.store, &object).await?;
            if info.as_ref().is_some_and(|info| !is_readable(info)) {
                return Err(archived(&object));
            }
            looks += 1;
            match writing.writer.append_to(info.as_ref().map(|info| source_of(&object, info))).await? {
                Rebased::Behind(writer) => break (asked, info, writer),
                Rebased::Moved if looks < MAX_APPENDS => {}
                Rebased::Moved | Rebased::Impossible => return Ok(None),
            }
        };
        let mut known = Arc::clone(&writing.known);
        if let Some(info) = &info {
            known = self.known_of(&object, info, asked).await?;
            writer.redirect(|destination| destination.properties.clone_from(&known.properties));
        }
        let mut state = inode.lock();
        if !state.linked {
            // Its name is another object's since.
            return Ok(None);
        }
        if let Some(info) = &info {
            let decoded = posix::decode(&self.config, info, false);
            state.mode_is_ours &= state.attr.mode == decoded.attr.mode;
            (state.attr.mode, state.attr.uid, state.attr.gid) = (decoded.attr.mode, decoded.attr.uid, decoded.attr.gid);
        }
        state.attr.size = writer.len();
        // The kernel drops what it has of the bytes before.
        state.attr.mtime = clock::now();
        let base = info.map_or(Base::Absent, |info| Base::Object(info.etag));
        let anew = Writing { base, known, writer, ..writing.clone() };
        state.content = Content::Writing(anew.clone());
        Ok(Some(anew))
    }
}

/// Whether the store gives the bytes out.
pub(in crate::fs) fn is_readable(info: &ObjectInfo) -> bool {
    !info.archived() || info.size == 0 || matches!(info.restore, Some(RestoreState::Until(_)))
}

/// The object at `object` as `info` has it, for those who copy or read it later. Where the bucket keeps versions, the bytes
/// stay to be had after a change.
pub(in crate::fs) fn source_of(object: &ObjectRef, info: &ObjectInfo) -> Source {
    let object = ObjectRef { version: info.version.clone(), ..object.clone() };
    Source { object, etag: info.etag.clone(), size: info.size, crc64nvme: info.crc64nvme() }
}
