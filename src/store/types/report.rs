//! What a store tells of itself without being asked over the network: for `status`.

use std::time::SystemTime;

use super::{BucketName, Key, UploadId};

/// What is known of a store, and what this program has under way there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What it was found to lack, or to do otherwise than S3: one sentence each.
    pub differs: Vec<String>,
    /// The uploads in progress, oldest first.
    pub uploads: Vec<OpenUpload>,
    /// Uploads that may be left over, and are not aborted by themselves.
    pub strays: Vec<Stray>,
    /// Why uploads are not recorded on the disk, when they should be.
    pub unrecorded: Option<String>,
}

/// A multipart upload in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: Key,
    /// The id.
    pub id: UploadId,
    /// When it was begun, by the local clock.
    pub begun: SystemTime,
    /// Parts that the store has.
    pub parts: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// An upload that may be left over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: Key,
    /// The id, where it is known.
    pub id: Option<UploadId>,
    /// When it was begun.
    pub begun: SystemTime,
    /// Why it is there still.
    pub why: String,
}
