//! S3's XML, in and out. Pure. Nothing from the network may panic: a document that is not understood is `None`.

use std::time::SystemTime;

use crate::base::crc::Crc64;
use crate::base::xml::{Node, element, escaped, parse};
use crate::base::{date, encode};
use crate::store::{
    Bucket, BucketName, DeleteKey, ETag, Key, NAMESPACE, ObjectVersion, Part, PartNumber, RestoreObject, Upload, UploadId,
    UploadPage, VersionId,
};

/// The element that carries a CRC64NVME.
const CRC64NVME: &str = "ChecksumCRC64NVME";

/// An error document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorDocument {
    /// `NoSuchKey`, ...
    pub code: String,
    /// S3's words.
    pub message: String,
    /// The request id, for stores that do not send it as a header.
    pub request_id: Option<String>,
    /// The region that should have been asked.
    pub region: Option<String>,
}

/// Reads an error document, also one inside an answer of 200. `None` when it is none.
#[must_use]
pub fn error_document(body: &[u8]) -> Option<ErrorDocument> {
    let root = parse(body)?;
    let error = match root.name.as_str() {
        "Error" => &root,
        // As AWS's other services wrap it. (A `DeleteResult` has errors, too, but each is of one key.)
        "ErrorResponse" => root.child("Error")?,
        _ => return None,
    };
    let own = |name| error.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    Some(ErrorDocument {
        code: own("Code")?,
        message: own("Message").unwrap_or_default(),
        request_id: own("RequestId"),
        region: own("Region"),
    })
}

/// `encoding-type=url`: percent-encoded, with `+` for a space on some stores (a literal plus is always `%2B`).
pub(super) fn url_decoded(text: &str) -> Option<String> {
    encode::uri_decode(&text.replace('+', "%20"))
}

/// Reads the id of a begun upload.
#[must_use]
pub fn upload_id(body: &[u8]) -> Option<UploadId> {
    let root = parse(body)?;
    root.text("UploadId").filter(|id| !id.is_empty()).map(UploadId::new)
}

/// Reads the tag in the answer to a copy or a completion.
#[must_use]
pub fn result_etag(body: &[u8]) -> Option<ETag> {
    let root = parse(body)?;
    let known = matches!(root.name.as_str(), "CopyObjectResult" | "CopyPartResult" | "CompleteMultipartUploadResult");
    root.text("ETag").filter(|_| known).map(ETag::new)
}

/// What the bytes of the object or part add up to, as the answer says.
#[must_use]
pub fn result_crc64nvme(body: &[u8]) -> Option<Crc64> {
    parse(body)?.text(CRC64NVME).and_then(Crc64::parse)
}

/// When the copy was made, as the answer says.
#[must_use]
pub fn result_time(body: &[u8]) -> Option<SystemTime> {
    parse(body)?.text("LastModified").and_then(date::parse_iso8601)
}

/// Reads a page of `ListParts`: the parts, and the marker of the next page.
#[must_use]
pub fn parts_page(body: &[u8]) -> Option<(Vec<Part>, Option<String>)> {
    // moto says ListPartsResponse.
    let root = parse(body).filter(|root| matches!(root.name.as_str(), "ListPartsResult" | "ListPartsResponse"))?;
    let mut parts = Vec::new();
    for part in root.all("Part") {
        parts.push(Part {
            number: PartNumber::new(u16::try_from(part.number("PartNumber")?).ok()?)?,
            etag: ETag::new(part.text("ETag")?),
            crc64nvme: part.text(CRC64NVME).and_then(Crc64::parse),
            tag_is_md5: false,
            size: part.number("Size")?,
        });
    }
    let more = root.text("IsTruncated").is_some_and(|text| text.trim() == "true");
    Some((parts, root.text("NextPartNumberMarker").filter(|_| more).map(str::to_owned)))
}

/// Reads a page of `ListMultipartUploads` for which encoded names were `asked`, or not.
#[must_use]
pub fn uploads_page(body: &[u8], bucket: &BucketName, asked: bool) -> Option<UploadPage> {
    let root = parse(body).filter(|root| root.name == "ListMultipartUploadsResult")?;
    let encoded = root.text("EncodingType") == Some("url");
    let name = |text: &str, encoded| if encoded { url_decoded(text) } else { Some(text.to_owned()) };
    let mut page = UploadPage::default();
    for upload in root.all("Upload") {
        // It is asked only after names that XML cannot hold: with them it could be read only if they were encoded.
        let key = Key::new(name(upload.text("Key")?, encoded || asked)?).ok()?;
        let begun = upload.text("Initiated").and_then(date::parse_iso8601)?;
        let id = UploadId::new(upload.text("UploadId")?);
        page.uploads.push((Upload { bucket: bucket.clone(), key, id, declares_checksums: false }, begun));
    }
    if root.text("IsTruncated").is_some_and(|text| text.trim() == "true") {
        page.next = Some((name(root.text("NextKeyMarker")?, encoded)?, root.text("NextUploadIdMarker")?.to_owned()));
    }
    Some(page)
}

/// Reads the versions of one key out of a page of `ListObjectVersions`.
#[must_use]
pub fn versions(body: &[u8], key: &Key) -> Option<Vec<ObjectVersion>> {
    let root = parse(body).filter(|root| matches!(root.name.as_str(), "ListVersionsResult" | "ListObjectVersionsResult"))?;
    let encoded = root.text("EncodingType") == Some("url");
    let mut versions = Vec::new();
    for node in root.children.iter().filter(|node| matches!(node.name.as_str(), "Version" | "DeleteMarker")) {
        let name = node.text("Key")?;
        let name = if encoded { url_decoded(name)? } else { name.to_owned() };
        if name != key.as_str() {
            continue;
        }
        versions.push(ObjectVersion {
            id: VersionId::new(node.text("VersionId")?),
            size: (node.name == "Version").then(|| node.number("Size")).flatten(),
            last_modified: node.text("LastModified").and_then(date::parse_iso8601)?,
            is_latest: node.text("IsLatest").is_some_and(|text| text.trim() == "true"),
        });
    }
    Some(versions)
}

/// Reads `ListBuckets`: the buckets, and the token of the next page.
#[must_use]
pub fn buckets(body: &[u8]) -> Option<(Vec<Bucket>, Option<String>)> {
    let root = parse(body).filter(|root| root.name == "ListAllMyBucketsResult")?;
    let bucket = |node: &Node| {
        Some(Bucket { name: node.text("Name")?.to_owned(), created: node.text("CreationDate").and_then(date::parse_iso8601) })
    };
    let all: Option<Vec<Bucket>> =
        root.child("Buckets").map_or(Some(Vec::new()), |list| list.all("Bucket").map(bucket).collect());
    Some((all?, root.text("ContinuationToken").filter(|token| !token.is_empty()).map(str::to_owned)))
}

/// Reads `GetBucketLocation`: nothing is the first region, and `EU` the old name of another.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html>
#[must_use]
pub fn location(body: &[u8]) -> Option<String> {
    let root = parse(body)?;
    let text = match root.name.as_str() {
        "LocationConstraint" => &root.text,
        // SeaweedFS answers with what creates a bucket.
        _ => root.text("LocationConstraint")?,
    };
    Some(match text.trim() {
        "" => "us-east-1".to_owned(),
        "EU" => "eu-west-1".to_owned(),
        other => other.to_owned(),
    })
}

/// One key's failure in the answer to `DeleteObjects`: key, code, words.
pub type DeleteFailure = (String, String, String);

/// Reads the failures of a `DeleteObjects`.
#[must_use]
pub fn delete_failures(body: &[u8]) -> Option<Vec<DeleteFailure>> {
    let root = parse(body).filter(|root| root.name == "DeleteResult")?;
    let text = |node: &Node, name| node.text(name).unwrap_or_default().to_owned();
    Some(root.all("Error").map(|error| (text(error, "Key"), text(error, "Code"), text(error, "Message"))).collect())
}

/// The body of a `DeleteObjects`, quiet.
#[must_use]
pub fn delete_request(keys: &[DeleteKey]) -> String {
    let object = |DeleteKey { key, etag }: &DeleteKey| {
        let etag = etag.as_ref().map(|etag| element("ETag", &etag.quoted())).unwrap_or_default();
        format!("<Object>{}{etag}</Object>", element("Key", key.as_str()))
    };
    let objects: String = keys.iter().map(object).collect();
    format!("<Delete xmlns=\"{NAMESPACE}\"><Quiet>true</Quiet>{objects}</Delete>")
}

/// The body of a `CompleteMultipartUpload`; checksums only when the store verifies them.
#[must_use]
pub fn complete_request(parts: &[Part], with_checksums: bool) -> String {
    let part = |part: &Part| {
        let checksum = part.crc64nvme.filter(|_| with_checksums);
        let checksum = checksum.map(|sum| element(CRC64NVME, &sum.to_string())).unwrap_or_default();
        let etag = escaped(&part.etag.quoted());
        format!("<Part><ETag>{etag}</ETag>{checksum}<PartNumber>{}</PartNumber></Part>", part.number.get())
    };
    let parts: String = parts.iter().map(part).collect();
    format!("<CompleteMultipartUpload xmlns=\"{NAMESPACE}\">{parts}</CompleteMultipartUpload>")
}

/// The body of a `RestoreObject`.
#[must_use]
pub fn restore_request(request: &RestoreObject) -> String {
    let days = request.days.map(|days| format!("<Days>{days}</Days>")).unwrap_or_default();
    let tier = request.tier.map(|tier| tier.as_str());
    let tier = match (tier, request.days) {
        (None, _) => String::new(),
        (Some(tier), Some(_)) => format!("<GlacierJobParameters><Tier>{tier}</Tier></GlacierJobParameters>"),
        (Some(tier), None) => format!("<Tier>{tier}</Tier>"),
    };
    format!("<RestoreRequest xmlns=\"{NAMESPACE}\">{days}{tier}</RestoreRequest>")
}

/// The body of a `CreateBucket` elsewhere than in us-east-1.
#[must_use]
pub fn location_request(location: &str) -> String {
    format!(
        "<CreateBucketConfiguration xmlns=\"{NAMESPACE}\"><LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>",
        escaped(location)
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn uploads_as_stores_write_them() {
        let bucket = BucketName::new("bucket").unwrap();
        let body = |encoding: &str, key: &str, marker: &str| {
            format!(
                "<ListMultipartUploadsResult>{encoding}<IsTruncated>true</IsTruncated><NextKeyMarker>{marker}</NextKeyMarker>\
                 <NextUploadIdMarker>i</NextUploadIdMarker><Upload><Key>{key}</Key><UploadId>i</UploadId>\
                 <Initiated>2020-01-01T00:00:00Z</Initiated></Upload></ListMultipartUploadsResult>"
            )
        };
        for (encoding, key, marker, asked) in [
            ("", "up/x y", "up/x y", false),
            ("", "up/x%20y", "up/x y", true),
            ("<EncodingType>url</EncodingType>", "up%2Fx+y", "up%2Fx+y", true),
        ] {
            let page = uploads_page(body(encoding, key, marker).as_bytes(), &bucket, asked).unwrap();
            assert_eq!(page.uploads[0].0.key.as_str(), "up/x y");
            assert_eq!(page.next, Some(("up/x y".to_owned(), "i".to_owned())));
        }
    }

    #[test]
    fn locations_as_stores_write_them() {
        for (body, expected) in [
            ("<?xml version='1.0'?><LocationConstraint xmlns='x'>eu-west-3</LocationConstraint>", Some("eu-west-3")),
            ("<LocationConstraint xmlns='x'/>", Some("us-east-1")),
            ("<LocationConstraint>EU</LocationConstraint>", Some("eu-west-1")),
            (
                "<CreateBucketConfiguration><LocationConstraint></LocationConstraint></CreateBucketConfiguration>",
                Some("us-east-1"),
            ),
            ("<html></html>", None),
            ("nonsense", None),
        ] {
            assert_eq!(location(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn errors_in_and_out_of_a_200() {
        let body = b"  \n<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>Reduce &lt;it&gt;</Message><RequestId>R</RequestId></Error>";
        let error = error_document(body).unwrap();
        assert_eq!(
            (error.code.as_str(), error.message.as_str(), error.request_id.as_deref()),
            ("SlowDown", "Reduce <it>", Some("R"))
        );
        assert_eq!(error_document(b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>"), None);
        assert_eq!(result_etag(b"<CopyObjectResult><ETag>&#34;x&#34;</ETag></CopyObjectResult>"), Some(ETag::new("x")));
    }

    #[test]
    fn restores_by_class() {
        use crate::store::{ObjectRef, RestoreTier};
        let object = ObjectRef::current(BucketName::new("bucket").unwrap(), Key::new("k").unwrap());
        let text = restore_request(&RestoreObject { object: object.clone(), days: Some(5), tier: Some(RestoreTier::Bulk) });
        assert!(text.contains("<Days>5</Days><GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters>"), "{text}");
        let text = restore_request(&RestoreObject { object, days: None, tier: Some(RestoreTier::Bulk) });
        assert!(!text.contains("Days") && text.contains("<Tier>Bulk</Tier>"), "{text}");
    }

    proptest! {
        #[test]
        fn any_key_that_xml_can_hold_survives_a_delete_request(text in "\\PC{1,20}|[\\r\\n\\t<>&\"' ]{1,8}") {
            prop_assume!(crate::base::xml::can_hold(&text));
            let key = Key::new(&text).unwrap();
            let root = parse(delete_request(&[DeleteKey { key, etag: None }]).as_bytes()).unwrap();
            prop_assert_eq!(root.child("Object").unwrap().text("Key").unwrap(), text);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (error_document(&bytes), parts_page(&bytes), buckets(&bytes), location(&bytes));
        }
    }
}
