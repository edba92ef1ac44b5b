//! Copies inside the store: whole objects, and ranges that become parts.

use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, ETagCondition, MetadataDirective, Timestamp,
    UploadPartCopyInput, UploadPartCopyOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::convert::{condition, invalid, object, precondition_failed, refuse, strong, tag, timestamp, upload};
use super::objects::modified_since;
use super::uploads::part_number;
use super::{Answer, properties};
use crate::base::clock;
use crate::store::memory::{CopyProperties, Memory};
use crate::store::{ByteRange, CopyObject, CopyPart, ETag, HeadObject, ObjectInfo, ObjectRef, ObjectStore as _};

/// What a copy asks of its source.
struct SourceConditions<'a> {
    if_match: Option<&'a ETagCondition>,
    if_none_match: Option<&'a ETagCondition>,
    modified_since: Option<&'a Timestamp>,
    unmodified_since: Option<&'a Timestamp>,
}

impl SourceConditions<'_> {
    /// Checks those that the store does not check together with the copy.
    fn check(&self, source: &ObjectInfo) -> S3Result<()> {
        let has = |wanted: &ETagCondition| wanted.is_any() || tag(wanted) == source.etag;
        if self.if_none_match.is_some_and(has) {
            return Err(precondition_failed("x-amz-copy-source-If-None-Match"));
        }
        // A matching tag overrides the date, and so does the tag that must not match.
        let too_new = |since: &&Timestamp| modified_since(source, since);
        if self.if_match.is_none() && self.unmodified_since.as_ref().is_some_and(too_new) {
            return Err(precondition_failed("x-amz-copy-source-If-Unmodified-Since"));
        }
        if self.if_none_match.is_none() && self.modified_since.is_some_and(|since| !modified_since(source, since)) {
            return Err(precondition_failed("x-amz-copy-source-If-Modified-Since"));
        }
        Ok(())
    }

    fn tag(&self) -> Option<ETag> {
        self.if_match.map(tag)
    }
}

fn source(from: &CopySource) -> S3Result<ObjectRef> {
    match from {
        CopySource::Bucket { bucket, key, version_id } => object(bucket, key, version_id.as_deref()),
        _ => Err(S3Error::with_message(S3ErrorCode::NotImplemented, "There are no access points here.")),
    }
}

/// A header of the destination's condition, which `s3s` does not parse for copies.
fn etag_condition(headers: &http::HeaderMap, name: &http::HeaderName) -> S3Result<Option<ETagCondition>> {
    let parse = |value: &http::HeaderValue| {
        ETagCondition::parse_http_header(value.as_bytes()).map_err(|_| invalid(format!("{name} is not an entity tag")))
    };
    headers.get(name).map(parse).transpose()
}

pub(super) async fn copy(memory: &Memory, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
    let input = &req.input;
    let conditions = SourceConditions {
        if_match: input.copy_source_if_match.as_ref(),
        if_none_match: input.copy_source_if_none_match.as_ref(),
        modified_since: input.copy_source_if_modified_since.as_ref(),
        unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
    };
    let from = source(&input.copy_source)?;
    let info = memory.head(&HeadObject { object: from.clone() }).await.map_err(refuse)?;
    conditions.check(&info)?;
    let to = object(&input.bucket, &input.key, None)?;
    let replace = input.metadata_directive.as_ref().is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
    let properties = if replace {
        let properties = properties::read(&req.headers)?;
        // Tags have a directive of their own.
        let replaces_tags = input.tagging_directive.as_ref().is_some_and(|directive| directive.as_str() == "REPLACE");
        let tags = replaces_tags.then(|| properties.tags.unwrap_or_default());
        CopyProperties::Replace(Box::new(crate::store::Properties { tags, ..properties }))
    } else {
        CopyProperties::Keep { class: properties::storage_class(&req.headers)? }
    };
    let if_match = etag_condition(&req.headers, &http::header::IF_MATCH)?;
    let if_none_match = etag_condition(&req.headers, &http::header::IF_NONE_MATCH)?;
    let request = CopyObject {
        source: from,
        source_if_match: conditions.tag(),
        source_unchanged_since: None,
        bucket: to.bucket,
        key: to.key,
        replace: None,
        condition: condition(if_match.as_ref(), if_none_match.as_ref())?,
    };
    let made = memory.copy_now(&request, &properties).map_err(refuse)?;
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(CopyObjectResult {
            e_tag: Some(strong(&made.etag)),
            last_modified: Some(timestamp(made.last_modified)),
            checksum_crc64nvme: made.checksums.get("crc64nvme").cloned(),
            ..CopyObjectResult::default()
        }),
        ..CopyObjectOutput::default()
    }))
}

pub(super) async fn copy_part(memory: &Memory, input: UploadPartCopyInput) -> Answer<UploadPartCopyOutput> {
    let conditions = SourceConditions {
        if_match: input.copy_source_if_match.as_ref(),
        if_none_match: input.copy_source_if_none_match.as_ref(),
        modified_since: input.copy_source_if_modified_since.as_ref(),
        unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
    };
    let from = source(&input.copy_source)?;
    let info = memory.head(&HeadObject { object: from.clone() }).await.map_err(refuse)?;
    conditions.check(&info)?;
    let range = match &input.copy_source_range {
        Some(text) => parse_range(text)?,
        None => ByteRange::new(0, info.size).ok_or_else(|| invalid("An empty source has no part."))?,
    };
    let request = CopyPart {
        upload: upload(&input.bucket, &input.key, &input.upload_id)?,
        number: part_number(input.part_number)?,
        source: from,
        source_if_match: conditions.tag(),
        range,
    };
    let part = memory.copy_part_now(&request).map_err(refuse)?;
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(CopyPartResult {
            e_tag: Some(strong(&part.etag)),
            last_modified: Some(timestamp(clock::now())),
            checksum_crc64nvme: part.crc64nvme.map(|sum| sum.to_string()),
            ..CopyPartResult::default()
        }),
        ..UploadPartCopyOutput::default()
    }))
}

/// `bytes=FIRST-LAST`: both are needed here.
fn parse_range(text: &str) -> S3Result<ByteRange> {
    let parse = || {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        ByteRange::new(first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?)
    };
    parse().ok_or_else(|| {
        invalid("The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
    })
}
