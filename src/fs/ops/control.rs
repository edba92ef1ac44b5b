//! The daemon's own attributes on the root: what `pailfs why`, `status` and `umount` ask and tell.

use std::sync::Arc;

use super::xattrs::{no_attribute, read_only};
use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::xattr::Control;
use crate::fs::tree::inode::Inode;
use crate::store::{BucketService, ObjectStore};

impl<S: ObjectStore + BucketService> Fs<S> {
    fn may_control(&self, inode: &Arc<Inode<S>>, caller: Caller) -> Result<()> {
        if caller.uid != 0 && caller.uid != self.config.owner_uid {
            return Err(Error::new(Situation::NotPermitted, "only root and the user who mounted may ask the daemon"));
        }
        if inode.ino == Ino::ROOT { Ok(()) } else { Err(no_attribute()) }
    }

    pub(super) fn get_control(&self, inode: &Arc<Inode<S>>, control: Control, caller: Caller) -> Result<String> {
        self.may_control(inode, caller)?;
        match control {
            Control::Failures => Ok(self.failures.to_lines()),
            Control::Status => Ok(self.status_text()),
            Control::Pending => {
                let lines = self.pending().into_iter().map(|pending| serde_json::to_string(&pending).unwrap_or_default());
                Ok(lines.collect::<Vec<_>>().join("\n"))
            }
            Control::Pid => Ok(std::process::id().to_string()),
            Control::Sync | Control::Keep | Control::Restore => Err(no_attribute()),
        }
    }

    pub(super) async fn set_control(&self, inode: &Arc<Inode<S>>, control: Control, value: &[u8], caller: Caller) -> Result<()> {
        self.may_control(inode, caller)?;
        let left = match control {
            Control::Sync => self.commit_all().await,
            Control::Keep => self.keep_all().await,
            Control::Restore => return self.restore_by_number(value).await,
            _ => return Err(read_only()),
        };
        match left.first() {
            None => Ok(()),
            Some(pending) => {
                let why = pending.error.clone().unwrap_or_else(|| "it is still being written".to_owned());
                Err(Error::new(Situation::Io, format!("'{}' could not be uploaded: {why}", pending.path)))
            }
        }
    }
}
