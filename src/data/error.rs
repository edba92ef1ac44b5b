//! What can go wrong with bytes. Below it are the store's errors, above it the file system's situations.

use std::sync::Arc;

use crate::store;

/// What every call of this layer returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why bytes could not be read, taken or committed. Cheap to clone: one failure may answer many waiters.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store refused or failed.
    #[error("{0}")]
    Store(Arc<store::Error>),
    /// The object under this name is not the one that was opened or written over.
    #[error("the object was replaced by another client")]
    Stale,
    /// There is an object although none was expected (`O_EXCL`).
    #[error("another client has created the object")]
    Exists,
    /// The bytes have left as parts, or memory is used up: the content must be committed as it stands, and then again.
    #[error("the file must be stored before it is changed there")]
    CommitFirst,
    /// Bytes that should be here are not: nothing is sent.
    #[error("bytes of the content are missing: nothing was stored")]
    Incomplete,
    /// What lies in the staging directory cannot be read.
    #[error("what was written lies in the staging directory, which cannot be read: {0}")]
    Staging(Arc<std::io::Error>),
    /// There is no memory, and what holds it could not be stored.
    #[error("the memory limit is used up by files that could not be uploaded: see what 'pailfs umount' says of them")]
    Full,
    /// The file would not fit into an object.
    #[error("the file is larger than an object can be (10,000 parts of 5 GiB)")]
    TooLarge,
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error.kind() {
            store::ErrorKind::Changed => Self::Stale,
            store::ErrorKind::Exists => Self::Exists,
            _ => Self::Store(Arc::new(error)),
        }
    }
}

impl Error {
    /// Of the staging directory.
    #[must_use]
    pub fn of_staging(error: std::io::Error) -> Self {
        Self::Staging(Arc::new(error))
    }

    /// Of a read: an object that is gone, or too short for the range, is not the one that was opened.
    #[must_use]
    pub fn of_reading(error: store::Error) -> Self {
        let gone = error.kind() == store::ErrorKind::NotFound || error.story().status == Some(416);
        if gone { Self::Stale } else { error.into() }
    }

    /// The store's kind, when the store failed.
    #[must_use]
    pub fn kind(&self) -> Option<store::ErrorKind> {
        match self {
            Self::Store(error) => Some(error.kind()),
            _ => None,
        }
    }
}
