//! The daemon's own attributes on the root: what `pailfs why`, `status` and `umount` ask and tell.

use std::sync::Arc;

use super::xattrs::{no_attribute, read_only};
use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::xattr::Control;
use crate::fs::tree::inode::Inode;
use crate::store::{BucketService, ObjectStore, Operation};

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

    /// The files of contents that could not be stored.
    fn kept_files(&self) -> Vec<String> {
        let entries = self.config.kept_directory.as_ref().and_then(|directory| std::fs::read_dir(directory).ok());
        let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        let mut kept: Vec<String> = paths
            .filter(|path| path.extension().is_none_or(|kind| kind != "json"))
            .map(|path| path.display().to_string())
            .collect();
        kept.sort();
        kept
    }

    /// Requests by kind, memory and what is pending, as one JSON object.
    fn status_text(&self) -> String {
        let names: Vec<String> = Operation::ALL.iter().map(ToString::to_string).collect();
        let (files, directories) = self.handles.count();
        let status = serde_json::json!({
            "source": self.config.source.to_string(),
            "memory": { "limit": self.budget.limit(), "used": self.budget.used() },
            "open": { "files": files, "directories": directories },
            "pending": self.pending(),
            "kept": self.kept_files(),
            "counters": self.counters.snapshot(&names),
        });
        status.to_string()
    }
}
