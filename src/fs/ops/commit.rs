//! Commits: bringing what was written to the store, and what follows from it in the tree.

use std::sync::Arc;

use super::names::new_info;
use crate::base::clock;
use crate::fs::Fs;
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::posix;
use crate::fs::tree::inode::{Inode, Writing};
use crate::store::{Key, ObjectStore};

/// A file that the store does not have.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pending {
    /// Where, below the mount's root.
    pub path: String,
    /// Its bytes.
    pub bytes: u64,
    /// Why the last try failed.
    pub error: Option<String>,
}

impl<S: ObjectStore> Fs<S> {
    /// Brings an inode's new content to the store, if it has one.
    pub(in crate::fs) async fn commit(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let _alone = inode.gate.write().await;
        self.commit_alone(inode).await
    }

    /// As [`Fs::commit`], for a caller who holds the gate alone.
    pub(in crate::fs) async fn commit_alone(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let Some(writing) = inode.writing() else { return Ok(()) };
        let linked = inode.lock().linked;
        if !linked || !writing.writer.is_dirty() {
            return Ok(());
        }
        self.aim(inode, &writing)?;
        let done = writing.writer.commit(writing.base.clone(), writing.on_conflict).await;
        let done = done.map_err(|error| explain(error.into()));
        let done = done.inspect_err(|error| self.forget_if_stale(inode, error))?;
        let key = done.destination.key.as_str().to_owned();
        {
            let mut state = inode.lock();
            state.attr.size = done.size;
            state.committed(new_info(done.committed, done.size, done.destination.properties));
        }
        let place = inode.place();
        if let Some(parent) = place.parent {
            let mut state = parent.lock();
            state.directory.edit(inode.role(), place.component, true, false, clock::instant());
        }
        tracing::debug!(key, bytes = done.size, "committed");
        Ok(())
    }

    /// Points the writer at the present name with the present attributes.
    fn aim(&self, inode: &Arc<Inode<S>>, writing: &Writing<S>) -> Result<()> {
        let key = self.key_of(inode);
        if key.ends_with('/') && writing.writer.is_empty() {
            return Err(Error::new(Situation::Invalid, "an empty object of this name would be the directory's marker"));
        }
        let key = Key::new(key)?;
        let (attr, explicit) = {
            let state = inode.lock();
            (state.attr, state.explicit)
        };
        writing.writer.redirect(|destination| {
            destination.key = key;
            posix::encode(&self.config, inode.kind, &attr, explicit, &mut destination.properties.metadata);
        });
        Ok(())
    }

    /// Commits everything that is dirty; returns what could not be.
    pub async fn commit_all(&self) -> Vec<Pending> {
        for inode in self.table.all() {
            let dirty = inode.lock().is_dirty();
            if !dirty {
                continue;
            }
            let outcome = self.commit(&inode).await;
            let mut state = inode.lock();
            match outcome {
                Ok(()) if state.writers == 0 => {
                    state.content = crate::fs::tree::inode::Content::Clean(state.etag());
                }
                Ok(()) => {}
                Err(error) => state.last_error = Some(error.words().into()),
            }
        }
        self.pending()
    }

    /// The files that the store does not have.
    #[must_use]
    pub fn pending(&self) -> Vec<Pending> {
        let mut pending = Vec::new();
        for inode in self.table.all() {
            let (dirty, error) = {
                let state = inode.lock();
                (state.linked && state.is_dirty(), state.last_error.as_deref().map(str::to_owned))
            };
            if dirty {
                let bytes = inode.writing().map_or(0, |writing| writing.writer.len());
                pending.push(Pending { path: self.path_of(inode.ino), bytes, error });
            }
        }
        pending
    }
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
