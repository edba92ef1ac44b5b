//! What is written and not claimed by a close or an fsync: a log that is kept open, a mapping that outlives its descriptor.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use crate::fs::Fs;
use crate::fs::attr::Ino;
use crate::fs::error::Error;
use crate::fs::tree::inode::Inode;
use crate::fs::tree::moves::Access;
use crate::store::{BucketService, ObjectStore};

/// So many files are brought to the store at once.
const FILES_AT_ONCE: usize = 8;

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Brings to the store what nobody has written to for `age`, once; returns what could not be. That is not tried again
    /// before it is written to: its close does, or the end of the mount.
    pub async fn commit_unclaimed(&self, age: Duration) -> Vec<(Ino, Error)> {
        let is_old = |inode: &Arc<Inode<S>>| {
            let named = {
                let state = inode.lock();
                state.linked && state.lost.is_none()
            };
            named && inode.writing().is_some_and(|writing| writing.writer.claim(age))
        };
        let old = self.handles.written().into_iter().filter(is_old);
        let committed = futures_util::stream::iter(old).map(async |inode| {
            let _entered = self.moves.enter(&inode, Access::Change).await;
            (inode.ino, self.commit(&inode).await)
        });
        let failed =
            committed.buffer_unordered(FILES_AT_ONCE).filter_map(async |(ino, done)| done.err().map(|error| (ino, error)));
        failed.collect().await
    }
}
