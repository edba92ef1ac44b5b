//! Properties of objects in headers, both ways: as they were sent, with no parsing between. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::convert::invalid;
use crate::base::{date, encode};
use crate::store::{
    AclChange, CannedAcl, Encryption, FACT_HEADERS, Grant, Grantee, Headers, Metadata, ObjectInfo, ObjectLock, Permission,
    Properties, RestoreState, StorageClass, Tags,
};

/// What an object is when nobody said.
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";
const META: &str = "x-amz-meta-";
/// The properties of a new object.
pub(super) fn read(headers: &HeaderMap) -> S3Result<Properties> {
    let text = |name: HeaderName| headers.get(name).map(value_text).transpose();
    Ok(Properties {
        headers: Headers {
            content_type: Some(text(header::CONTENT_TYPE)?.unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned())),
            cache_control: text(header::CACHE_CONTROL)?,
            content_disposition: text(header::CONTENT_DISPOSITION)?,
            content_encoding: text(header::CONTENT_ENCODING)?.and_then(|encoding| without_framing(&encoding)),
            content_language: text(header::CONTENT_LANGUAGE)?,
            expires: text(header::EXPIRES)?,
            website_redirect: text(HeaderName::from_static("x-amz-website-redirect-location"))?,
        },
        metadata: read_metadata(headers)?,
        storage_class: storage_class(headers)?,
        encryption: encryption(headers)?,
        tags: tags(headers)?,
        acl: acl(headers)?,
        lock: ObjectLock::from_headers(|name| headers.get(name).and_then(|value| value_text(value).ok())),
    })
}

/// `x-amz-storage-class`.
pub(super) fn storage_class(headers: &HeaderMap) -> S3Result<Option<StorageClass>> {
    let Some(class) = headers.get("x-amz-storage-class").map(value_text).transpose()? else { return Ok(None) };
    let class = StorageClass::new(&class);
    if class.is_s3s() {
        return Ok(Some(class));
    }
    Err(S3Error::with_message(S3ErrorCode::InvalidStorageClass, "The storage class you specified is not valid"))
}

/// `x-amz-server-side-encryption`: nothing is encrypted here, but it is told.
fn encryption(headers: &HeaderMap) -> S3Result<Option<Encryption>> {
    let text = |name: &str| headers.get(name).map(value_text).transpose();
    let algorithm = text("x-amz-server-side-encryption")?;
    let key_id = text("x-amz-server-side-encryption-aws-kms-key-id")?;
    let bucket_key = text("x-amz-server-side-encryption-bucket-key-enabled")?.map(|enabled| enabled == "true");
    Ok(algorithm.map(|algorithm| Encryption { algorithm, key_id, bucket_key }))
}

/// `x-amz-tagging`.
pub(super) fn tags(headers: &HeaderMap) -> S3Result<Option<Tags>> {
    let Some(text) = headers.get("x-amz-tagging").map(value_text).transpose()? else { return Ok(None) };
    Tags::from_header(&text).map(Some).ok_or_else(|| invalid("The header 'x-amz-tagging' shall be encoded as UTF-8"))
}

/// `x-amz-acl`, or the grants of `x-amz-grant-*`.
pub(super) fn acl(headers: &HeaderMap) -> S3Result<Option<AclChange>> {
    if let Some(name) = headers.get("x-amz-acl").map(value_text).transpose()? {
        let canned = CannedAcl::parse(&name).ok_or_else(|| invalid(format!("There is no canned ACL '{name}'.")))?;
        return Ok(Some(AclChange::Canned(canned)));
    }
    let mut grants = Vec::new();
    for permission in Permission::ALL {
        let Some(text) = headers.get(permission.header()).map(value_text).transpose()? else { continue };
        for each in text.split(',') {
            let (kind, who) = each.trim().split_once('=').ok_or_else(|| invalid("A grantee is id=, uri= or emailAddress=."))?;
            let who = who.trim().trim_matches('"').to_owned();
            let grantee = match kind.trim() {
                "id" => Grantee::Id { id: who, display_name: None },
                "uri" => Grantee::Group(who),
                "emailAddress" => Grantee::Email(who),
                _ => return Err(invalid("A grantee is id=, uri= or emailAddress=.")),
            };
            grants.push(Grant { grantee, permission });
        }
    }
    Ok((!grants.is_empty()).then_some(AclChange::Grants(grants)))
}

fn read_metadata(headers: &HeaderMap) -> S3Result<Metadata> {
    let mut metadata = Metadata::new();
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix(META) else { continue };
        // S3 joins what was sent several times.
        let values = headers.get_all(name).iter().map(value_text).collect::<S3Result<Vec<_>>>()?;
        metadata.insert(short.to_owned(), values.join(","));
    }
    Ok(metadata)
}

fn value_text(value: &HeaderValue) -> S3Result<String> {
    std::str::from_utf8(value.as_bytes()).map(str::to_owned).map_err(|_| invalid("A header is not UTF-8."))
}

/// `aws-chunked` is about the request, not the object.
fn without_framing(encoding: &str) -> Option<String> {
    let kept: Vec<&str> = encoding.split(',').map(str::trim).filter(|part| *part != "aws-chunked" && !part.is_empty()).collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// The headers of an answer about an object that `s3s` would not give back as they were.
pub(super) fn write(info: &ObjectInfo) -> HeaderMap {
    let mut answer = HeaderMap::new();
    let properties = &info.properties;
    let Headers {
        content_type,
        cache_control,
        content_disposition,
        content_encoding,
        content_language,
        expires,
        website_redirect,
    } = &properties.headers;
    let mut put = |name: HeaderName, value: Option<&str>| {
        // What came in a header fits in one.
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
            answer.insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, content_type.as_deref());
    put(header::CACHE_CONTROL, cache_control.as_deref());
    put(header::CONTENT_DISPOSITION, content_disposition.as_deref());
    put(header::CONTENT_ENCODING, content_encoding.as_deref());
    put(header::CONTENT_LANGUAGE, content_language.as_deref());
    put(header::EXPIRES, expires.as_deref());
    put(HeaderName::from_static("x-amz-website-redirect-location"), website_redirect.as_deref());
    put(HeaderName::from_static("x-amz-storage-class"), properties.storage_class.as_ref().map(StorageClass::as_str));
    put(HeaderName::from_static("x-amz-archive-status"), info.archive_status.as_deref());
    put(HeaderName::from_static("x-amz-restore"), info.restore.map(restore).as_deref());
    // S3 counts the parts only for those who ask for one of them.
    for (header, name) in FACT_HEADERS.into_iter().filter(|(_, name)| *name != "parts") {
        put(HeaderName::from_static(header), info.facts.others.get(name).map(String::as_str));
    }
    let count = info.facts.tag_count;
    put(HeaderName::from_static("x-amz-tagging-count"), (count > 0).then(|| count.to_string()).as_deref());
    for (name, value) in &properties.metadata {
        if let Ok(name) = HeaderName::try_from(format!("{META}{name}")) {
            // S3 answers with RFC 2047 words where a value is not printable ASCII.
            put(name, Some(&encode::ascii(value)));
        }
    }
    answer
}

/// `x-amz-restore`.
fn restore(state: RestoreState) -> String {
    match state {
        RestoreState::Ongoing => "ongoing-request=\"true\"".to_owned(),
        RestoreState::Until(time) => format!("ongoing-request=\"false\", expiry-date=\"{}\"", date::http(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were_sent() {
        let sent = [
            ("content-type", "text/plain"),
            ("expires", "next week"),
            ("cache-control", "no-cache"),
            ("x-amz-meta-a_b", " =?x?="),
            ("x-amz-storage-class", "GLACIER"),
        ];
        let headers: HeaderMap =
            sent.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        let properties = read(&headers).unwrap();
        let info = ObjectInfo {
            size: 0,
            etag: crate::store::ETag::new("x"),
            last_modified: std::time::UNIX_EPOCH,
            as_of: None,
            version: None,
            properties,
            archive_status: None,
            facts: crate::store::Facts::default(),
            restore: Some(RestoreState::Ongoing),
            checksums: std::collections::BTreeMap::new(),
        };
        let answer = write(&info);
        for (name, value) in sent {
            assert_eq!(answer[name], value);
        }
        assert_eq!(answer["x-amz-restore"], "ongoing-request=\"true\"");
        let chunked: HeaderMap =
            [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip, aws-chunked"))].into_iter().collect();
        assert_eq!(read(&chunked).unwrap().headers.content_encoding.as_deref(), Some("gzip"));
        let wrong: HeaderMap =
            [(HeaderName::from_static("x-amz-storage-class"), HeaderValue::from_static("GOLD"))].into_iter().collect();
        assert!(read(&wrong).is_err());
    }
}
