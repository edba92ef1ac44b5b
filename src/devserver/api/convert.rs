//! Between the words of `s3s` and those of the store. Pure.

use std::time::SystemTime;

use http::StatusCode;
use s3s::dto::{self, ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::base::crc::Crc64;
use crate::store::{BucketName, Condition, ETag, Error, Key, MAX_KEY_BYTES, ObjectRef, Upload, UploadId, VersionId};

/// The store's refusal as S3 answers it.
#[expect(clippy::needless_pass_by_value, reason = "map_err gives the value")]
pub(super) fn refuse(error: Error) -> S3Error {
    let story = error.story();
    let code = story.code.as_deref().and_then(|code| S3ErrorCode::from_bytes(code.as_bytes()));
    let mut answer = S3Error::with_message(code.unwrap_or(S3ErrorCode::InternalError), story.message.clone());
    if let Some(status) = story.status.and_then(|status| StatusCode::from_u16(status).ok()) {
        answer.set_status_code(status);
    }
    answer
}

/// 400 `InvalidArgument`.
pub(super) fn invalid(message: impl Into<String>) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, message.into())
}

/// A checksum that was sent.
pub(super) fn crc64nvme(text: &str) -> S3Result<Crc64> {
    let message = "Value for x-amz-checksum-crc64nvme header is invalid.";
    Crc64::parse(text).ok_or_else(|| S3Error::with_message(S3ErrorCode::InvalidRequest, message))
}

/// 412.
pub(super) fn precondition_failed(which: &str) -> S3Error {
    let message = format!("At least one of the pre-conditions you specified did not hold: {which}");
    S3Error::with_message(S3ErrorCode::PreconditionFailed, message)
}

pub(super) fn bucket(name: &str) -> S3Result<BucketName> {
    BucketName::new(name).map_err(|error| S3Error::with_message(S3ErrorCode::InvalidBucketName, error.to_string()))
}

pub(super) fn key(text: &str) -> S3Result<Key> {
    Key::new(text).map_err(|error| {
        let code = if text.len() > MAX_KEY_BYTES { S3ErrorCode::KeyTooLongError } else { S3ErrorCode::InvalidURI };
        S3Error::with_message(code, error.to_string())
    })
}

pub(super) fn object(bucket_name: &str, key_text: &str, version: Option<&str>) -> S3Result<ObjectRef> {
    Ok(ObjectRef { bucket: bucket(bucket_name)?, key: key(key_text)?, version: version.map(VersionId::new) })
}

pub(super) fn upload(bucket_name: &str, key_text: &str, id: &str) -> S3Result<Upload> {
    Ok(Upload { bucket: bucket(bucket_name)?, key: key(key_text)?, id: UploadId::new(id), declares_checksums: false })
}

/// The tag of a condition; `*` for any.
pub(super) fn tag(condition: &ETagCondition) -> ETag {
    ETag::new(condition.as_etag().map_or("*", dto::ETag::value))
}

/// What a changing request asks of the object that is there.
pub(super) fn condition(if_match: Option<&ETagCondition>, if_none_match: Option<&ETagCondition>) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::None),
        (Some(tags), None) => Ok(Condition::IfMatch(tag(tags))),
        (None, Some(tags)) if tags.is_any() => Ok(Condition::IfAbsent),
        _ => {
            let message = "A header you provided implies functionality that is not implemented.";
            Err(S3Error::with_message(S3ErrorCode::NotImplemented, message))
        }
    }
}

pub(super) fn strong(tag: &ETag) -> dto::ETag {
    dto::ETag::Strong(tag.as_str().to_owned())
}

pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

/// S3's numbers are signed; nothing here is longer than they hold.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
