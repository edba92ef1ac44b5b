//! One stored object and the conditions on it. Pure, but for whether a retention is over: elsewhere the time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::archive::{self, Moment, Restore};
use super::content::Content;
use super::failure::{
    INVALID_STORAGE_CLASS, INVALID_TAG, METADATA_TOO_LARGE, OBJECT_CHANGED, OBJECT_EXISTS, OBJECT_GONE, Outcome, RETENTION_OVER,
    TOO_MANY_TAGS,
};
use crate::base::{clock, crc::Crc64, date};
use crate::store::{AclChange, Condition, ETag, Facts, ListedObject, ObjectInfo, Properties, Retention, StorageClass, Tags};

/// S3's limit on user metadata, in bytes of names and values.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>
const MAX_METADATA_BYTES: usize = 2048;

/// S3's limits on tags. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>
pub(super) const MAX_OBJECT_TAGS: usize = 10;
pub(super) const MAX_BUCKET_TAGS: usize = 50;
const MAX_TAG_NAME_CHARS: usize = 128;
const MAX_TAG_VALUE_CHARS: usize = 256;

/// Checksums by lower-case algorithm name (`crc64nvme`), in base64.
pub type Checksums = BTreeMap<String, String>;

/// An object as the store has it.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) content: Content,
    pub(super) etag: ETag,
    /// In whole milliseconds, as listings show it.
    pub(super) modified: SystemTime,
    pub(super) properties: Properties,
    pub(super) checksums: Checksums,
    pub(super) restore: Option<Restore>,
    pub(super) archive_status: Option<String>,
    /// The sizes of the parts it was made of; empty for a single PUT.
    pub(super) parts: Vec<u64>,
}

impl Object {
    /// An object that is not archived in a tier and was never restored.
    pub(super) fn new(content: Content, etag: ETag, properties: Properties, now: SystemTime) -> Self {
        Self {
            content,
            etag,
            modified: whole_millis(now),
            properties: normal(properties),
            checksums: Checksums::new(),
            restore: None,
            archive_status: None,
            parts: Vec::new(),
        }
    }

    /// Adds the checksums that were sent, and CRC64NVME when it was not among them.
    pub(super) fn summed(mut self, sent: Checksums) -> Self {
        self.checksums = with_crc64nvme(sent, || self.content.crc64nvme());
        self
    }

    /// The class by name; `None` for STANDARD.
    pub(super) fn storage_class(&self) -> Option<&str> {
        self.properties.storage_class.as_ref().map(crate::store::StorageClass::as_str)
    }

    /// Whether its class cannot be read before a restore.
    pub(super) fn in_archive_class(&self) -> bool {
        self.properties.storage_class.as_ref().is_some_and(crate::store::StorageClass::is_archive)
    }

    /// All that is known, the time in milliseconds.
    pub(super) fn info(&self, now: Moment) -> ObjectInfo {
        ObjectInfo {
            size: self.content.len(),
            etag: self.etag.clone(),
            last_modified: self.modified,
            // As a Date header.
            as_of: Some(UNIX_EPOCH + Duration::from_secs(date::unix_seconds(now.wall))),
            version: None,
            // As HEAD: neither tags nor the access list.
            properties: Properties { tags: None, acl: None, ..self.properties.clone() },
            facts: self.facts(),
            archive_status: archive::status(self, now),
            restore: archive::state(self, now),
            checksums: self.checksums.clone(),
        }
    }

    fn facts(&self) -> Facts {
        let tags = self.properties.tags.as_ref().map_or(0, Tags::len);
        let mut facts = Facts { tag_count: u32::try_from(tags).unwrap_or(u32::MAX), ..Facts::default() };
        if let Some(encryption) = &self.properties.encryption {
            facts.others.insert("sse", encryption.algorithm.clone());
            if let Some(key) = &encryption.key_id {
                facts.others.insert("sse-kms-key-id", key.clone());
            }
            if encryption.bucket_key == Some(true) {
                facts.others.insert("sse-bucket-key", "true".to_owned());
            }
        }
        facts.others.extend(self.properties.lock.to_facts());
        if !self.parts.is_empty() {
            facts.others.insert("parts", self.parts.len().to_string());
        }
        facts
    }

    /// All that is known as HEAD and GET say it: the time in whole seconds.
    pub(super) fn headers(&self, now: Moment) -> ObjectInfo {
        let since = self.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        ObjectInfo { last_modified: UNIX_EPOCH + Duration::from_secs(since.as_secs()), ..self.info(now) }
    }

    /// The line of a listing.
    pub(super) fn listed(&self, key: &str) -> ListedObject {
        ListedObject {
            key: key.to_owned(),
            size: self.content.len(),
            etag: Some(self.etag.clone()),
            last_modified: self.modified,
            storage_class: self.properties.storage_class.clone(),
        }
    }
}

/// Whether `condition` holds for what is there.
pub(super) fn check(condition: &Condition, current: Option<&Object>) -> Outcome<()> {
    match (condition, current) {
        (Condition::None, _) | (Condition::IfAbsent, None) => Ok(()),
        (Condition::IfAbsent, Some(_)) => Err(OBJECT_EXISTS),
        (Condition::IfMatch(_), None) => Err(OBJECT_GONE),
        (Condition::IfMatch(tag), Some(object)) => matches(tag, object),
    }
}

/// Whether the object has the tag; `*` is any.
pub(super) fn matches(tag: &ETag, object: &Object) -> Outcome<()> {
    if *tag == object.etag || tag.as_str() == "*" { Ok(()) } else { Err(OBJECT_CHANGED) }
}

/// Whether S3 would take these properties.
pub(super) fn check_properties(properties: &Properties) -> Outcome<()> {
    let bytes: usize = properties.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_METADATA_BYTES {
        return Err(METADATA_TOO_LARGE);
    }
    if !properties.storage_class.as_ref().is_none_or(StorageClass::is_s3s) {
        return Err(INVALID_STORAGE_CLASS);
    }
    properties.tags.as_ref().map_or(Ok(()), |tags| check_tags(tags, MAX_OBJECT_TAGS))?;
    if let Some(AclChange::Grants(grants)) = &properties.acl {
        grants.iter().try_for_each(|grant| super::documents::check_group(&grant.grantee))?;
    }
    let over = |retention: &Retention| retention.until <= clock::now();
    if properties.lock.retention.as_ref().is_some_and(over) { Err(RETENTION_OVER) } else { Ok(()) }
}

/// Whether S3 would take these tags.
pub(super) fn check_tags(tags: &Tags, most: usize) -> Outcome<()> {
    if tags.len() > most {
        return Err(TOO_MANY_TAGS);
    }
    let fits = |(name, value): (&str, &str)| {
        (1..=MAX_TAG_NAME_CHARS).contains(&name.chars().count()) && value.chars().count() <= MAX_TAG_VALUE_CHARS
    };
    if tags.iter().all(fits) { Ok(()) } else { Err(INVALID_TAG) }
}

/// What was sent, and CRC64NVME when it was not among it and can be computed.
pub(super) fn with_crc64nvme(mut sent: Checksums, crc: impl FnOnce() -> Option<Crc64>) -> Checksums {
    if !sent.contains_key("crc64nvme")
        && let Some(crc) = crc()
    {
        sent.insert("crc64nvme".to_owned(), crc.to_string());
    }
    sent
}

/// STANDARD is told by saying nothing; names of metadata are in lower case.
fn normal(mut properties: Properties) -> Properties {
    properties.storage_class = properties.storage_class.filter(|class| class.as_str() != "STANDARD");
    if properties.metadata.keys().any(|name| name.chars().any(char::is_uppercase)) {
        properties.metadata = properties.metadata.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
    }
    properties
}

fn whole_millis(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::new(since.as_secs(), since.subsec_millis() * 1_000_000)
}
