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
    /// What was asked for cannot be done to this file.
    #[error("{0}")]
    Unsupported(&'static str),
    /// There is no memory, and what holds it could not be stored.
    #[error("the memory limit is used up by files that could not be uploaded: see what 'pailfs umount' says of them")]
    Full,
    /// The file would not fit into an object.
    #[error("the file is larger than an object can be with the parts that have been sent")]
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
    /// The store's kind, when the store failed.
    #[must_use]
    pub fn kind(&self) -> Option<store::ErrorKind> {
        match self {
            Self::Store(error) => Some(error.kind()),
            _ => None,
        }
    }
}
