//! Attributes of a file that is about to get its real name: they go to the store with the rename.
//!
//! rsync writes a file under a dot, its name, a dot and six random characters, closes it, sets owner, times and mode by a call
//! each, then renames it. A self-copy for each call would double what a file costs, and nobody looks for an object of that name.
//! So on such a name, and only while the file is new, what is set waits here for a moment, and nobody asks whether another client
//! has made something else of it; the bytes do not wait, they are in the store when close returns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::clock;
use crate::fs::Fs;
use crate::fs::attr::{Ino, Kind};
use crate::fs::error::{Error, Result, Situation};
use crate::fs::meta::posix;
use crate::fs::tree::inode::{Inode, State};
use crate::fs::tree::moves::Access;
use crate::store::{BucketService, Metadata, ObjectStore};

/// The rename comes within this time, or the attributes are sent without it.
const WAIT: Duration = Duration::from_secs(1);
/// A file is new for so long after its last commit.
const NEW: Duration = Duration::from_secs(2);
/// rsync puts so many characters behind the last dot of a temporary name, as mkstemp(3) does.
const RANDOM_BYTES: usize = 6;

/// The files whose attributes wait, and since when.
#[derive(Debug)]
pub struct Unsent<S>(Mutex<Vec<(Instant, Arc<Inode<S>>)>>);

impl<S> Default for Unsent<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S> Unsent<S> {
    fn add(&self, inode: &Arc<Inode<S>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((clock::instant(), Arc::clone(inode)));
    }

    /// Those that have waited long enough.
    fn take_due(&self) -> Vec<Arc<Inode<S>>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::instant();
        let due = waiting.partition_point(|(since, _)| now.saturating_duration_since(*since) >= WAIT);
        waiting.drain(..due).map(|(_, inode)| inode).collect()
    }
}

impl<S: ObjectStore> State<S> {
    /// Whether there is anything that the store does not have.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.unsent || self.is_dirty()
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// Whether a file has just been made under a temporary name, so that what is set of it may wait for its rename.
    pub(super) fn is_about_to_be_renamed(&self, inode: &Inode<S>) -> bool {
        let state = inode.lock();
        let is_new = state.committed_at.is_some_and(|at| clock::instant().saturating_duration_since(at) < NEW);
        let is_stored = state.linked && state.lost.is_none() && !state.is_dirty() && state.moving.is_none();
        inode.kind == Kind::File && is_new && is_stored && is_temporary(state.place.component.as_str())
    }

    /// Lets the attributes that an inode has now wait. The caller holds its gate alone.
    pub(super) fn let_wait(&self, inode: &Arc<Inode<S>>) {
        let waits = std::mem::replace(&mut inode.lock().unsent, true);
        if !waits {
            self.unsent.add(inode);
        }
    }

    /// Puts attributes that wait into what is about to be stored of an inode.
    pub(super) fn with_unsent(&self, inode: &Inode<S>, metadata: &mut Metadata) {
        let state = inode.lock();
        if state.unsent {
            posix::encode(&self.config, inode.kind, &state.attr, state.explicit, metadata);
        }
    }

    /// Sends attributes of an inode that wait, if some do.
    pub(super) async fn send_unsent_of(&self, inode: &Arc<Inode<S>>) -> Result<()> {
        let waits = |inode: &Inode<S>| {
            let state = inode.lock();
            // They go along with what is written.
            state.unsent && !state.is_dirty()
        };
        if !waits(inode) {
            return Ok(());
        }
        let _alone = self.alone_to_change(inode).await?;
        if !waits(inode) {
            return Ok(());
        }
        // An update carries what waits, and needs to change nothing else.
        self.update_alone(inode, |_, _| {}).await.inspect_err(|error| {
            if error.situation() == Situation::Stale {
                inode.lock().unsent = false;
            }
            self.forget_if_stale(inode, error);
        })
    }

    /// Sends what has waited for a rename that has not come; returns what could not be sent. That is tried again by whoever
    /// changes the file, and at the end of the mount.
    pub async fn send_unsent(&self) -> Vec<(Ino, Error)> {
        let mut failed = Vec::new();
        for inode in self.unsent.take_due() {
            let _entered = self.moves.enter(&inode, Access::Change).await;
            if let Err(error) = self.send_unsent_of(&inode).await {
                failed.push((inode.ino, error));
            }
            self.table.release(inode.ino);
        }
        failed
    }
}

/// Whether a name is one of rsync's for a file that is not complete, as `.file.aB3xYz`.
fn is_temporary(name: &str) -> bool {
    let parts = name.strip_prefix('.').and_then(|name| name.rsplit_once('.'));
    parts.is_some_and(|(stem, random)| {
        !stem.is_empty() && random.len() == RANDOM_BYTES && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_is_one_of_rsync_s() {
        for name in [".a.x8Yz01", "..bashrc.AbCdEf", ".some file.txt.000000"] {
            assert!(is_temporary(name), "{name}");
        }
        for name in ["a.x8Yz01", ".x8Yz01", "..x8Yz01", ".a.x8Yz0", ".a.x8Yz012", ".a.x8Y-01", ".a.", "", "."] {
            assert!(!is_temporary(name), "{name}");
        }
    }
}
