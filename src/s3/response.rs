//! From HTTP's answers to what the store's traits return. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;

use super::request::META_PREFIX;
use crate::base::{crc::Crc64, date};
use crate::store::{
    ByteRange, Committed, ETag, Encryption, FACT_HEADERS, Facts, Headers, Metadata, ObjectInfo, ObjectLock, Properties,
    RestoreState, StorageClass, VersionId,
};

/// The header that carries a CRC64NVME.
pub const CRC64NVME: &str = "x-amz-checksum-crc64nvme";

/// The header that tells whether a checksum is of the whole object, or of its parts' checksums.
pub const CHECKSUM_TYPE: &str = "x-amz-checksum-type";
/// The header in which an upload that was begun repeats which checksums its parts will carry.
pub const CHECKSUM_ALGORITHM: &str = "x-amz-checksum-algorithm";

/// A header's text: UTF-8 where it is, else as Latin-1, as HTTP has it.
#[must_use]
pub fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    Some(
        std::str::from_utf8(value.as_bytes())
            .map_or_else(|_| value.as_bytes().iter().map(|byte| char::from(*byte)).collect(), str::to_owned),
    )
}

/// What the headers of a HEAD or GET say. `None` when they are not S3's: no tag or no length.
#[must_use]
pub fn object_info(headers: &HeaderMap, size: u64) -> Option<ObjectInfo> {
    let mut metadata = Metadata::new();
    let mut checksums = BTreeMap::new();
    for name in headers.keys() {
        let name = name.as_str();
        if let Some(own) = name.strip_prefix(META_PREFIX) {
            metadata.insert(own.to_owned(), text(headers, name)?);
        } else if let Some(algorithm) = name.strip_prefix("x-amz-checksum-")
            && algorithm != "type"
        {
            checksums.insert(algorithm.to_owned(), text(headers, name)?);
        }
    }
    let date = |name| text(headers, name).and_then(|value| date::parse_http(&value));
    let last_modified = date("last-modified")?;
    Some(ObjectInfo {
        size,
        etag: ETag::new(&text(headers, "etag")?),
        last_modified,
        // Who does not tell the time has perhaps just made it.
        as_of: Some(date("date").unwrap_or(last_modified)),
        version: version(headers),
        properties: Properties {
            headers: Headers {
                content_type: text(headers, "content-type"),
                cache_control: text(headers, "cache-control"),
                content_disposition: text(headers, "content-disposition"),
                content_encoding: text(headers, "content-encoding").filter(|encoding| encoding != "aws-chunked"),
                content_language: text(headers, "content-language"),
                expires: text(headers, "expires"),
                website_redirect: text(headers, "x-amz-website-redirect-location"),
            },
            metadata,
            storage_class: text(headers, "x-amz-storage-class")
                .filter(|class| class != "STANDARD")
                .map(|class| StorageClass::new(&class)),
            encryption: encryption(headers),
            tags: None,
            acl: None,
            lock: ObjectLock::from_headers(|name| text(headers, name)),
        },
        facts: facts(headers),
        archive_status: text(headers, "x-amz-archive-status"),
        restore: text(headers, "x-amz-restore").and_then(|value| restore_state(&value)),
        checksums,
    })
}

/// Encryption by the store, also that which it would choose by itself: its default may be another one by then.
fn encryption(headers: &HeaderMap) -> Option<Encryption> {
    let algorithm = text(headers, "x-amz-server-side-encryption")?;
    let key_id = text(headers, "x-amz-server-side-encryption-aws-kms-key-id");
    let enabled = text(headers, "x-amz-server-side-encryption-bucket-key-enabled").is_some_and(|enabled| enabled == "true");
    // There is none with two layers of encryption, and S3 refuses to hear of it.
    let bucket_key = (algorithm == "aws:kms").then_some(enabled);
    Some(Encryption { algorithm, key_id, bucket_key })
}

fn facts(headers: &HeaderMap) -> Facts {
    let told = |(header, name): &(&str, &'static str)| Some((*name, text(headers, header)?));
    let mut others: BTreeMap<_, _> = FACT_HEADERS.iter().filter_map(told).collect();
    // The header comes only with a part's number; the tag of an object that was made of parts says how many they were.
    let etag = ETag::new(&text(headers, "etag").unwrap_or_default());
    if let Some(parts) = etag.parts() {
        others.entry("parts").or_insert_with(|| parts.to_string());
    }
    Facts { tag_count: text(headers, "x-amz-tagging-count").and_then(|count| count.parse().ok()).unwrap_or_default(), others }
}

/// The version in an answer; stores that keep none say `null` or nothing.
#[must_use]
pub fn version(headers: &HeaderMap) -> Option<VersionId> {
    text(headers, "x-amz-version-id").filter(|id| id != "null" && !id.is_empty()).map(|id| VersionId::new(&id))
}

/// What the bytes of the object or part add up to, as far as it is told.
#[must_use]
pub fn crc64nvme(headers: &HeaderMap) -> Option<Crc64> {
    Crc64::parse(&text(headers, CRC64NVME)?)
}

/// Servers make the `Date` header once a second and send it until the next one.
const DATE_LAG: Duration = Duration::from_secs(1);

/// What a PUT's headers say about the new object.
#[must_use]
pub fn committed(headers: &HeaderMap) -> Option<Committed> {
    Some(committed_as(ETag::new(&text(headers, "etag")?), headers))
}

/// As [`committed`], when the tag is in the answer's body.
#[must_use]
pub fn committed_as(etag: ETag, headers: &HeaderMap) -> Committed {
    let date = text(headers, "date").and_then(|date| date::parse_http(&date));
    Committed { etag, version: version(headers), at: date.map(|date| date + DATE_LAG), crc64nvme: crc64nvme(headers) }
}

/// `ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`
fn restore_state(value: &str) -> Option<RestoreState> {
    if value.contains("ongoing-request=\"true\"") {
        return Some(RestoreState::Ongoing);
    }
    let (_, rest) = value.split_once("expiry-date=\"")?;
    date::parse_http(rest.split('"').next()?).map(RestoreState::Until)
}

/// The range and the whole size in `Content-Range: bytes 0-9/100`.
#[must_use]
pub fn content_range(value: &str) -> Option<(ByteRange, u64)> {
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    Some((ByteRange::new(first, last.checked_add(1)?)?, size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_become_facts() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("etag", "\"abc\""),
            ("last-modified", "Fri, 21 Dec 2012 00:00:00 GMT"),
            ("x-amz-meta-a-b", "=?UTF-8?B?Z3LDvMOf?="),
            ("x-amz-storage-class", "GLACIER"),
            ("x-amz-restore", "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\""),
            ("x-amz-version-id", "null"),
            ("x-amz-checksum-crc64nvme", "AAAA"),
            ("x-amz-checksum-type", "FULL_OBJECT"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "key"),
            ("x-amz-tagging-count", "2"),
            ("x-amz-object-lock-legal-hold", "ON"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let info = object_info(&headers, 7).unwrap();
        assert_eq!(info.properties.metadata.get("a-b").map(String::as_str), Some("=?UTF-8?B?Z3LDvMOf?="));
        assert!(info.archived() && matches!(info.restore, Some(RestoreState::Until(_))));
        assert_eq!((info.version, info.checksums.len(), info.size), (None, 1, 7));
        let kept = Encryption { algorithm: "aws:kms".into(), key_id: Some("key".into()), bucket_key: Some(false) };
        assert_eq!((info.properties.encryption, info.facts.tag_count), (Some(kept), 2));
        assert!(info.properties.lock.legal_hold && info.facts.others["lock.legal-hold"] == "ON");
        headers.insert("etag", "\"0123456789abcdef0123456789abcdef-12\"".parse().unwrap());
        headers.insert("x-amz-server-side-encryption", "aws:kms:dsse".parse().unwrap());
        let info = object_info(&headers, 7).unwrap();
        let mut plain = HeaderMap::new();
        plain.insert("x-amz-server-side-encryption", "AES256".parse().unwrap());
        assert_eq!(encryption(&plain), Some(Encryption { algorithm: "AES256".into(), key_id: None, bucket_key: None }));
        assert_eq!(info.facts.others.get("parts").map(String::as_str), Some("12"));
        assert_eq!(info.properties.encryption.unwrap().bucket_key, None);
        assert_eq!(restore_state("ongoing-request=\"true\""), Some(RestoreState::Ongoing));
        assert_eq!(object_info(&HeaderMap::new(), 0), None);
    }

    #[test]
    fn ranges() {
        assert_eq!(content_range("bytes 5-9/100"), Some((ByteRange::new(5, 10).unwrap(), 100)));
        for bad in ["bytes */100", "bytes 9-5/100", "", "bytes 0-18446744073709551615/1"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
