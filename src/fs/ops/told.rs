//! What is asked for twice: programs ask how long an attribute's value is, or offer too little room for it, and then ask for
//! the value. The second time they get what the first has fetched, unless this mount has changed something meanwhile.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::base::clock;
use crate::fs::Fs;
use crate::fs::attr::{Caller, Ino};
use crate::fs::error::Result;
use crate::fs::meta::xattr::{self, Name};
use crate::fs::tree::inode::Inode;
use crate::store::{BucketService, ObjectStore};

/// So long the value is good.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// So many values are remembered, each of at most 64 KiB.
const MAX_TOLD: usize = 32;

/// The values whose length was told.
#[derive(Debug, Default)]
pub(in crate::fs) struct Told(Mutex<VecDeque<Value>>);

#[derive(Debug)]
struct Value {
    ino: Ino,
    name: Vec<u8>,
    bytes: Vec<u8>,
    asked: Instant,
    /// The inode as it was.
    of: (Option<Instant>, SystemTime),
}

impl Told {
    /// The value, when it is still good; it is forgotten when there is `room` for it.
    fn take(&self, (ino, name): (Ino, &[u8]), of: (Option<Instant>, SystemTime), room: usize) -> Option<Vec<u8>> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::instant();
        told.retain(|value| now.saturating_duration_since(value.asked) < GOOD_FOR);
        let at = told.iter().position(|value| value.ino == ino && value.name == name && value.of == of)?;
        if told.get(at)?.bytes.len() > room {
            told.get(at).map(|value| value.bytes.clone())
        } else {
            told.remove(at).map(|value| value.bytes)
        }
    }

    fn note(&self, value: Value) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|other| other.ino != value.ino || other.name != value.name);
        if told.len() == MAX_TOLD {
            told.pop_front();
        }
        told.push_back(value);
    }

    /// An attribute of the inode was set or removed.
    pub(super) fn forget(&self, ino: Ino) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|value| value.ino != ino);
    }
}

impl<S: ObjectStore + BucketService> Fs<S> {
    /// As [`Fs::getxattr`], for who has `room` for the value, or none and asks for its length.
    ///
    /// # Errors
    /// As [`Fs::getxattr`].
    pub async fn getxattr_into(&self, ino: Ino, name: &[u8], room: usize, caller: Caller) -> Result<Vec<u8>> {
        if !costs_a_request(name) {
            return self.getxattr(ino, name, caller).await;
        }
        let of = state_of(&self.inode(ino)?);
        if room > 0
            && let Some(bytes) = self.told.take((ino, name), of, room)
        {
            return Ok(bytes);
        }
        let asked = clock::instant();
        let bytes = self.getxattr(ino, name, caller).await?;
        if bytes.len() > room {
            self.told.note(Value { ino, name: name.to_vec(), bytes: bytes.clone(), asked, of });
        }
        Ok(bytes)
    }
}

/// What changes with every change of the object by this mount, and of its bytes.
fn state_of<S>(inode: &Arc<Inode<S>>) -> (Option<Instant>, SystemTime) {
    let state = inode.lock();
    (state.committed_at, state.attr.ctime)
}

/// Whether a value is asked for each time, and is no answer of the daemon's own.
fn costs_a_request(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return false };
    matches!(
        xattr::parse(name),
        Name::All
            | Name::Restore
            | Name::Acl
            | Name::Owner
            | Name::Tags
            | Name::Tag(_)
            | Name::Location
            | Name::Versions
            | Name::Config(_)
            | Name::Uploads
    )
}
