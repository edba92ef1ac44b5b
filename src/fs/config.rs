//! What a mount is configured with, validated.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::meta::location::Location;
use crate::data::write::staging::Staging;
use crate::fs::meta::xattr::Restore;
use crate::store::{BucketName, Ownership};

/// See [`Config::most_forgotten`]: a few kilobytes each.
pub const MOST_FORGOTTEN: usize = 8192;

/// How much a listing is believed about attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttrsMode {
    /// What LIST says; never a HEAD.
    Listing,
    /// Every object's metadata.
    Posix,
    /// Metadata where there are signs of it: a sample of each listing, zero-byte objects, and what this mount wrote.
    #[default]
    Auto,
}

/// What listxattr names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListXattrs {
    /// What can be carried to another file: one HEAD when that is not known.
    #[default]
    Portable,
    /// The same, as far as it is known without asking.
    Known,
    /// Every name that has a value.
    All,
}

/// Whether what replaces an object keeps its access list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepAcl {
    /// It does, at one request where a bucket has access lists.
    #[default]
    Yes,
    /// The new object is its owner's alone.
    No,
}

/// Archived objects that are opened are restored by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoRestore {
    /// What is asked for.
    pub asked: Restore,
    /// Bytes in a day at most.
    pub limit: u64,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One bucket.
    Bucket {
        /// Its name.
        bucket: BucketName,
        /// Raw key bytes before every key of the mount: empty, or ending in `/`.
        prefix: String,
    },
    /// Every bucket of the account, one directory each.
    Account,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Account => f.write_str("s3://"),
        }
    }
}

/// The settings of one mount.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is mounted.
    pub source: Source,
    /// Where mkdir makes buckets, until the root's `user.s3.location` says otherwise; `None`: where the store puts them.
    pub location: Option<Location>,
    /// Owner of what has none in its metadata.
    pub uid: u32,
    /// Group of what has none.
    pub gid: u32,
    /// Permission bits of files that have none.
    pub file_mode: u32,
    /// Permission bits of directories that have none.
    pub dir_mode: u32,
    /// Shown in place of every stored owner.
    pub force_uid: Option<u32>,
    /// Shown in place of every stored group.
    pub force_gid: Option<u32>,
    /// Taken off every mode.
    pub umask: Option<u32>,
    /// Device nodes and setuid bits from metadata are shown as they are.
    pub trust_special: bool,
    /// How long names and attributes are believed.
    pub ttl: Duration,
    /// What is written is brought to the store so long after the last write, when no close or fsync does; `None`: never.
    pub commit_after: Option<Duration>,
    /// A file that is created with `O_EXCL` is in the store, empty, when it is open.
    pub strict_excl: bool,
    /// Inodes of its own making, and directories, that are kept when the kernel has forgotten them.
    pub most_forgotten: usize,
    /// Nothing may be changed.
    pub read_only: bool,
    /// How much a listing is believed.
    pub attrs: AttrsMode,
    /// Bytes that are on their way at most.
    pub memory_limit: u64,
    /// Where contents go that can never be stored; without one they stay in memory.
    pub kept_directory: Option<PathBuf>,
    /// Where renames of directories are recorded while they are under way.
    pub renames: Option<super::intents::Place>,
    /// Where attributes are remembered from mount to mount.
    pub remembered: Option<super::remembered::Place>,
    /// Where changes go that do not fit into memory.
    pub staging: Staging,
    /// Whose the objects of new buckets are.
    pub ownership: Option<Ownership>,
    /// How long `user.s3.presigned-url` is good.
    pub presign_ttl: Duration,
    /// What listxattr names.
    pub list_xattrs: ListXattrs,
    /// Whether access lists are kept.
    pub keep_acl: KeepAcl,
    /// What opening an archived object for reading does.
    pub auto_restore: Option<AutoRestore>,
    /// The store is S3 itself: what it was told to keep need not be looked after.
    pub trusts_store: bool,
    /// The user who mounted, who may ask the daemon.
    pub owner_uid: u32,
}

impl Config {
    /// A whole bucket with the settings that hold when nobody says otherwise, owned by root.
    #[must_use]
    pub fn new(bucket: BucketName) -> Self {
        Self {
            source: Source::Bucket { bucket, prefix: String::new() },
            location: None,
            uid: 0,
            gid: 0,
            file_mode: 0o644,
            dir_mode: 0o755,
            force_uid: None,
            force_gid: None,
            umask: None,
            trust_special: false,
            ttl: Duration::from_secs(5),
            commit_after: Some(Duration::from_secs(10)),
            strict_excl: false,
            most_forgotten: MOST_FORGOTTEN,
            read_only: false,
            attrs: AttrsMode::Auto,
            memory_limit: 512 << 20,
            kept_directory: None,
            renames: None,
            remembered: None,
            staging: Staging::default(),
            ownership: None,
            presign_ttl: Duration::from_secs(3600),
            list_xattrs: ListXattrs::Portable,
            keep_acl: KeepAcl::Yes,
            auto_restore: None,
            trusts_store: true,
            owner_uid: 0,
        }
    }
}
