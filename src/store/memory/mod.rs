//! S3 in memory: the store of fast tests and of the embedded server, as faithful as a test needs it to be.
//!
//! It is separate from the server, so that tests of the layers above need no network. A clone is the same store, so a test
//! plays another client with one. Every change is one step under one lock: conditions are atomic, and a `get` reads the
//! object it found even when it is replaced meanwhile. Bytes are kept in the chunks they came in and are never copied.
//!
//! Errors carry S3's own code and status. What S3 does and this does not: versions and encryption; of locks it keeps what
//! is said, and refuses what S3 refuses.

mod account;
mod archive;
mod content;
mod documents;
mod failure;
mod listing;
mod object;
mod pattern;
mod service;
mod steps;
mod uploads;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use archive::Restored;
pub use content::Reader;
pub use documents::OWNER;
pub use listing::Query;
pub use object::Checksums;
pub use pattern::{PATTERN_BYTES, named_size, pattern_at};
pub use steps::{CopyProperties, Declared};

use account::{Account, NamedSizes};
use archive::Moment;

use super::BucketName;
use crate::base::clock;

/// What the tags of new objects are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tags {
    /// As S3 makes them: MD5 of the bytes, MD5 of the parts' MD5s. About 0.6 GB/s.
    Md5,
    /// Random, as they are with some encryptions: nothing to compute.
    #[default]
    Opaque,
}

/// What happens to the bytes of new objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Data {
    /// They are kept.
    #[default]
    Stored,
    /// They are counted and dropped; what is read is the pattern of [`pattern_at`]. A key that names a size
    /// ([`named_size`]) is an object that exists as soon as its bucket does, though no listing has it.
    Synthetic,
}

/// What a store forgets that S3 keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Drops {
    /// Nothing, as S3.
    #[default]
    Nothing,
    /// The tags of what it copies, as radosgw 16.
    TagsOfCopies,
    /// The access list of what is put, as SeaweedFS 4.
    AclsOfPuts,
}

/// How a [`Memory`] behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The tags of new objects.
    pub tags: Tags,
    /// The bytes of new objects.
    pub data: Data,
    /// How long a restore takes.
    pub restore_ongoing: Duration,
    /// The region of buckets made without a location.
    pub region: String,
    /// What is forgotten.
    pub drops: Drops,
}

/// How long a restore takes unless told otherwise: enough to be seen, short enough to be waited for.
const RESTORE_ONGOING: Duration = Duration::from_secs(2);

impl Default for Options {
    fn default() -> Self {
        Self {
            tags: Tags::default(),
            data: Data::default(),
            restore_ongoing: RESTORE_ONGOING,
            region: "us-east-1".to_owned(),
            drops: Drops::default(),
        }
    }
}

/// The store in memory. A clone is the same store.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    options: Options,
    account: Mutex<Account>,
}

impl Memory {
    /// An empty store of the usual kind: opaque tags, stored bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    /// An empty store that behaves as `options` say.
    #[must_use]
    pub fn with(options: Options) -> Self {
        let named = if options.data == Data::Synthetic { NamedSizes::Exist } else { NamedSizes::Unknown };
        Self(Arc::new(Inner { options, account: Mutex::new(Account::new(named)) }))
    }

    /// How it behaves.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Makes sure that `bucket` exists.
    pub fn ensure_bucket(&self, bucket: &BucketName) {
        // The only failure is that it is there.
        let _ = self.account().create_bucket(bucket.as_str(), None, clock::now());
    }

    /// Lets the objects of `bucket` be locked: on S3 that is said when the bucket is made.
    pub fn take_locks(&self, bucket: &BucketName) {
        if let Ok(bucket) = self.account().bucket_mut(bucket.as_str()) {
            bucket.locks = account::Locks::Taken;
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // Every step leaves the account consistent; a panic elsewhere says nothing about it.
        self.0.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("options", &self.0.options).finish_non_exhaustive()
    }
}

fn moment() -> Moment {
    Moment { instant: clock::instant(), wall: clock::now() }
}

#[cfg(test)]
mod tests;
