//! POSIX situations in words: what the file system layer reports, before anybody thinks of an errno.

use std::fmt;
use std::sync::Arc;

use crate::data;
use crate::store::{self, ErrorKind, Operation};

/// What every operation returns.
pub type Result<T> = std::result::Result<T, Error>;

/// The situation a caller is in. `mount::errno` has the one table that turns it into a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Situation {
    /// There is nothing of that name.
    NotFound,
    /// The bucket does not exist (any more).
    NoBucket,
    /// The name is taken.
    Exists,
    /// The object is not the one this mount knew.
    Stale,
    /// A part of the path is not a directory.
    NotDirectory,
    /// The operation wants a file and this is a directory.
    IsDirectory,
    /// The directory has entries.
    NotEmpty,
    /// Longer than a name or key can be.
    NameTooLong,
    /// The name is not UTF-8.
    NameNotUtf8,
    /// An argument makes no sense here.
    Invalid,
    /// The mount is read-only.
    ReadOnly,
    /// Permissions refuse it, those of the file or those of S3.
    Denied,
    /// Nobody may do this, or only the owner.
    NotPermitted,
    /// The credentials have expired.
    Expired,
    /// The credentials are wrong.
    Rejected,
    /// The object is archived; restore it first.
    Archived,
    /// A restore is under way already.
    Already,
    /// The store asks for fewer requests, or the name is in use.
    Busy,
    /// No answer in time.
    TimedOut,
    /// The store cannot be reached.
    Unreachable,
    /// The quota is used up.
    OverQuota,
    /// No space, in the store or for metadata.
    NoSpace,
    /// There is nothing at or behind the offset.
    BeyondEnd,
    /// Larger than S3 takes.
    TooLarge,
    /// Bytes arrived altered.
    Corrupt,
    /// There is no such extended attribute.
    NoAttribute,
    /// It cannot be done here, or not yet.
    Unsupported,
    /// A rename that must be done by copying (`mv` does).
    CrossDevice,
    /// The handle does not allow it.
    BadHandle,
    /// Anything else.
    Io,
}

/// A situation with its story. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Error {
    situation: Situation,
    words: Arc<str>,
}

impl Error {
    /// A situation explained in `words`.
    pub fn new(situation: Situation, words: impl AsRef<str>) -> Self {
        Self { situation, words: words.as_ref().into() }
    }

    /// The situation.
    #[must_use]
    pub const fn situation(&self) -> Situation {
        self.situation
    }

    /// The story for people.
    #[must_use]
    pub fn words(&self) -> &str {
        &self.words
    }

    /// The same story in another situation.
    #[must_use]
    pub fn in_situation(self, situation: Situation) -> Self {
        Self { situation, ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Error {}

/// The situation that follows from a store's failure.
const fn situation_of(kind: ErrorKind, operation: Operation) -> Situation {
    match kind {
        ErrorKind::NotFound => Situation::NotFound,
        ErrorKind::NoBucket => Situation::NoBucket,
        ErrorKind::Exists => Situation::Exists,
        ErrorKind::Changed => Situation::Stale,
        ErrorKind::NotEmpty => Situation::NotEmpty,
        ErrorKind::Denied => Situation::Denied,
        ErrorKind::Expired => Situation::Expired,
        ErrorKind::Rejected => Situation::Rejected,
        ErrorKind::Archived => Situation::Archived,
        ErrorKind::RestoreOngoing => Situation::Already,
        ErrorKind::Busy => Situation::Busy,
        ErrorKind::TimedOut => Situation::TimedOut,
        ErrorKind::Unreachable => Situation::Unreachable,
        ErrorKind::OverQuota => Situation::OverQuota,
        ErrorKind::StoreFull => Situation::NoSpace,
        ErrorKind::Unsupported => Situation::Unsupported,
        // What a person has asked for makes no sense; elsewhere the request was ours.
        ErrorKind::Invalid if operation.is_asked_for() => Situation::Invalid,
        ErrorKind::TooLarge => Situation::TooLarge,
        ErrorKind::Corrupt => Situation::Corrupt,
        ErrorKind::Invalid | ErrorKind::NoUpload | ErrorKind::Unavailable | ErrorKind::NotS3 => Situation::Io,
    }
}

/// The bucket, not the store, has no access lists.
const ACLS_DISABLED: &str = "the bucket has access lists disabled: user.s3.object-ownership of its directory says \
     BucketOwnerEnforced, and set to BucketOwnerPreferred or ObjectWriter it enables them";

/// The object's user metadata has no room for more.
const METADATA_TOO_LARGE: &str = "MetadataTooLarge";
const METADATA_FULL: &str = "S3 takes 2,048 bytes of user metadata, and mode, owner, times and a mark of pailfs are in them: \
     shorten or remove an attribute (getfattr -d FILE; setfattr -x NAME FILE)";

/// What a person can do about a store's failure, where there is something.
const fn advice(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Denied => {
            Some("the credentials of this mount do not allow it: ask the owner of the bucket for the permission")
        }
        ErrorKind::Expired => Some("renew the credentials; the mount picks them up by itself, or at once on SIGHUP"),
        ErrorKind::Rejected => Some("check the access key and secret, and the clock of this machine"),
        ErrorKind::Archived => Some(
            "restore it first: setfattr -n user.s3.restore -v 5 FILE, and wait until getfattr -n user.s3.restore says 'until'",
        ),
        ErrorKind::RestoreOngoing => Some("wait: getfattr -n user.s3.restore says 'until DATE' when it is done"),
        ErrorKind::Busy => Some("the store asked for fewer requests, and waiting did not help: try again later"),
        ErrorKind::Unreachable => Some("check the endpoint, the network and the store"),
        ErrorKind::NotS3 => Some("check the endpoint: what answered there does not speak S3"),
        ErrorKind::Unsupported => Some("this store does not offer the operation"),
        _ => None,
    }
}

impl From<&store::Error> for Error {
    fn from(error: &store::Error) -> Self {
        let advice = match error.story().code.as_deref() {
            Some("AccessControlListNotSupported") => Some(ACLS_DISABLED),
            Some(METADATA_TOO_LARGE) => Some(METADATA_FULL),
            _ => advice(error.kind()),
        };
        let words = advice.map_or_else(|| error.to_string(), |advice| format!("{error}; {advice}"));
        let situation = match error.story().code.as_deref() {
            // Mode, owner and times are in it, too: whoever sets those has asked for nothing senseless.
            Some(METADATA_TOO_LARGE) => Situation::NoSpace,
            _ => situation_of(error.kind(), error.story().operation),
        };
        Self::new(situation, words)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::from(&error)
    }
}

impl From<data::Error> for Error {
    fn from(error: data::Error) -> Self {
        let situation = match &error {
            data::Error::Store(error) => return Self::from(&**error),
            data::Error::Stale => Situation::Stale,
            data::Error::Exists => Situation::Exists,
            data::Error::CommitFirst => Situation::Busy,
            data::Error::Incomplete | data::Error::Staging(_) => Situation::Io,
            data::Error::TooLarge => Situation::TooLarge,
            data::Error::Full => Situation::NoSpace,
        };
        Self::new(situation, error.to_string())
    }
}

impl From<store::InvalidName> for Error {
    fn from(error: store::InvalidName) -> Self {
        let situation = match error {
            store::InvalidName::KeyTooLong(_) => Situation::NameTooLong,
            store::InvalidName::Bucket(_) | store::InvalidName::ReservedBucket(..) | store::InvalidName::EmptyKey => {
                Situation::Invalid
            }
        };
        Self::new(situation, error.to_string())
    }
}
