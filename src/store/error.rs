//! The one error of the store: a closed kind, named by what the caller does about it, and the story for people.
//! Pure. No code matches on message text.

use std::fmt;

/// What went wrong, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No such object (and the store said so itself).
    NotFound,
    /// No such bucket.
    NoBucket,
    /// No such multipart upload: completed, aborted, or never there.
    NoUpload,
    /// `If-None-Match: *` failed, or the bucket exists.
    Exists,
    /// `If-Match` or a source condition failed.
    Changed,
    /// The bucket still has keys.
    NotEmpty,
    /// The credentials do not allow it.
    Denied,
    /// The credentials have expired.
    Expired,
    /// The credentials are wrong: unknown key, bad signature, or none where some are needed.
    Rejected,
    /// The object is archived and must be restored first.
    Archived,
    /// A restore is under way already.
    RestoreOngoing,
    /// The store asks for fewer requests.
    Busy,
    /// The store failed inside (5xx).
    Unavailable,
    /// No answer within the deadline.
    TimedOut,
    /// No connection could be made.
    Unreachable,
    /// The account's quota is used up.
    OverQuota,
    /// The store's disks are full.
    StoreFull,
    /// The store does not do this.
    Unsupported,
    /// The request makes no sense to the store.
    Invalid,
    /// Larger than the store takes.
    TooLarge,
    /// Bytes arrived that are not what was sent: wrong length or checksum.
    Corrupt,
    /// The answer is not S3's.
    NotS3,
}

/// Whether the store may have carried out the request all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Definitely not applied.
    NotApplied,
    /// Sent, and nobody knows: look before believing either.
    Unknown,
    /// Carried out, but what the store has now is not what it should have: never to be taken for done, nor sent again as it is.
    Damaged,
}

/// What was asked of the store: one name for each request kind, in logs, counters and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are S3's own")]
pub enum Operation {
    HeadObject,
    GetObject,
    ListObjectsV2,
    PutObject,
    DeleteObject,
    DeleteObjects,
    CopyObject,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    ListMultipartUploads,
    RestoreObject,
    HeadBucket,
    GetBucketLocation,
    ListBuckets,
    CreateBucket,
    DeleteBucket,
    GetObjectAcl,
    PutObjectAcl,
    GetBucketAcl,
    PutBucketAcl,
    GetObjectTagging,
    PutObjectTagging,
    DeleteObjectTagging,
    GetBucketTagging,
    PutBucketTagging,
    DeleteBucketTagging,
    GetBucketCors,
    PutBucketCors,
    DeleteBucketCors,
    GetBucketLifecycleConfiguration,
    PutBucketLifecycleConfiguration,
    DeleteBucketLifecycle,
    GetBucketPolicy,
    PutBucketPolicy,
    DeleteBucketPolicy,
    GetBucketVersioning,
    PutBucketVersioning,
    GetBucketOwnershipControls,
    PutBucketOwnershipControls,
    DeleteBucketOwnershipControls,
    GetPublicAccessBlock,
    PutPublicAccessBlock,
    DeletePublicAccessBlock,
    ListObjectVersions,
}

impl Operation {
    /// Every operation, in the order of their numbers.
    pub const ALL: [Self; 48] = [
        Self::HeadObject,
        Self::GetObject,
        Self::ListObjectsV2,
        Self::PutObject,
        Self::DeleteObject,
        Self::DeleteObjects,
        Self::CopyObject,
        Self::CreateMultipartUpload,
        Self::UploadPart,
        Self::UploadPartCopy,
        Self::CompleteMultipartUpload,
        Self::AbortMultipartUpload,
        Self::ListParts,
        Self::ListMultipartUploads,
        Self::RestoreObject,
        Self::HeadBucket,
        Self::GetBucketLocation,
        Self::ListBuckets,
        Self::CreateBucket,
        Self::DeleteBucket,
        Self::GetObjectAcl,
        Self::PutObjectAcl,
        Self::GetBucketAcl,
        Self::PutBucketAcl,
        Self::GetObjectTagging,
        Self::PutObjectTagging,
        Self::DeleteObjectTagging,
        Self::GetBucketTagging,
        Self::PutBucketTagging,
        Self::DeleteBucketTagging,
        Self::GetBucketCors,
        Self::PutBucketCors,
        Self::DeleteBucketCors,
        Self::GetBucketLifecycleConfiguration,
        Self::PutBucketLifecycleConfiguration,
        Self::DeleteBucketLifecycle,
        Self::GetBucketPolicy,
        Self::PutBucketPolicy,
        Self::DeleteBucketPolicy,
        Self::GetBucketVersioning,
        Self::PutBucketVersioning,
        Self::GetBucketOwnershipControls,
        Self::PutBucketOwnershipControls,
        Self::DeleteBucketOwnershipControls,
        Self::GetPublicAccessBlock,
        Self::PutPublicAccessBlock,
        Self::DeletePublicAccessBlock,
        Self::ListObjectVersions,
    ];
}

impl Operation {
    /// Whether what it sends is what a person has asked for: then a refusal is about that, and not about this program.
    #[must_use]
    pub const fn is_asked_for(self) -> bool {
        matches!(
            self,
            Self::RestoreObject
                | Self::CopyObject
                | Self::CreateBucket
                | Self::PutObjectAcl
                | Self::PutBucketAcl
                | Self::PutObjectTagging
                | Self::PutBucketTagging
                | Self::PutBucketCors
                | Self::PutBucketLifecycleConfiguration
                | Self::PutBucketPolicy
                | Self::PutBucketVersioning
                | Self::PutBucketOwnershipControls
                | Self::PutPublicAccessBlock
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A request that failed, with all that is known about it. One pointer wide.
pub struct Error(Box<Story>);

/// The facts of a failed request.
#[derive(Debug)]
pub struct Story {
    /// What to do about it.
    pub kind: ErrorKind,
    /// What was asked.
    pub operation: Operation,
    /// On what: `bucket/key`, `bucket`, or empty for the account.
    pub target: String,
    /// Whether it may have happened all the same.
    pub outcome: Outcome,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// S3's error code (`NoSuchKey`), when there was one.
    pub code: Option<String>,
    /// S3's or our own words.
    pub message: String,
    /// `x-amz-request-id`, for the store's support.
    pub request_id: Option<String>,
    /// How long the store asked us to wait (`Retry-After`), in seconds.
    pub retry_after_s: Option<u64>,
    /// How often it was tried.
    pub attempts: u32,
    /// The error below, when there is one.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`, not applied, tried once.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: Operation, target: impl fmt::Display, message: impl Into<String>) -> Self {
        Self(Box::new(Story {
            kind,
            operation,
            target: target.to_string(),
            outcome: Outcome::NotApplied,
            status: None,
            code: None,
            message: message.into(),
            request_id: None,
            retry_after_s: None,
            attempts: 1,
            source: None,
        }))
    }

    /// Changes some of the facts while the error is built.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Story)) -> Self {
        change(&mut self.0);
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether it may have happened all the same.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// All the facts.
    #[must_use]
    pub fn story(&self) -> &Story {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let story = &*self.0;
        write!(f, "{}", story.operation)?;
        if !story.target.is_empty() {
            write!(f, " of '{}'", story.target)?;
        }
        write!(f, " failed: {}", story.message)?;
        let facts = [
            story.status.map(|status| format!("HTTP {status}")),
            story.code.clone(),
            story.request_id.as_ref().map(|id| format!("request id {id}")),
            (story.attempts > 1).then(|| format!("{} attempts", story.attempts)),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        if facts.is_empty() { Ok(()) } else { write!(f, " ({})", facts.join(", ")) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_its_story_in_one_line() {
        let error = Error::new(ErrorKind::Denied, Operation::PutObject, "b/k", "no permission").with(|story| {
            story.status = Some(403);
            story.code = Some("AccessDenied".into());
            story.request_id = Some("R1".into());
            story.attempts = 2;
        });
        assert_eq!(
            error.to_string(),
            "PutObject of 'b/k' failed: no permission (HTTP 403, AccessDenied, request id R1, 2 attempts)"
        );
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
