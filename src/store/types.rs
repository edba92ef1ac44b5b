//! The words of S3 as types that cannot be wrong: names, conditions, ranges, requests and answers.
//! Pure. A value that exists is valid; what can fail is its constructor.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

/// S3's limit on a key, in bytes of UTF-8.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
pub const MAX_KEY_BYTES: usize = 1024;
/// S3's limit on the number of parts of one upload.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
pub const MAX_PARTS: u16 = 10_000;
/// S3's least size of a part that is not the last, in bytes.
pub const MIN_PART_BYTES: u64 = 5 << 20;
/// S3's largest part, `PutObject` and `CopyObject`, in bytes.
pub const MAX_PART_BYTES: u64 = 5 << 30;
/// S3's largest page of a listing and batch of a `DeleteObjects`.
pub const MAX_PAGE_KEYS: u16 = 1000;

/// Why a name or number was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not a bucket name by S3's rules.
    #[error(
        "'{0}' is not a bucket name: 3 to 63 lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
    )]
    Bucket(String),
    /// An object key must not be empty.
    #[error("an object key must not be empty")]
    EmptyKey,
    /// A key longer than [`MAX_KEY_BYTES`].
    #[error("a key of {0} bytes is longer than S3's 1,024")]
    KeyTooLong(usize),
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text as S3 has it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

text_type! {
    /// A bucket name that S3 takes (general-purpose and older rules together; access-point aliases fit too).
    BucketName
}
text_type! {
    /// An object key: 1 to 1,024 bytes of UTF-8, otherwise anything.
    Key
}
text_type! {
    /// What a listing is limited to: raw key bytes, may be empty.
    Prefix
}
text_type! {
    /// An entity tag without its quotes. Two objects of one key with one tag have the same bytes.
    ETag
}
text_type! {
    /// The id of one version of an object, opaque.
    VersionId
}
text_type! {
    /// The id of a multipart upload, opaque.
    UploadId
}
text_type! {
    /// A storage class by S3's name (`STANDARD`, `GLACIER`, ...); unknown ones are kept as they are.
    StorageClass
}
text_type! {
    /// Where the next page of a listing begins, opaque.
    PageToken
}

impl BucketName {
    /// Checks `name` against S3's rules.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
    ///
    /// # Errors
    /// [`InvalidName::Bucket`].
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let valid = (3..=63).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'))
            && edge(name.chars().next())
            && edge(name.chars().last())
            && !name.contains("..")
            && name.parse::<std::net::Ipv4Addr>().is_err();
        if valid { Ok(Self(name.into())) } else { Err(InvalidName::Bucket(name.to_owned())) }
    }
}

impl Key {
    /// Checks the length of `key`.
    ///
    /// # Errors
    /// [`InvalidName::EmptyKey`], [`InvalidName::KeyTooLong`].
    pub fn new(key: impl AsRef<str>) -> Result<Self, InvalidName> {
        match key.as_ref() {
            "" => Err(InvalidName::EmptyKey),
            long if long.len() > MAX_KEY_BYTES => Err(InvalidName::KeyTooLong(long.len())),
            key => Ok(Self(key.into())),
        }
    }
}

impl Prefix {
    /// Any text is a prefix.
    #[must_use]
    pub fn new(prefix: impl AsRef<str>) -> Self {
        Self(prefix.as_ref().into())
    }
}

impl ETag {
    /// Takes the header's value, with or without quotes, and drops a weak mark.
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(value.trim().trim_start_matches("W/").trim_matches('"').into())
    }

    /// The form that conditional headers want: in quotes.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl VersionId {
    /// Takes the id as the store gave it.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }
}

impl UploadId {
    /// Takes the id as the store gave it.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }
}

impl PageToken {
    /// Takes the token as the store gave it.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(token.into())
    }
}

impl StorageClass {
    /// Takes the class as the store gave it.
    #[must_use]
    pub fn new(class: &str) -> Self {
        Self(class.into())
    }

    /// `STANDARD`: what S3 means when it names none.
    #[must_use]
    pub fn standard() -> Self {
        Self::new("STANDARD")
    }

    /// Whether objects of this class cannot be read before they are restored.
    /// (`INTELLIGENT_TIERING` depends on the object: see [`ObjectInfo::archived`].)
    #[must_use]
    pub fn is_archive(&self) -> bool {
        matches!(&*self.0, "GLACIER" | "DEEP_ARCHIVE")
    }
}

/// The number of a part: 1 to [`MAX_PARTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

impl PartNumber {
    /// `None` outside 1 to 10,000.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (1..=MAX_PARTS).contains(&number).then_some(Self(number))
    }

    /// The number as S3 has it.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A non-empty range of bytes, end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// `None` when the range would be empty.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start < end { Some(Self { start, end }) } else { None }
    }

    /// The first byte.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// One past the last byte.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// The number of bytes, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// `bytes=0-99`: the `Range` header, whose end is inclusive.
    #[must_use]
    pub fn header(self) -> String {
        format!("bytes={}-{}", self.start, self.end - 1)
    }
}

/// User metadata: names in lower case without `x-amz-meta-`, values as they travel.
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

/// What a new object is created with, beside its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// The standard headers.
    pub headers: Headers,
    /// The user metadata.
    pub metadata: Metadata,
    /// The class, or the bucket's default (STANDARD).
    pub storage_class: Option<StorageClass>,
}

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
    /// The version, where the bucket keeps versions.
    pub version: Option<VersionId>,
    /// Headers, metadata and class. The class is `None` for STANDARD.
    pub properties: Properties,
    /// `x-amz-archive-status`: the archive tier of an `INTELLIGENT_TIERING` object.
    pub archive_status: Option<String>,
    /// `x-amz-restore`, when a restore was asked for.
    pub restore: Option<RestoreState>,
    /// Whole-object or composite checksums that the store reported, by lower-case algorithm name, base64.
    pub checksums: BTreeMap<String, String>,
}

impl ObjectInfo {
    /// The class, spelled out.
    #[must_use]
    pub fn storage_class(&self) -> StorageClass {
        self.properties.storage_class.clone().unwrap_or_else(StorageClass::standard)
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
/// and fails with [`super::ErrorKind::Changed`] (`IfMatch`) or [`super::ErrorKind::Exists`] (`IfAbsent`).
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
    /// The bytes wanted, or all. A range that begins at or past the end: [`super::ErrorKind::Invalid`].
    pub range: Option<ByteRange>,
    /// The tag that the object must have: `If-Match`. Else [`super::ErrorKind::Changed`].
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
    /// Keys and prefixes together, 1 to [`MAX_PAGE_KEYS`].
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
    /// The bytes, at most [`MAX_PART_BYTES`].
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
    /// Its version, where the bucket keeps versions.
    pub version: Option<VersionId>,
}

/// `DeleteObject`. Deleting what is not there succeeds when there is no condition.
#[derive(Debug, Clone)]
pub struct DeleteObject {
    /// Which one. Without a version, on a bucket with versions, it only gets a delete marker.
    pub object: ObjectRef,
    /// What must be there. (`IfAbsent` makes no sense and is refused as `Invalid`.)
    pub condition: Condition,
}

/// `CopyObject`, at most [`MAX_PART_BYTES`].
#[derive(Debug, Clone)]
pub struct CopyObject {
    /// What is copied.
    pub source: ObjectRef,
    /// The tag the source must have: `x-amz-copy-source-if-match`. Else [`super::ErrorKind::Changed`].
    pub source_if_match: Option<ETag>,
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
    /// Its checksum as the store reported it (CRC64NVME, base64).
    pub crc64nvme: Option<String>,
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

/// One page of `ListMultipartUploads`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// The uploads with the time they were begun.
    pub uploads: Vec<(Upload, SystemTime)>,
    /// Key and upload id markers of the next page.
    pub next: Option<(String, String)>,
}

/// A bucket of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name, any text that the store has.
    pub name: String,
    /// When it was made.
    pub created: Option<SystemTime>,
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
    fn bucket_names_by_the_rules() {
        for good in ["abc", "my.bucket-1", "0a0", &"a".repeat(63)] {
            assert!(BucketName::new(good).is_ok(), "{good}");
        }
        for bad in ["ab", "Abc", "a_b_c", "-abc", "abc-", "a..b", "192.168.0.1", "", &"a".repeat(64), "a/b/c"] {
            assert!(BucketName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_tags_ranges_and_parts_know_their_limits() {
        assert_eq!(Key::new(""), Err(InvalidName::EmptyKey));
        assert!(Key::new("x".repeat(1024)).is_ok());
        assert_eq!(Key::new("x".repeat(1025)), Err(InvalidName::KeyTooLong(1025)));
        assert_eq!(ETag::new("\"abc\""), ETag::new("abc"));
        assert_eq!(ETag::new("W/\"abc\"").quoted(), "\"abc\"");
        assert_eq!(ByteRange::new(5, 5), None);
        assert_eq!(ByteRange::new(5, 10).map(ByteRange::header).as_deref(), Some("bytes=5-9"));
        assert_eq!(PartNumber::new(0), None);
        assert_eq!(PartNumber::new(10_001), None);
        assert_eq!(RestoreTier::parse("bulk"), Some(RestoreTier::Bulk));
    }
}
