//! From an HTTP status and S3's code to the store's error. Pure.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>

use super::xml::ErrorDocument;
use crate::store::{Error, ErrorKind, Operation, Outcome};

/// What is known of a failed answer.
#[derive(Debug)]
pub struct Refusal<'a> {
    /// What was asked.
    pub operation: Operation,
    /// On what.
    pub target: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// The error document, if the body was one.
    pub document: Option<ErrorDocument>,
    /// The answer carries headers of S3's, or the store has proved to be one before.
    pub is_s3: bool,
    /// `x-amz-request-id`
    pub request_id: Option<String>,
    /// `Retry-After` in seconds.
    pub retry_after_s: Option<u64>,
    /// The request carried `If-None-Match: *`.
    pub wanted_absence: bool,
    /// The request carried `If-Match` or a source condition.
    pub wanted_match: bool,
    /// The request was about an object.
    pub has_key: bool,
}

/// Whether a request changes nothing, so that it can never have been applied by mistake.
#[must_use]
pub const fn is_reading(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::HeadObject
            | Operation::GetObject
            | Operation::ListObjectsV2
            | Operation::ListParts
            | Operation::ListMultipartUploads
            | Operation::HeadBucket
            | Operation::ListBuckets
            | Operation::GetBucketLocation
            | Operation::ListObjectVersions
            | Operation::GetObjectAcl
            | Operation::GetBucketAcl
            | Operation::GetObjectTagging
            | Operation::GetBucketTagging
            | Operation::GetBucketCors
            | Operation::GetBucketLifecycleConfiguration
            | Operation::GetBucketPolicy
            | Operation::GetBucketVersioning
            | Operation::GetBucketOwnershipControls
            | Operation::GetPublicAccessBlock
    )
}

/// Whether the only thing that can be missing is the upload.
const fn is_about_an_upload(operation: Operation) -> bool {
    matches!(operation, Operation::ListParts | Operation::UploadPart | Operation::AbortMultipartUpload)
}

/// The store's error for a refused request.
#[must_use]
pub fn from_refusal(refusal: Refusal<'_>) -> Error {
    let code = refusal.document.as_ref().map(|document| document.code.clone()).filter(|code| !code.is_empty());
    let kind = kind_of(&refusal, code.as_deref());
    // S3 says 503 before it does anything. Somebody between may say it after.
    let refused = refusal.status == 503 && code.is_some();
    let unknown = matches!(kind, ErrorKind::Unavailable | ErrorKind::TimedOut) && !refused;
    let outcome = if unknown && !is_reading(refusal.operation) { Outcome::Unknown } else { Outcome::NotApplied };
    let said = refusal.document.as_ref().map(|document| document.message.clone()).filter(|message| !message.is_empty());
    let message = said.unwrap_or_else(|| words(kind).to_owned());
    Error::new(kind, refusal.operation, refusal.target, message).with(|story| {
        story.outcome = outcome;
        story.status = Some(refusal.status);
        story.code = code;
        story.request_id = refusal.request_id.or_else(|| refusal.document.and_then(|document| document.request_id));
        story.retry_after_s = refusal.retry_after_s;
    })
}

fn kind_of(refusal: &Refusal<'_>, code: Option<&str>) -> ErrorKind {
    if let Some(kind) = code.and_then(|code| by_code(code, refusal)) {
        return kind;
    }
    let answered_by_s3 = refusal.is_s3 || code.is_some();
    match refusal.status {
        404 if !answered_by_s3 => ErrorKind::NotS3,
        404 if refusal.wanted_match && !is_reading(refusal.operation) => ErrorKind::Changed,
        404 if refusal.has_key => ErrorKind::NotFound,
        404 => ErrorKind::NoBucket,
        401 | 403 => ErrorKind::Denied,
        405 | 501 => ErrorKind::Unsupported,
        408 | 504 => ErrorKind::TimedOut,
        409 | 412 => conflict(refusal),
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::Busy,
        507 => ErrorKind::StoreFull,
        500..=599 => ErrorKind::Unavailable,
        400..=499 if answered_by_s3 => ErrorKind::Invalid,
        _ => ErrorKind::NotS3,
    }
}

const fn conflict(refusal: &Refusal<'_>) -> ErrorKind {
    if refusal.wanted_absence {
        ErrorKind::Exists
    } else if refusal.wanted_match {
        ErrorKind::Changed
    } else {
        ErrorKind::Invalid
    }
}

fn by_code(code: &str, refusal: &Refusal<'_>) -> Option<ErrorKind> {
    Some(match code {
        // radosgw's word for an upload that is not there.
        "NoSuchKey" if is_about_an_upload(refusal.operation) => ErrorKind::NoUpload,
        "NoSuchKey" | "NoSuchVersion" if refusal.wanted_match && !is_reading(refusal.operation) => ErrorKind::Changed,
        "NoSuchKey" | "NoSuchVersion" => ErrorKind::NotFound,
        "NoSuchBucket" => ErrorKind::NoBucket,
        "NoSuchUpload" => ErrorKind::NoUpload,
        "PreconditionFailed" | "ConditionalRequestConflict" => conflict(refusal),
        "BucketAlreadyExists" | "BucketAlreadyOwnedByYou" => ErrorKind::Exists,
        "BucketNotEmpty" => ErrorKind::NotEmpty,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => ErrorKind::Denied,
        "ExpiredToken" | "TokenRefreshRequired" | "ExpiredTokenException" => ErrorKind::Expired,
        "SignatureDoesNotMatch"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "InvalidSecurity"
        | "NotSignedUp"
        | "RequestTimeTooSkewed"
        | "AuthorizationHeaderMalformed"
        | "MissingSecurityHeader" => ErrorKind::Rejected,
        "InvalidObjectState" | "ObjectNotInActiveTierError" => match refusal.operation {
            // A restore of what is not archived has the same code.
            Operation::RestoreObject => ErrorKind::Invalid,
            _ => ErrorKind::Archived,
        },
        "RestoreAlreadyInProgress" => ErrorKind::RestoreOngoing,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded" => ErrorKind::Busy,
        "RequestTimeout" => ErrorKind::TimedOut,
        "InternalError" | "ServiceUnavailable" => ErrorKind::Unavailable,
        "QuotaExceeded" | "TooManyBuckets" => ErrorKind::OverQuota,
        // A bucket of that name is being made or removed at this moment.
        "OperationAborted" => ErrorKind::Busy,
        "InsufficientStorage" | "XMinioStorageFull" | "InsufficientCapacity" => ErrorKind::StoreFull,
        "NotImplemented" | "MethodNotAllowed" | "AccessControlListNotSupported" => ErrorKind::Unsupported,
        "EntityTooLarge" => ErrorKind::TooLarge,
        "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" | "InvalidDigest" | "XAmzContentChecksumMismatch" => {
            ErrorKind::Corrupt
        }
        _ => return None,
    })
}

const fn words(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "there is no such object",
        ErrorKind::NoBucket => "there is no such bucket",
        ErrorKind::NoUpload => "there is no such upload",
        ErrorKind::Exists => "there is one already",
        ErrorKind::Changed => "the object is another one now",
        ErrorKind::Denied => "access denied",
        ErrorKind::NotS3 => "what answered is not an S3 store",
        ErrorKind::Unsupported => "the store does not support it",
        ErrorKind::Unavailable => "the store failed",
        ErrorKind::Busy => "the store is busy",
        ErrorKind::TimedOut => "no answer in time",
        _ => "the store refused it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(operation: Operation, status: u16, code: &str, absence: bool, matching: bool) -> Error {
        from_refusal(Refusal {
            operation,
            target: "b/k",
            status,
            document: (!code.is_empty()).then(|| ErrorDocument { code: code.into(), ..ErrorDocument::default() }),
            is_s3: true,
            request_id: None,
            retry_after_s: None,
            wanted_absence: absence,
            wanted_match: matching,
            has_key: true,
        })
    }

    #[test]
    fn kinds_by_status_and_code() {
        use ErrorKind as K;
        use Operation as O;
        for (operation, status, code, kind) in [
            (O::GetObject, 404, "NoSuchKey", K::NotFound),
            (O::HeadObject, 404, "", K::NotFound),
            (O::GetObject, 404, "NoSuchBucket", K::NoBucket),
            (O::UploadPart, 404, "NoSuchUpload", K::NoUpload),
            (O::GetObject, 403, "InvalidObjectState", K::Archived),
            (O::CopyObject, 403, "ObjectNotInActiveTierError", K::Archived),
            (O::RestoreObject, 403, "InvalidObjectState", K::Invalid),
            (O::RestoreObject, 409, "RestoreAlreadyInProgress", K::RestoreOngoing),
            (O::PutObject, 403, "SignatureDoesNotMatch", K::Rejected),
            (O::PutObject, 400, "ExpiredToken", K::Expired),
            (O::PutObject, 403, "", K::Denied),
            (O::PutObject, 503, "SlowDown", K::Busy),
            (O::PutObject, 500, "", K::Unavailable),
            (O::PutObject, 403, "QuotaExceeded", K::OverQuota),
            (O::PutObject, 501, "", K::Unsupported),
            (O::PutObject, 400, "BadDigest", K::Corrupt),
            (O::DeleteBucket, 409, "BucketNotEmpty", K::NotEmpty),
            (O::GetObject, 416, "InvalidRange", K::Invalid),
        ] {
            assert_eq!(error(operation, status, code, false, false).kind(), kind, "{operation} {status} {code}");
        }
        assert_eq!(error(O::PutObject, 412, "PreconditionFailed", true, false).kind(), K::Exists);
        assert_eq!(error(O::PutObject, 412, "PreconditionFailed", false, true).kind(), K::Changed);
        assert_eq!(error(O::PutObject, 404, "NoSuchKey", false, true).kind(), K::Changed);
        assert_eq!(error(O::GetObject, 412, "", false, true).kind(), K::Changed);
    }

    #[test]
    fn what_reads_is_told_by_its_name() {
        for operation in Operation::ALL {
            let name = operation.to_string();
            assert_eq!(is_reading(operation), ["Get", "Head", "List"].iter().any(|verb| name.starts_with(verb)), "{name}");
        }
    }

    #[test]
    fn only_what_may_have_happened_is_unknown() {
        let outcome = |operation, status, code| error(operation, status, code, false, false).outcome();
        assert_eq!(outcome(Operation::PutObject, 500, "InternalError"), Outcome::Unknown);
        assert_eq!(outcome(Operation::PutObject, 503, "SlowDown"), Outcome::NotApplied);
        assert_eq!(outcome(Operation::PutObject, 503, "ServiceUnavailable"), Outcome::NotApplied);
        assert_eq!(outcome(Operation::PutObject, 503, ""), Outcome::Unknown);
        assert_eq!(outcome(Operation::PutObject, 403, "AccessDenied"), Outcome::NotApplied);
        assert_eq!(outcome(Operation::GetObject, 500, ""), Outcome::NotApplied);
    }

    #[test]
    fn a_404_that_is_not_s3s_is_no_missing_file() {
        let refusal = Refusal {
            operation: Operation::HeadObject,
            target: "b/k",
            status: 404,
            document: None,
            is_s3: false,
            request_id: None,
            retry_after_s: None,
            wanted_absence: false,
            wanted_match: false,
            has_key: true,
        };
        assert_eq!(from_refusal(refusal).kind(), ErrorKind::NotS3);
    }
}
