//! GET, HEAD, PUT, DELETE and restore of objects.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use s3s::dto::{
    ChecksumType, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETagCondition,
    Error, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, ObjectIdentifier, PutObjectInput, PutObjectOutput,
    Range, RestoreObjectInput, RestoreObjectOutput, StreamingBlob, Timestamp,
};
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, StdError};

use super::convert::{condition, invalid, object, precondition_failed, refuse, signed, strong, tag, timestamp};
use super::receive::{self, Delivery};
use super::{Answer, properties};
use crate::base::date;
use crate::store::memory::{Memory, Reader, Restored};
use crate::store::{
    ByteRange, Condition, DeleteObject, GetObject, HeadObject, MAX_PAGE_KEYS, ObjectInfo, ObjectRef, ObjectStore as _, PutObject,
    RestoreObject, RestoreTier,
};

/// The bytes of an answer, with their number.
struct Slices(Reader);

impl Stream for Slices {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

impl ByteStream for Slices {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.0.remaining()).map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}

/// What a reading request asks of the object.
struct Asked<'a> {
    if_match: Option<&'a ETagCondition>,
    if_none_match: Option<&'a ETagCondition>,
    if_modified_since: Option<&'a Timestamp>,
    if_unmodified_since: Option<&'a Timestamp>,
}

impl Asked<'_> {
    /// The precedence is that of RFC 9110: tags before dates.
    fn check(&self, info: &ObjectInfo) -> S3Result<()> {
        let has = |wanted: &ETagCondition| wanted.is_any() || tag(wanted) == info.etag;
        let modified = timestamp(info.last_modified);
        match (self.if_match, self.if_unmodified_since) {
            (Some(tags), _) if !has(tags) => return Err(precondition_failed("If-Match")),
            (None, Some(since)) if modified > *since => return Err(precondition_failed("If-Unmodified-Since")),
            _ => {}
        }
        match (self.if_none_match, self.if_modified_since) {
            (Some(tags), _) if has(tags) => Err(S3ErrorCode::NotModified.into()),
            (None, Some(since)) if modified <= *since => Err(S3ErrorCode::NotModified.into()),
            _ => Ok(()),
        }
    }
}

/// The bytes that a range or part number means in an object; `None` for all.
fn resolve(info: &ObjectInfo, parts: &[u64], range: Option<&Range>, part: Option<i32>) -> S3Result<Option<ByteRange>> {
    let unsatisfiable = || S3Error::with_message(S3ErrorCode::InvalidRange, "The requested range is not satisfiable");
    if let Some(number) = part {
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1)).ok_or_else(|| invalid("partNumber"))?;
        // An object of a single PUT is its own only part.
        let parts = if parts.is_empty() { &[info.size][..] } else { parts };
        let len = *parts.get(index).ok_or_else(unsatisfiable)?;
        let start: u64 = parts[..index].iter().sum();
        return Ok(ByteRange::new(start, start + len));
    }
    let Some(range) = range else { return Ok(None) };
    let bytes = range.check(info.size).map_err(|_| unsatisfiable())?;
    ByteRange::new(bytes.start, bytes.end).map(Some).ok_or_else(unsatisfiable)
}

fn content_range(range: ByteRange, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start(), range.end() - 1)
}

pub(super) fn get(memory: &Memory, req: &S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
    let input = &req.input;
    let found = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    // Opened once without a range, so that conditions and range are about one and the same object.
    let whole = GetObject { object: found.clone(), range: None, if_match: None };
    let (info, _, reader) = memory.open_now(&whole).map_err(refuse)?;
    asked_of_get(input).check(&info)?;
    let parts = parts(memory, &found, input.part_number)?;
    let range = resolve(&info, &parts, input.range.as_ref(), input.part_number)?;
    let reader = match range {
        Some(range) => reader.narrow(range),
        None => reader,
    };
    let full = range.is_none_or(|range| range.len() == info.size);
    let sums = input.checksum_mode.as_ref().filter(|_| full).map(|_| receive::answer(&info.checksums)).unwrap_or_default();
    let mut headers = properties::write(&info);
    overridden(input, &mut headers);
    let output = GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(signed(reader.remaining())),
        content_range: range.map(|range| content_range(range, info.size)),
        e_tag: Some(strong(&info.etag)),
        last_modified: Some(timestamp(info.last_modified)),
        parts_count: parts_count(&parts),
        checksum_type: sums.checksum_crc64nvme.is_some().then(|| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        body: Some(StreamingBlob::new(Slices(reader))),
        ..GetObjectOutput::default()
    };
    Ok(S3Response::with_headers(output, headers))
}

fn asked_of_get(input: &GetObjectInput) -> Asked<'_> {
    Asked {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    }
}

/// `response-content-type` and the like take the place of the object's own; `s3s` adds them before our headers.
fn overridden(input: &GetObjectInput, headers: &mut http::HeaderMap) {
    let given = [
        (input.response_content_type.is_some(), http::header::CONTENT_TYPE),
        (input.response_cache_control.is_some(), http::header::CACHE_CONTROL),
        (input.response_content_disposition.is_some(), http::header::CONTENT_DISPOSITION),
        (input.response_content_encoding.is_some(), http::header::CONTENT_ENCODING),
        (input.response_content_language.is_some(), http::header::CONTENT_LANGUAGE),
        (input.response_expires.is_some(), http::header::EXPIRES),
    ];
    for (_, name) in given.into_iter().filter(|(given, _)| *given) {
        headers.remove(name);
    }
}

fn parts(memory: &Memory, found: &ObjectRef, part: Option<i32>) -> S3Result<Vec<u64>> {
    if part.is_some() { memory.part_sizes(found).map_err(refuse) } else { Ok(Vec::new()) }
}

fn parts_count(parts: &[u64]) -> Option<i32> {
    i32::try_from(parts.len()).ok().filter(|count| *count > 0)
}

pub(super) async fn head(memory: &Memory, req: &S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
    let input = &req.input;
    let found = object(&input.bucket, &input.key, input.version_id.as_deref())?;
    let info = memory.head(&HeadObject { object: found.clone() }).await.map_err(refuse)?;
    let asked = Asked {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    };
    asked.check(&info)?;
    let parts = parts(memory, &found, input.part_number)?;
    let range = resolve(&info, &parts, input.range.as_ref(), input.part_number)?;
    let sums = input.checksum_mode.as_ref().map(|_| receive::answer(&info.checksums)).unwrap_or_default();
    let output = HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(signed(range.map_or(info.size, ByteRange::len))),
        content_range: range.map(|range| content_range(range, info.size)),
        e_tag: Some(strong(&info.etag)),
        last_modified: Some(timestamp(info.last_modified)),
        parts_count: parts_count(&parts),
        checksum_type: sums.checksum_crc64nvme.is_some().then(|| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        ..HeadObjectOutput::default()
    };
    Ok(S3Response::with_headers(output, properties::write(&info)))
}

pub(super) async fn put(memory: &Memory, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
    let input = req.input;
    let found = object(&input.bucket, &input.key, None)?;
    if input.write_offset_bytes.is_some() {
        return Err(S3Error::with_message(S3ErrorCode::NotImplemented, "There is no append here."));
    }
    let properties = properties::read(&req.headers)?;
    let condition = condition(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let delivery = Delivery { body: input.body, headers: &req.headers, trailers: req.trailing_headers };
    let received = delivery.receive(memory.options().data).await?;
    let sums = receive::answer(&received.checksums);
    let request = PutObject { bucket: found.bucket, key: found.key, payload: received.payload, properties, condition };
    let info = memory.put_now(&request, received.checksums).map_err(refuse)?;
    Ok(S3Response::new(PutObjectOutput {
        e_tag: Some(strong(&info.etag)),
        checksum_type: Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        ..PutObjectOutput::default()
    }))
}

pub(super) async fn delete(memory: &Memory, input: DeleteObjectInput) -> Answer<DeleteObjectOutput> {
    let request = DeleteObject {
        object: object(&input.bucket, &input.key, input.version_id.as_deref())?,
        condition: condition(input.if_match.as_ref(), None)?,
    };
    memory.delete(&request).await.map_err(refuse)?;
    Ok(S3Response::with_status(DeleteObjectOutput::default(), StatusCode::NO_CONTENT))
}

pub(super) async fn delete_many(memory: &Memory, input: DeleteObjectsInput) -> Answer<DeleteObjectsOutput> {
    if input.delete.objects.len() > usize::from(MAX_PAGE_KEYS) {
        return Err(S3ErrorCode::MalformedXML.into());
    }
    let quiet = input.delete.quiet.unwrap_or(false);
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for one in input.delete.objects {
        match delete_one(memory, &input.bucket, &one).await {
            Ok(()) if quiet => {}
            Ok(()) => deleted.push(DeletedObject { key: Some(one.key), version_id: one.version_id, ..DeletedObject::default() }),
            Err(error) if *error.code() == S3ErrorCode::NoSuchBucket => return Err(error),
            Err(error) => errors.push(Error {
                code: Some(error.code().as_str().to_owned()),
                message: error.message().map(str::to_owned),
                key: Some(one.key),
                version_id: one.version_id,
            }),
        }
    }
    let output = DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), ..DeleteObjectsOutput::default() };
    Ok(S3Response::new(output))
}

async fn delete_one(memory: &Memory, bucket: &str, one: &ObjectIdentifier) -> S3Result<()> {
    let condition = one.e_tag.as_ref().map_or(Condition::None, |tag| Condition::IfMatch(crate::store::ETag::new(tag.value())));
    let object = object(bucket, &one.key, one.version_id.as_deref())?;
    memory.delete(&DeleteObject { object, condition }).await.map_err(refuse)
}

pub(super) fn restore(memory: &Memory, input: RestoreObjectInput) -> Answer<RestoreObjectOutput> {
    let asked = input.restore_request.ok_or(S3ErrorCode::MalformedXML)?;
    let tier = asked.glacier_job_parameters.map(|parameters| parameters.tier).or(asked.tier);
    let tier = tier.map(|tier| RestoreTier::parse(tier.as_str()).ok_or(S3ErrorCode::MalformedXML)).transpose()?;
    let days = asked.days.map(|days| u32::try_from(days).map_err(|_| invalid("Days must be positive."))).transpose()?;
    let request = RestoreObject { object: object(&input.bucket, &input.key, input.version_id.as_deref())?, days, tier };
    let restored = memory.restore_now(&request).map_err(refuse)?;
    let status = match restored {
        Restored::Begun => StatusCode::ACCEPTED,
        Restored::Extended => StatusCode::OK,
    };
    Ok(S3Response::with_status(RestoreObjectOutput::default(), status))
}

/// The dates of a copy's source conditions, which `s3s` has parsed and the store does not know.
pub(super) fn modified_since(info: &ObjectInfo, since: &Timestamp) -> bool {
    let whole = date::from_unix(date::to_unix(info.last_modified).0, 0).unwrap_or(info.last_modified);
    timestamp(whole) > *since
}
