//! What S3 keeps beside the bytes and headers of an object or a bucket: access lists, tags, configurations. Pure.
//!
//! Each is a sub-resource with a document: typed where the program works with what is in it (grants, tags), else the
//! configuration as JSON in the shape of the AWS CLI, in which nothing is lost that we do not know.

mod access;
mod check;
mod config;
#[cfg(test)]
mod round_trips;
mod tags;

use std::fmt;

pub use access::{Acl, AclChange, CannedAcl, Grant, Grantee, Owner, Permission};
pub use config::{ConfigDocument, ConfigKind, DocumentError};
pub use tags::Tags;

use super::Operation;
use super::types::{BucketName, Key, ObjectRef, VersionId};

/// A bucket, or an object in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The bucket.
    pub bucket: BucketName,
    /// The object; without, it is the bucket itself.
    pub key: Option<Key>,
    /// A version of the object, or the current one.
    pub version: Option<VersionId>,
}

impl From<BucketName> for Resource {
    fn from(bucket: BucketName) -> Self {
        Self { bucket, key: None, version: None }
    }
}

impl From<ObjectRef> for Resource {
    fn from(object: ObjectRef) -> Self {
        Self { bucket: object.bucket, key: Some(object.key), version: object.version }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}/{key}", self.bucket),
            None => write!(f, "{}", self.bucket),
        }
    }
}

/// What can be asked of a resource beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subresource {
    /// `?acl`, of objects and buckets.
    Acl,
    /// `?tagging`, of objects and buckets.
    Tagging,
    /// A configuration of a bucket.
    Config(ConfigKind),
}

impl Subresource {
    /// Its name in a request's query.
    #[must_use]
    pub const fn query(self) -> &'static str {
        match self {
            Self::Acl => "acl",
            Self::Tagging => "tagging",
            Self::Config(kind) => kind.query(),
        }
    }
}

/// What a request does with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads it.
    Get,
    /// Sets it as a whole.
    Put,
    /// Drops it.
    Delete,
}

/// Whether a sub-resource is an object's or a bucket's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// A bucket's.
    Bucket,
    /// An object's.
    Object,
}

/// What a request about a document is counted as; one that S3 does not have, as the nearest.
pub(crate) fn operation(subresource: Subresource, verb: Verb, resource: &Resource) -> Operation {
    let named = subresource.operation(verb, resource.level()).or_else(|| subresource.operation(Verb::Get, resource.level()));
    named.unwrap_or(Operation::HeadBucket)
}

impl Resource {
    /// What it is.
    #[must_use]
    pub const fn level(&self) -> Level {
        if self.key.is_some() { Level::Object } else { Level::Bucket }
    }
}

impl Subresource {
    /// S3's name of a request; `None` when there is no such request.
    #[must_use]
    pub const fn operation(self, verb: Verb, level: Level) -> Option<Operation> {
        use ConfigKind as C;
        use Level as L;
        use Operation as O;
        Some(match (self, level, verb) {
            (Self::Acl, L::Object, Verb::Get) => O::GetObjectAcl,
            (Self::Acl, L::Object, Verb::Put) => O::PutObjectAcl,
            (Self::Acl, L::Bucket, Verb::Get) => O::GetBucketAcl,
            (Self::Acl, L::Bucket, Verb::Put) => O::PutBucketAcl,
            (Self::Tagging, L::Object, Verb::Get) => O::GetObjectTagging,
            (Self::Tagging, L::Object, Verb::Put) => O::PutObjectTagging,
            (Self::Tagging, L::Object, Verb::Delete) => O::DeleteObjectTagging,
            (Self::Tagging, L::Bucket, Verb::Get) => O::GetBucketTagging,
            (Self::Tagging, L::Bucket, Verb::Put) => O::PutBucketTagging,
            (Self::Tagging, L::Bucket, Verb::Delete) => O::DeleteBucketTagging,
            (Self::Config(C::Cors), L::Bucket, Verb::Get) => O::GetBucketCors,
            (Self::Config(C::Cors), L::Bucket, Verb::Put) => O::PutBucketCors,
            (Self::Config(C::Cors), L::Bucket, Verb::Delete) => O::DeleteBucketCors,
            (Self::Config(C::Lifecycle), L::Bucket, Verb::Get) => O::GetBucketLifecycleConfiguration,
            (Self::Config(C::Lifecycle), L::Bucket, Verb::Put) => O::PutBucketLifecycleConfiguration,
            (Self::Config(C::Lifecycle), L::Bucket, Verb::Delete) => O::DeleteBucketLifecycle,
            (Self::Config(C::Policy), L::Bucket, Verb::Get) => O::GetBucketPolicy,
            (Self::Config(C::Policy), L::Bucket, Verb::Put) => O::PutBucketPolicy,
            (Self::Config(C::Policy), L::Bucket, Verb::Delete) => O::DeleteBucketPolicy,
            (Self::Config(C::Versioning), L::Bucket, Verb::Get) => O::GetBucketVersioning,
            (Self::Config(C::Versioning), L::Bucket, Verb::Put) => O::PutBucketVersioning,
            (Self::Config(C::OwnershipControls), L::Bucket, Verb::Get) => O::GetBucketOwnershipControls,
            (Self::Config(C::OwnershipControls), L::Bucket, Verb::Put) => O::PutBucketOwnershipControls,
            (Self::Config(C::OwnershipControls), L::Bucket, Verb::Delete) => O::DeleteBucketOwnershipControls,
            (Self::Config(C::PublicAccessBlock), L::Bucket, Verb::Get) => O::GetPublicAccessBlock,
            (Self::Config(C::PublicAccessBlock), L::Bucket, Verb::Put) => O::PutPublicAccessBlock,
            (Self::Config(C::PublicAccessBlock), L::Bucket, Verb::Delete) => O::DeletePublicAccessBlock,
            _ => return None,
        })
    }
}

/// The document of a sub-resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Who may do what.
    Acl(Acl),
    /// S3's name for a usual list; only to be set.
    CannedAcl(CannedAcl),
    /// Tags.
    Tags(Tags),
    /// A configuration.
    Config(ConfigDocument),
}

impl Document {
    /// What it is the document of.
    #[must_use]
    pub const fn subresource(&self) -> Subresource {
        match self {
            Self::Acl(_) | Self::CannedAcl(_) => Subresource::Acl,
            Self::Tags(_) => Subresource::Tagging,
            Self::Config(config) => Subresource::Config(config.kind()),
        }
    }

    /// The body of a request that sets it.
    #[must_use]
    pub fn to_body(&self) -> String {
        match self {
            Self::Acl(acl) => acl.to_xml(),
            // Named by a header.
            Self::CannedAcl(_) => String::new(),
            Self::Tags(tags) => tags.to_xml(),
            Self::Config(config) => config.to_body(),
        }
    }

    /// Reads the answer to a request for it; `None` when it is something else.
    #[must_use]
    pub fn from_body(subresource: Subresource, body: &[u8]) -> Option<Self> {
        match subresource {
            Subresource::Acl => Acl::from_xml(body).map(Self::Acl),
            Subresource::Tagging => Tags::from_xml(body).map(Self::Tags),
            Subresource::Config(kind) => ConfigDocument::from_body(kind, body).map(Self::Config),
        }
    }
}

/// The namespace of S3's documents.
pub(crate) const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
