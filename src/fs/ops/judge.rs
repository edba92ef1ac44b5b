//! By which attributes an open is judged: those that the object itself carries, whatever a listing has said.

use std::sync::Arc;

use super::open::replaced;
use crate::base::clock;
use crate::data::write::settle::look;
use crate::fs::Fs;
use crate::fs::attr::{Attr, Caller, Kind};
use crate::fs::config::AttrsMode;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::handles::OpenMode;
use crate::fs::meta::posix;
use crate::fs::tree::inode::{Content, Inode};
use crate::store::{BucketService, ObjectInfo, ObjectStore};

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Looks at what is open for writing here, and was not written since the store had it: whoever opens it next shall have what
    /// others have put in its place.
    pub(super) async fn must_not_be_replaced(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let asked = clock::instant();
        let own = inode.lock().replaceable().cloned();
        let Some(own) = own else { return Ok(()) };
        // What is not there is stored all the same when it is written on.
        let Some(info) = look(&self.store, &self.locate(inode)?.object()?).await? else { return Ok(()) };
        let state = inode.lock();
        let newer_here = state.replaceable() != Some(&own) || state.committed_at.is_some_and(|at| at >= asked);
        if newer_here || info.etag == own { Ok(()) } else { Err(replaced()) }
    }

    /// Learns the attributes of a file of which only a listing is known, before it is opened for writing. Who changes bytes of
    /// what is there must have what is there now; an answer to a read would tell, too.
    pub(super) async fn know_attributes(&self, inode: &Arc<Inode<S>>, mode: OpenMode, caller: Caller) -> Result<()> {
        let (shown, exact, clean) = {
            let state = inode.lock();
            (state.attr, state.exact, matches!(state.content, Content::Clean(_)))
        };
        // The first write need not look again then.
        if clean && (!exact || !mode.read && !mode.truncate && !mode.append) {
            self.fresh_info(inode).await?;
        }
        self.judge(inode, shown, caller)
    }

    /// Whatever a listing said, an open is judged by the metadata that its own answer carries. The judge is the kernel: when mode
    /// or owner are not as it was `shown` them, it is sent to look again, and decides anew.
    pub(super) fn judge(&self, inode: &Inode<S>, shown: Attr, caller: Caller) -> Result<()> {
        let [before, now] = {
            let state = inode.lock();
            [shown, state.attr].map(|attr| posix::shown(&self.config, inode.kind, attr, state.mode_is_ours))
        };
        let same = (before.mode, before.uid, before.gid) == (now.mode, now.uid, now.gid);
        if same || caller.uid == 0 {
            return Ok(());
        }
        Err(Error::new(Situation::Stale, "mode and owner in the object's metadata are not what the listing let expect"))
    }

    /// Refuses to change what is shown as a file and is none: it would be one then, and no link, pipe or device any more.
    pub(super) fn must_be_as_shown(&self, inode: &Inode<S>, info: &ObjectInfo) -> Result<()> {
        if inode.kind != Kind::File || posix::kind(info) == Kind::File {
            return Ok(());
        }
        let words = if self.config.attrs == AttrsMode::Listing {
            "it is a symbolic link, a pipe or a device, which --attrs listing does not show: changed as a file it would be lost"
        } else {
            "it is a device of somebody else's, which shows only with --trust-special: changed as a file it would be lost"
        };
        Err(Error::new(Situation::Unsupported, words))
    }

    /// Tells the kernel when an open has found other attributes than were `shown`: whoever has just opened the file may ask for
    /// them, to copy them.
    pub(super) fn tell_what_is_other(&self, inode: &Inode<S>, shown: Attr, mode: OpenMode) {
        let attr = Attr { size: shown.size, atime: shown.atime, ..inode.lock().attr };
        // Of what the open itself has changed the kernel knows.
        let now = if mode.truncate { Attr { mtime: shown.mtime, ctime: shown.ctime, ..attr } } else { attr };
        if now != shown {
            self.attributes_changed(inode.ino);
        }
    }
}
