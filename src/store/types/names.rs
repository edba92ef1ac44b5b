//! Names, tags, ranges and part numbers.

use std::fmt;
use std::sync::Arc;

use crate::base::encode;

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
    /// A name that S3 keeps for itself.
    #[error("'{0}' cannot be a bucket's name: S3 keeps names with '{1}' for itself")]
    ReservedBucket(String, &'static str),
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

/// Beginnings and ends of names that S3 keeps for itself.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
const RESERVED_PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

impl BucketName {
    /// Checks that a bucket may be made under the name. (What has a reserved one is there by other means, and may be used.)
    ///
    /// # Errors
    /// [`InvalidName::ReservedBucket`].
    pub fn check_new(&self) -> Result<(), InvalidName> {
        let name = self.as_str();
        let reserved = RESERVED_PREFIXES.iter().find(|prefix| name.starts_with(**prefix));
        let reserved = reserved.or_else(|| RESERVED_SUFFIXES.iter().find(|suffix| name.ends_with(**suffix)));
        match reserved {
            Some(part) => Err(InvalidName::ReservedBucket(name.to_owned(), part)),
            None => Ok(()),
        }
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

    /// Of how many parts the object was made, as far as the tag tells: `<32 hex digits>-<parts>`.
    #[must_use]
    pub fn parts(&self) -> Option<u16> {
        let (md5, parts) = self.0.split_once('-')?;
        let hex = md5.len() == 32 && md5.bytes().all(|byte| byte.is_ascii_hexdigit());
        parts.parse().ok().filter(|parts| hex && (1..=MAX_PARTS).contains(parts))
    }

    /// The MD5 that it is, if it has the form of one.
    #[must_use]
    pub fn md5(&self) -> Option<[u8; 16]> {
        encode::unhex(&self.0)?.try_into().ok()
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

/// The classes that S3 has.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>
const STORAGE_CLASSES: [&str; 11] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "OUTPOSTS",
    "GLACIER_IR",
    "SNOW",
    "EXPRESS_ONEZONE",
];

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

    /// Whether S3 has this class; other stores may have more.
    #[must_use]
    pub fn is_s3s(&self) -> bool {
        STORAGE_CLASSES.contains(&&*self.0)
    }

    /// Whether objects of this class cannot be read before they are restored.
    /// (`INTELLIGENT_TIERING` depends on the object: see [`super::ObjectInfo::archived`].)
    #[must_use]
    pub fn is_archive(&self) -> bool {
        matches!(&*self.0, "GLACIER" | "DEEP_ARCHIVE")
    }
}

/// The number of a part: 1 to [`MAX_PARTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

impl PartNumber {
    /// The number of the first part.
    pub const FIRST: Self = Self(1);

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
        let parts = |tag: &str| ETag::new(tag).parts();
        assert_eq!(parts("\"0123456789abcdef0123456789abcdef-12\""), Some(12));
        assert_eq!([parts("abc-12"), parts("0123456789abcdef0123456789abcdef"), parts("x-y-1")], [None; 3]);
        assert_eq!(ByteRange::new(5, 5), None);
        assert_eq!(ByteRange::new(5, 10).map(ByteRange::header).as_deref(), Some("bytes=5-9"));
        assert_eq!(PartNumber::new(0), None);
        assert_eq!(PartNumber::new(10_001), None);
    }
}
