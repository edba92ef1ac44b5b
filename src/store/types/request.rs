//! Requests and their answers.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::names::{BucketName, ByteRange, ETag, Key, PageToken, PartNumber, Prefix, StorageClass, UploadId, VersionId};
use super::object::{Condition, ObjectInfo, ObjectRef, Properties};
use crate::base::crc::Crc64;
#[cfg(doc)]
use crate::store::ErrorKind;
use crate::store::Result;

/// HEAD of an object.
#[derive(Debug, Clone)]
pub struct HeadObject {
    /// Which one.
    pub object: ObjectRef,
}

/// GET of an object or a range of it.
#[derive(Debug, Clone)]
pub struct GetObject {
    /// Which one.
    pub object: ObjectRef,
    /// The bytes wanted, or all. A range that begins at or past the end: [`crate::store::ErrorKind::Invalid`].
    pub range: Option<ByteRange>,
    /// The tag that the object must have: `If-Match`. Else [`crate::store::ErrorKind::Changed`].
    pub if_match: Option<ETag>,
}

/// How keys are folded into common prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimiter {
    /// All keys, flat.
    None,
    /// One level: what follows the next `/` is folded.
    Slash,
}

/// Where a page of a listing begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListStart {
    /// At the first key.
    Beginning,
    /// At the first key after this text.
    After(String),
    /// Where the last page ended.
    Token(PageToken),
}

/// One page of `ListObjectsV2`.
#[derive(Debug, Clone)]
pub struct ListObjects {
    /// The bucket.
    pub bucket: BucketName,
    /// Only keys that begin with this.
    pub prefix: Prefix,
    /// How keys are folded.
    pub delimiter: Delimiter,
    /// Where to begin.
    pub start: ListStart,
    /// Keys and prefixes together, 1 to [`super::MAX_PAGE_KEYS`].
    pub max_keys: u16,
}

/// What a listing says about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// The key, any text that the store has (also over-long or with a NUL: it is not ours to refuse).
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The tag; some stores leave it out.
    pub etag: Option<ETag>,
    /// When S3 took it.
    pub last_modified: SystemTime,
    /// The class, `None` for STANDARD.
    pub storage_class: Option<StorageClass>,
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The objects, in the store's order (UTF-8 bytes on S3).
    pub objects: Vec<ListedObject>,
    /// The common prefixes, each ending in `/`, in the store's order.
    pub prefixes: Vec<String>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<PageToken>,
}

/// A page that was answered and not read yet: what comes next is known first, and can be asked for meanwhile.
pub struct UnreadPage {
    next: Option<PageToken>,
    read: Box<dyn FnOnce() -> Result<ListPage> + Send>,
}

impl UnreadPage {
    /// Of what comes next, and what reads the page.
    pub fn new(next: Option<PageToken>, read: impl FnOnce() -> Result<ListPage> + Send + 'static) -> Self {
        Self { next, read: Box::new(read) }
    }

    /// Where the next page begins; `None` on the last.
    #[must_use]
    pub const fn next(&self) -> Option<&PageToken> {
        self.next.as_ref()
    }

    /// Reads the page.
    ///
    /// # Errors
    /// [`ErrorKind::NotS3`] when it is none.
    pub fn read(self) -> Result<ListPage> {
        (self.read)()
    }
}

impl From<ListPage> for UnreadPage {
    fn from(page: ListPage) -> Self {
        Self::new(page.next.clone(), || Ok(page))
    }
}

impl fmt::Debug for UnreadPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnreadPage").field("next", &self.next).finish_non_exhaustive()
    }
}

/// The bytes of one request: held in memory, so that a retry can send them again; cheap to clone.
#[derive(Clone, Default)]
pub struct Payload {
    chunks: Arc<[Bytes]>,
    len: u64,
}

impl Payload {
    /// The chunks in order.
    #[must_use]
    pub fn new(chunks: Vec<Bytes>) -> Self {
        let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { chunks: chunks.into(), len }
    }

    /// The chunks in order.
    #[must_use]
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// Bytes in all.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::new(vec![bytes])
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len)
    }
}

/// `PutObject`.
#[derive(Debug, Clone)]
pub struct PutObject {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: Key,
    /// The bytes, at most [`super::MAX_PART_BYTES`].
    pub payload: Payload,
    /// Headers, metadata, class.
    pub properties: Properties,
    /// What must be there.
    pub condition: Condition,
}

/// What a request that made an object says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The new object's tag.
    pub etag: ETag,
    /// When the store answered, by its own clock: the object was not written later.
    pub at: Option<SystemTime>,
    /// Its version, where the bucket keeps versions.
    pub version: Option<VersionId>,
    /// What its bytes add up to, where the store says so.
    pub crc64nvme: Option<Crc64>,
}

impl From<&ObjectInfo> for Committed {
    /// As HEAD shows an object that a request has made.
    fn from(info: &ObjectInfo) -> Self {
        let (etag, version) = (info.etag.clone(), info.version.clone());
        Self { etag, version, at: Some(info.last_modified), crc64nvme: info.crc64nvme() }
    }
}

/// `DeleteObject`. Deleting what is not there succeeds when there is no condition.
#[derive(Debug, Clone)]
pub struct DeleteObject {
    /// Which one. Without a version, on a bucket with versions, it only gets a delete marker.
    pub object: ObjectRef,
    /// What must be there. (`IfAbsent` makes no sense and is refused as `Invalid`.)
    pub condition: Condition,
}

/// One key of a `DeleteObjects`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteKey {
    /// The key.
    pub key: Key,
    /// The tag that the object must have. A store may ignore it, so who depends on it has looked just before.
    pub etag: Option<ETag>,
}

/// `CopyObject`, at most [`super::MAX_PART_BYTES`].
#[derive(Debug, Clone)]
pub struct CopyObject {
    /// What is copied.
    pub source: ObjectRef,
    /// The tag the source must have: `x-amz-copy-source-if-match`. Else [`crate::store::ErrorKind::Changed`].
    pub source_if_match: Option<ETag>,
    /// The source was not written after this second: `x-amz-copy-source-if-unmodified-since`, else
    /// [`crate::store::ErrorKind::Changed`]. S3 ignores it beside `source_if_match`. It sees what a tag does not: that
    /// another client has changed the metadata alone.
    pub source_unchanged_since: Option<SystemTime>,
    /// The bucket of the new object.
    pub bucket: BucketName,
    /// The key of the new object.
    pub key: Key,
    /// The new properties (`REPLACE`), or those of the source (`COPY`).
    pub replace: Option<Properties>,
    /// What must be at the destination.
    pub condition: Condition,
}

/// `CreateMultipartUpload`.
#[derive(Debug, Clone)]
pub struct CreateUpload {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: Key,
    /// Headers, metadata, class of the object to be.
    pub properties: Properties,
}

/// A multipart upload that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: Key,
    /// The id.
    pub id: UploadId,
    /// It was begun with the word that its parts carry checksums: then its completion names them.
    pub declares_checksums: bool,
}

/// `UploadPart`.
#[derive(Debug, Clone)]
pub struct UploadPart {
    /// Which upload.
    pub upload: Upload,
    /// Which part. Sent again, the last one counts.
    pub number: PartNumber,
    /// The bytes.
    pub payload: Payload,
}

/// `UploadPartCopy`.
#[derive(Debug, Clone)]
pub struct CopyPart {
    /// Which upload.
    pub upload: Upload,
    /// Which part.
    pub number: PartNumber,
    /// What is copied.
    pub source: ObjectRef,
    /// The tag the source must have.
    pub source_if_match: Option<ETag>,
    /// The bytes of the source; they must exist.
    pub range: ByteRange,
}

/// A part that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub number: PartNumber,
    /// Its tag.
    pub etag: ETag,
    /// What its bytes add up to, where the store has said so; for bytes that were sent it has compared, too.
    pub crc64nvme: Option<Crc64>,
    /// Its tag is the MD5 of the bytes that were sent.
    pub tag_is_md5: bool,
    /// Its bytes.
    pub size: u64,
}

/// `CompleteMultipartUpload`.
#[derive(Debug, Clone)]
pub struct CompleteUpload {
    /// Which upload.
    pub upload: Upload,
    /// The parts in ascending order.
    pub parts: Vec<Part>,
    /// What must be at the key.
    pub condition: Condition,
}

impl CompleteUpload {
    /// What the object will add up to; `None` when that of one of its parts is not known.
    #[must_use]
    pub fn crc64nvme(&self) -> Option<Crc64> {
        let add = |sum: Crc64, part: &Part| Some(sum.followed_by(part.crc64nvme?, part.size));
        self.parts.iter().try_fold(Crc64::EMPTY, add)
    }

    /// How many bytes the object will have.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }
}

/// One page of `ListMultipartUploads`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// The uploads with the time they were begun.
    pub uploads: Vec<(Upload, SystemTime)>,
    /// Key and upload id markers of the next page.
    pub next: Option<(String, String)>,
}

/// One version of an object, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The version.
    pub id: VersionId,
    /// Its bytes; `None` for a delete marker.
    pub size: Option<u64>,
    /// When S3 took it.
    pub last_modified: SystemTime,
    /// Whether it is the current one.
    pub is_latest: bool,
}

/// A bucket of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name, any text that the store has.
    pub name: String,
    /// When it was made.
    pub created: Option<SystemTime>,
}

/// Whose the objects of a bucket are, and whether access lists count.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The bucket's owner's; access lists are disabled.
    BucketOwnerEnforced,
    /// The bucket's owner's, when the writer says so; access lists count.
    BucketOwnerPreferred,
    /// The writer's; access lists count.
    ObjectWriter,
}

impl Ownership {
    /// S3's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BucketOwnerEnforced => "BucketOwnerEnforced",
            Self::BucketOwnerPreferred => "BucketOwnerPreferred",
            Self::ObjectWriter => "ObjectWriter",
        }
    }
}

/// What a bucket is made with.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewBucket<'a> {
    /// Where; `us-east-1` is never sent: S3 refuses it.
    pub location: Option<&'a str>,
    /// Whether access lists count, or as the store says.
    pub ownership: Option<Ownership>,
}

/// What HEAD of a bucket says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketInfo {
    /// The region it lies in (`x-amz-bucket-region`), where the store tells.
    pub region: Option<String>,
}

/// How fast a restore shall be.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RestoreTier {
    /// Hours.
    #[default]
    Standard,
    /// Half a day, cheapest.
    Bulk,
    /// Minutes, dearest; not for `DEEP_ARCHIVE`.
    Expedited,
}

impl RestoreTier {
    /// S3's name of the tier.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "Standard",
            Self::Bulk => "Bulk",
            Self::Expedited => "Expedited",
        }
    }

    /// Reads S3's name, in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Standard, Self::Bulk, Self::Expedited].into_iter().find(|tier| tier.as_str().eq_ignore_ascii_case(text))
    }
}

/// `RestoreObject`.
#[derive(Debug, Clone)]
pub struct RestoreObject {
    /// Which one.
    pub object: ObjectRef,
    /// How long the copy stays; `None` for `INTELLIGENT_TIERING`, which takes no days.
    pub days: Option<u32>,
    /// How fast; `None` leaves it to the store.
    pub tier: Option<RestoreTier>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_read_in_any_case() {
        assert_eq!(RestoreTier::parse("bulk"), Some(RestoreTier::Bulk));
        assert_eq!(RestoreTier::parse("slow"), None);
    }
}
