//! The refusals of S3 by its own codes and statuses, before anybody knows which request they belong to.
//! Pure. The embedded server answers with exactly these codes.

use std::fmt;

use crate::store::{Error, ErrorKind, Operation};

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    kind: ErrorKind,
    status: u16,
    code: &'static str,
    message: &'static str,
}

/// What the inner functions return.
pub(super) type Outcome<T> = Result<T, Failure>;

impl Failure {
    const fn new(kind: ErrorKind, status: u16, code: &'static str, message: &'static str) -> Self {
        Self { kind, status, code, message }
    }

    /// The store's error for `operation` on `target`.
    pub(super) fn of(self, operation: Operation, target: impl fmt::Display) -> Error {
        Error::new(self.kind, operation, target, self.message).with(|story| {
            story.status = Some(self.status);
            story.code = Some(self.code.to_owned());
        })
    }
}

pub(super) const NO_SUCH_KEY: Failure = Failure::new(ErrorKind::NotFound, 404, "NoSuchKey", "The specified key does not exist.");
pub(super) const NO_SUCH_VERSION: Failure =
    Failure::new(ErrorKind::NotFound, 404, "NoSuchVersion", "The specified version does not exist.");
pub(super) const NO_SUCH_BUCKET: Failure =
    Failure::new(ErrorKind::NoBucket, 404, "NoSuchBucket", "The specified bucket does not exist.");
pub(super) const NO_SUCH_UPLOAD: Failure = Failure::new(
    ErrorKind::NoUpload,
    404,
    "NoSuchUpload",
    "The specified multipart upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
);
/// `If-None-Match: *` met an object.
pub(super) const OBJECT_EXISTS: Failure = Failure::new(
    ErrorKind::Exists,
    412,
    "PreconditionFailed",
    "At least one of the pre-conditions you specified did not hold: If-None-Match",
);
/// `If-Match` met another object.
pub(super) const OBJECT_CHANGED: Failure = Failure::new(
    ErrorKind::Changed,
    412,
    "PreconditionFailed",
    "At least one of the pre-conditions you specified did not hold: If-Match",
);
/// `If-Match` of a changing request met nothing: S3 says `NoSuchKey`, and to the caller it is a change.
pub(super) const OBJECT_GONE: Failure = Failure::new(ErrorKind::Changed, 404, "NoSuchKey", "The specified key does not exist.");
pub(super) const BUCKET_EXISTS: Failure = Failure::new(
    ErrorKind::Exists,
    409,
    "BucketAlreadyOwnedByYou",
    "Your previous request to create the named bucket succeeded and you already own it.",
);
pub(super) const BUCKET_NOT_EMPTY: Failure =
    Failure::new(ErrorKind::NotEmpty, 409, "BucketNotEmpty", "The bucket you tried to delete is not empty.");
pub(super) const ACL_DISABLED: Failure =
    Failure::new(ErrorKind::Unsupported, 400, "AccessControlListNotSupported", "The bucket does not allow ACLs");
pub(super) const UNKNOWN_EMAIL: Failure = Failure::new(
    ErrorKind::Invalid,
    400,
    "UnresolvableGrantByEmailAddress",
    "The e-mail address you provided does not match any account on record.",
);
/// S3 has no such request.
pub(super) const NO_OPERATION: Failure =
    Failure::new(ErrorKind::Unsupported, 405, "MethodNotAllowed", "The specified method is not allowed against this resource.");
pub(super) const INVALID_STORAGE_CLASS: Failure =
    Failure::new(ErrorKind::Invalid, 400, "InvalidStorageClass", "The storage class you specified is not valid");
pub(super) const INVALID_LOCATION: Failure = Failure::new(
    ErrorKind::Invalid,
    400,
    "InvalidLocationConstraint",
    "The specified location-constraint is not valid: us-east-1 is not sent.",
);
pub(super) const INVALID_RANGE: Failure =
    Failure::new(ErrorKind::Invalid, 416, "InvalidRange", "The requested range is not satisfiable");
pub(super) const INVALID_COPY_RANGE: Failure = Failure::new(
    ErrorKind::Invalid,
    400,
    "InvalidArgument",
    "Range specified is not valid for source object: it is past the end.",
);
pub(super) const CONDITION_SENSELESS: Failure =
    Failure::new(ErrorKind::Invalid, 501, "NotImplemented", "A DELETE cannot ask that there be nothing.");
pub(super) const TOO_LARGE: Failure = Failure::new(
    ErrorKind::TooLarge,
    400,
    "EntityTooLarge",
    "Your proposed upload exceeds the maximum allowed size of 5368709120 bytes.",
);
pub(super) const COPY_TOO_LARGE: Failure = Failure::new(
    ErrorKind::TooLarge,
    400,
    "InvalidRequest",
    "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120",
);
pub(super) const METADATA_TOO_LARGE: Failure = Failure::new(
    ErrorKind::Invalid,
    400,
    "MetadataTooLarge",
    "Your metadata headers exceed the maximum allowed metadata size of 2048 bytes.",
);
pub(super) const NO_LOCKS: Failure =
    Failure::new(ErrorKind::Invalid, 400, "InvalidRequest", "Bucket is missing Object Lock Configuration");
pub(super) const RETENTION_OVER: Failure =
    Failure::new(ErrorKind::Invalid, 400, "InvalidArgument", "The retain until date must be in the future!");
pub(super) const TOO_MANY_TAGS: Failure =
    Failure::new(ErrorKind::Invalid, 400, "BadRequest", "Object tags cannot be greater than 10");
pub(super) const INVALID_TAG: Failure =
    Failure::new(ErrorKind::Invalid, 400, "InvalidTag", "The TagKey or TagValue you have provided is invalid");
pub(super) const UNKNOWN_GROUP: Failure = Failure::new(ErrorKind::Invalid, 400, "InvalidArgument", "Invalid group uri");
pub(super) const MALFORMED: Failure = Failure::new(
    ErrorKind::Invalid,
    400,
    "MalformedXML",
    "The XML you provided was not well-formed or did not validate against our published schema",
);
/// `BlockPublicAcls` met one.
pub(super) const PUBLIC_ACL: Failure = Failure::new(
    ErrorKind::Denied,
    403,
    "AccessDenied",
    "Access Denied: public access control lists are prevented by the BlockPublicAcls setting in S3 Block Public Access.",
);
pub(super) const SELF_COPY: Failure = Failure::new(
    ErrorKind::Invalid,
    400,
    "InvalidRequest",
    "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
);
pub(super) const ARCHIVED: Failure =
    Failure::new(ErrorKind::Archived, 403, "InvalidObjectState", "The operation is not valid for the object's storage class");
pub(super) const NOT_ARCHIVED: Failure =
    Failure::new(ErrorKind::Invalid, 403, "InvalidObjectState", "Restore is not allowed for the object's current storage class");
pub(super) const NO_EXPEDITED: Failure =
    Failure::new(ErrorKind::Invalid, 400, "InvalidArgument", "The Expedited retrieval tier is not available for DEEP_ARCHIVE.");
pub(super) const WRONG_DAYS: Failure = Failure::new(
    ErrorKind::Invalid,
    400,
    "MalformedXML",
    "Days must be given, except for INTELLIGENT_TIERING, which takes none.",
);
pub(super) const RESTORE_ONGOING: Failure =
    Failure::new(ErrorKind::RestoreOngoing, 409, "RestoreAlreadyInProgress", "Object restore is already in progress");
pub(super) const PART_ORDER: Failure = Failure::new(
    ErrorKind::Invalid,
    400,
    "InvalidPartOrder",
    "The list of parts was not in ascending order. Parts must be ordered by part number.",
);
pub(super) const WRONG_PART: Failure = Failure::new(
    ErrorKind::Invalid,
    400,
    "InvalidPart",
    "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.",
);
pub(super) const WRONG_SIZE: Failure = Failure::new(
    ErrorKind::Invalid,
    400,
    "InvalidRequest",
    "The provided 'x-amz-mp-object-size' header does not match what was computed.",
);
pub(super) const WRONG_SUM: Failure =
    Failure::new(ErrorKind::Corrupt, 400, "BadDigest", "The crc64nvme you specified did not match the calculated checksum.");
pub(super) const PART_TOO_SMALL: Failure =
    Failure::new(ErrorKind::Invalid, 400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size");
pub(super) const NO_PARTS: Failure = Failure::new(
    ErrorKind::Invalid,
    400,
    "MalformedXML",
    "The XML you provided was not well-formed or did not validate against our published schema",
);
pub(super) const TOO_MANY_KEYS: Failure =
    Failure::new(ErrorKind::Invalid, 400, "MalformedXML", "A DeleteObjects takes at most 1,000 keys.");
pub(super) const WRONG_TOKEN: Failure =
    Failure::new(ErrorKind::Invalid, 400, "InvalidArgument", "The continuation token provided is incorrect");
