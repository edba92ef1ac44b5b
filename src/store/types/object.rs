//! What an object is beside its bytes, and what a request asks of the one it replaces.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use super::names::{BucketName, ETag, Key, StorageClass, VersionId};
use crate::base::crc::Crc64;
use crate::base::date;
use crate::store::{AclChange, ObjectLock, Tags};

/// User metadata: names in lower case without `x-amz-meta-`, values as they travel (`base::encode::word` makes
/// them, `base::encode::unword` reads them): what nobody has set must go back as it came.
pub type Metadata = BTreeMap<String, String>;

/// The standard headers that S3 keeps with an object, as they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// `Content-Type`
    pub content_type: Option<String>,
    /// `Cache-Control`
    pub cache_control: Option<String>,
    /// `Content-Disposition`
    pub content_disposition: Option<String>,
    /// `Content-Encoding`
    pub content_encoding: Option<String>,
    /// `Content-Language`
    pub content_language: Option<String>,
    /// `Expires`, kept as text: S3 does not require a date.
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`
    pub website_redirect: Option<String>,
}

/// Encryption by the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub algorithm: String,
    /// The key, or the account's default one.
    pub key_id: Option<String>,
    /// Whether a key of the bucket's stands between, which saves requests to the key service; `None`: as the bucket says.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-key.html>
    pub bucket_key: Option<bool>,
}

/// What a new object is created with, beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// The standard headers.
    pub headers: Headers,
    /// The user metadata.
    pub metadata: Metadata,
    /// The class, or the bucket's default (STANDARD).
    pub storage_class: Option<StorageClass>,
    /// Encryption with a key of the user's, else as the bucket says.
    pub encryption: Option<Encryption>,
    /// Tags. HEAD does not tell them; a copy without keeps those of its source.
    pub tags: Option<Tags>,
    /// The access list, else the owner's own. HEAD does not tell it, and no copy keeps it.
    pub acl: Option<AclChange>,
    /// What keeps it from being deleted. No copy keeps it.
    pub lock: ObjectLock,
}

impl Properties {
    /// Takes over what has changed from `before` to `after`, but for what is not as it was `before` here either.
    pub fn follow(&mut self, before: &Self, after: &Self) {
        let Self { headers, metadata, storage_class, encryption, tags, acl, lock } = self;
        headers.follow(&before.headers, &after.headers);
        let names = before.metadata.keys().chain(after.metadata.keys());
        for name in names {
            if metadata.get(name) == before.metadata.get(name) {
                match after.metadata.get(name) {
                    Some(value) => metadata.insert(name.clone(), value.clone()),
                    None => metadata.remove(name),
                };
            }
        }
        take_over(storage_class, &before.storage_class, &after.storage_class);
        take_over(encryption, &before.encryption, &after.encryption);
        take_over(tags, &before.tags, &after.tags);
        take_over(acl, &before.acl, &after.acl);
        take_over(lock, &before.lock, &after.lock);
    }
}

impl Headers {
    fn follow(&mut self, before: &Self, after: &Self) {
        let Self {
            content_type,
            cache_control,
            content_disposition,
            content_encoding,
            content_language,
            expires,
            website_redirect,
        } = self;
        take_over(content_type, &before.content_type, &after.content_type);
        take_over(cache_control, &before.cache_control, &after.cache_control);
        take_over(content_disposition, &before.content_disposition, &after.content_disposition);
        take_over(content_encoding, &before.content_encoding, &after.content_encoding);
        take_over(content_language, &before.content_language, &after.content_language);
        take_over(expires, &before.expires, &after.expires);
        take_over(website_redirect, &before.website_redirect, &after.website_redirect);
    }
}

/// Makes `own` what `before` has become `after`, when it is still as it was before.
pub fn take_over<T: PartialEq + Clone>(own: &mut T, before: &T, after: &T) {
    if own == before {
        own.clone_from(after);
    }
}

/// What HEAD says of an object that nobody sets with its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `x-amz-tagging-count`
    pub tag_count: u32,
    /// Everything else by the name that it has here, as S3 said it: `sse`, `lock.mode`, `parts`, ...
    pub others: BTreeMap<&'static str, String>,
}

/// Facts of HEAD and GET: the header, and the name that it has here.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>
pub const FACT_HEADERS: [(&str, &str); 10] = [
    ("x-amz-server-side-encryption", "sse"),
    ("x-amz-server-side-encryption-aws-kms-key-id", "sse-kms-key-id"),
    ("x-amz-server-side-encryption-customer-algorithm", "sse-customer-algorithm"),
    ("x-amz-server-side-encryption-bucket-key-enabled", "sse-bucket-key"),
    ("x-amz-mp-parts-count", "parts"),
    ("x-amz-object-lock-mode", "lock.mode"),
    ("x-amz-object-lock-retain-until-date", "lock.retain-until"),
    ("x-amz-object-lock-legal-hold", "lock.legal-hold"),
    ("x-amz-replication-status", "replication"),
    ("x-amz-expiration", "expiration"),
];

/// How far the restore of an archived object is (`x-amz-restore`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreState {
    /// The copy is being made.
    Ongoing,
    /// The copy can be read until then.
    Until(SystemTime),
}

/// All that HEAD or GET says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Bytes in the object, whatever range was asked for.
    pub size: u64,
    /// The entity tag.
    pub etag: ETag,
    /// When S3 took it; headers have whole seconds.
    pub last_modified: SystemTime,
    /// The store's clock when it said all this, at least; `None` of what this mount has made itself.
    pub as_of: Option<SystemTime>,
    /// The version, where the bucket keeps versions.
    pub version: Option<VersionId>,
    /// Headers, metadata and class. The class is `None` for STANDARD.
    pub properties: Properties,
    /// `x-amz-archive-status`: the archive tier of an `INTELLIGENT_TIERING` object.
    pub archive_status: Option<String>,
    /// `x-amz-restore`, when a restore was asked for.
    pub restore: Option<RestoreState>,
    /// The rest.
    pub facts: Facts,
    /// Whole-object or composite checksums that the store reported, by lower-case algorithm name, base64.
    pub checksums: BTreeMap<String, String>,
}

/// An object's metadata can change without its tag, and dates are of whole seconds: what was said of an object this much
/// after its date, or later, is true of any object with that date.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

impl ObjectInfo {
    /// Whether an object with the same tag and date has the same metadata, for certain. What this mount has made itself, it
    /// may believe in.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.as_of.is_none_or(|as_of| as_of > self.last_modified + SETTLED_AFTER)
    }

    /// Whether an answer with this date may be about the object that this describes, in whole seconds. What this mount has made
    /// itself is not younger than it believes.
    #[must_use]
    pub fn may_be_of(&self, date: SystemTime) -> bool {
        let [known, shown] = [self.last_modified, date].map(date::whole_seconds);
        if self.as_of.is_none() { shown <= known } else { shown == known }
    }

    /// The class, spelled out.
    #[must_use]
    pub fn storage_class(&self) -> StorageClass {
        self.properties.storage_class.clone().unwrap_or_else(StorageClass::standard)
    }

    /// What its bytes add up to, where the store says so: this checksum is always of the whole object.
    #[must_use]
    pub fn crc64nvme(&self) -> Option<Crc64> {
        Crc64::parse(self.checksums.get("crc64nvme")?)
    }

    /// Whether the object lies in an archive, restored or not.
    #[must_use]
    pub fn archived(&self) -> bool {
        self.archive_status.is_some() || self.properties.storage_class.as_ref().is_some_and(StorageClass::is_archive)
    }
}

/// One object, or one version of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: Key,
    /// A version, or the current one.
    pub version: Option<VersionId>,
}

impl ObjectRef {
    /// The current version of `key`.
    #[must_use]
    pub const fn current(bucket: BucketName, key: Key) -> Self {
        Self { bucket, key, version: None }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

/// What must be true of the object that a request replaces or removes, or else the request does nothing
/// and fails with [`crate::store::ErrorKind::Changed`] (`IfMatch`) or [`crate::store::ErrorKind::Exists`] (`IfAbsent`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is asked.
    #[default]
    None,
    /// `If-None-Match: *`: there is no object.
    IfAbsent,
    /// `If-Match`: the object has this tag.
    IfMatch(ETag),
}
