//! The waist of the program: what a file system needs of an object store, as two traits, and the contract in words.
//!
//! The layers above speak only these traits; [`crate::s3`] implements them over HTTP, [`Memory`] in memory, and wrappers
//! compose: `Retry<Limit<Recorded<Traced<S3Store>>>>`. Retry is outermost, so that back-off holds no permit; Recorded is below
//! it, so that no attempt to begin an upload is unknown; Traced is innermost, so that each attempt is one count and is signed
//! afresh.
//!
//! # Contract, for every implementation
//!
//! - **Atomicity.** `put`, `copy` and `complete_upload` replace the whole object (bytes and properties) at once or not at
//!   all; nobody ever sees a mixture, and a failed or cancelled call leaves the old object.
//! - **Read after write.** When a call has returned `Ok`, every later `get`, `head` and `list` of any client sees it.
//! - **Conditions.** A [`Condition`] is checked by the store together with the change. When it fails nothing has happened:
//!   [`ErrorKind::Exists`] for `IfAbsent`, [`ErrorKind::Changed`] for `IfMatch` (also when there is no object any more).
//!   A store that ignores a condition cannot be told from here; who depends on it looks (see the S3 dialect).
//! - **Pinned reads.** `get` with `if_match` gives bytes of that tag or [`ErrorKind::Changed`]. The answer's own tag is
//!   compared too, since some stores ignore the condition.
//! - **Order.** `list` gives keys and prefixes ascending by UTF-8 bytes where the store does; the caller must not lose
//!   entries when it does not.
//! - **Errors.** [`Error::outcome`] is [`Outcome::NotApplied`] only when the store definitely did not carry the request
//!   out. A request that was sent and not answered is `Unknown`; one that has made something else than was asked for, as
//!   the checksum in its answer shows, is [`Outcome::Damaged`].
//! - **Cancellation.** Dropping a future abandons the request; for a changing one its outcome is then unknown.
//! - **Lengths.** A body that ends early is a transport error, never a short success; one whose bytes are wrong is
//!   [`ErrorKind::Corrupt`], and its last bytes are never given out.

mod body;
mod documents;
mod error;
pub mod fault;
pub mod limit;
pub mod memory;
pub mod retry;
pub mod traced;
mod types;
mod uploads;

use std::future::Future;
use std::time::Duration;

pub use body::{Body, Download};
pub use documents::{
    Acl, AclChange, CannedAcl, ConfigDocument, ConfigKind, Document, DocumentError, Grant, Grantee, Level, Owner, Permission,
    Resource, Subresource, Tags, Verb,
};
pub(crate) use documents::{NAMESPACE, operation};
pub use error::{Error, ErrorKind, Operation, Outcome, Story};
pub use fault::Fault;
pub use limit::Limit;
pub use memory::Memory;
pub use retry::{Retry, RetryPolicy};
pub use traced::Traced;
pub use types::*;
pub use uploads::{Place, Recorded, Swept, Uploads};

/// What every call returns.
pub type Result<T> = std::result::Result<T, Error>;

/// The data plane: objects and uploads. See the [module's](self) contract.
pub trait ObjectStore: Clone + Send + Sync + 'static {
    /// HEAD: all that is known about an object.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none, [`ErrorKind::NoBucket`].
    fn head(&self, request: &HeadObject) -> impl Future<Output = Result<ObjectInfo>> + Send;

    /// GET: the answer's headers, then its bytes as a stream. The future ends when the headers are there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Changed`] by `if_match`, [`ErrorKind::Archived`], [`ErrorKind::Invalid`] for a
    /// range that begins past the end. The stream fails with [`ErrorKind::Corrupt`] or a transport error.
    fn get(&self, request: &GetObject) -> impl Future<Output = Result<Download>> + Send;

    /// One page of keys and common prefixes. It may be no page after all, which shows when it is read.
    ///
    /// # Errors
    /// [`ErrorKind::NoBucket`], [`ErrorKind::Denied`]. Never a shorter page in place of an error.
    fn list(&self, request: &ListObjects) -> impl Future<Output = Result<UnreadPage>> + Send;

    /// PUT of a whole object.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] or [`ErrorKind::Changed`] by the condition, [`ErrorKind::TooLarge`].
    fn put(&self, request: &PutObject) -> impl Future<Output = Result<Committed>> + Send;

    /// DELETE of an object; what is not there counts as deleted unless a condition asks for it.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`] by the condition.
    fn delete(&self, request: &DeleteObject) -> impl Future<Output = Result<()>> + Send;

    /// `DeleteObjects`: up to 1,000 keys (more are refused as `Invalid`); one answer for each, in the same order. What is not
    /// there counts as deleted, also where a tag was asked for.
    ///
    /// # Errors
    /// When the request as a whole failed; each key's own failure is in the answer: [`ErrorKind::Changed`] by its tag.
    fn delete_many(&self, bucket: &BucketName, keys: &[DeleteKey]) -> impl Future<Output = Result<Vec<Result<()>>>> + Send;

    /// `CopyObject` inside the store. A copy onto itself must replace the properties.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without a source, [`ErrorKind::Changed`] by either condition, [`ErrorKind::Exists`],
    /// [`ErrorKind::Archived`], [`ErrorKind::TooLarge`] over 5 GiB.
    fn copy(&self, request: &CopyObject) -> impl Future<Output = Result<Committed>> + Send;

    /// Begins a multipart upload. Nothing is visible before [`ObjectStore::complete_upload`].
    ///
    /// # Errors
    /// [`ErrorKind::NoBucket`], [`ErrorKind::Denied`].
    fn create_upload(&self, request: &CreateUpload) -> impl Future<Output = Result<Upload>> + Send;

    /// Sends one part. The same part sent again replaces it, so this may be repeated at will.
    ///
    /// # Errors
    /// [`ErrorKind::NoUpload`].
    fn upload_part(&self, request: &UploadPart) -> impl Future<Output = Result<Part>> + Send;

    /// Makes one part of a range of an existing object.
    ///
    /// # Errors
    /// [`ErrorKind::NoUpload`], [`ErrorKind::NotFound`], [`ErrorKind::Changed`].
    fn copy_part(&self, request: &CopyPart) -> impl Future<Output = Result<Part>> + Send;

    /// Makes the object of its parts, atomically.
    ///
    /// # Errors
    /// [`ErrorKind::NoUpload`], [`ErrorKind::Exists`] or [`ErrorKind::Changed`] by the condition (the upload stays),
    /// [`ErrorKind::Invalid`] for wrong or too small parts, [`ErrorKind::Corrupt`] when they do not add up to
    /// [`CompleteUpload::crc64nvme`].
    fn complete_upload(&self, request: &CompleteUpload) -> impl Future<Output = Result<Committed>> + Send;

    /// Gives an upload up and frees its parts.
    ///
    /// # Errors
    /// [`ErrorKind::NoUpload`] when it is not there (any more).
    fn abort_upload(&self, upload: &Upload) -> impl Future<Output = Result<()>> + Send;

    /// The parts that an upload has, all pages, ascending.
    ///
    /// # Errors
    /// [`ErrorKind::NoUpload`].
    fn list_parts(&self, upload: &Upload) -> impl Future<Output = Result<Vec<Part>>> + Send;

    /// One page of the uploads in progress whose keys begin with `prefix`, after the given markers.
    ///
    /// # Errors
    /// [`ErrorKind::NoBucket`], [`ErrorKind::Denied`].
    fn list_uploads(
        &self,
        bucket: &BucketName,
        prefix: &Prefix,
        after: Option<(String, String)>,
    ) -> impl Future<Output = Result<UploadPage>> + Send;
}

/// The control plane: buckets and what is not bytes. See the [module's](self) contract.
pub trait BucketService: Clone + Send + Sync + 'static {
    /// All buckets of the account.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`].
    fn list_buckets(&self) -> impl Future<Output = Result<Vec<Bucket>>> + Send;

    /// Whether the bucket is there and may be used, and where it lies.
    ///
    /// # Errors
    /// [`ErrorKind::NoBucket`], [`ErrorKind::Denied`].
    fn head_bucket(&self, bucket: &BucketName) -> impl Future<Output = Result<BucketInfo>> + Send;

    /// Where the bucket lies, by the store's name for it. (`head_bucket` says it too, on most stores.)
    ///
    /// # Errors
    /// [`ErrorKind::NoBucket`], [`ErrorKind::Denied`].
    fn location(&self, bucket: &BucketName) -> impl Future<Output = Result<String>> + Send;

    /// Makes a bucket.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] when the name is taken, by anybody. (Some stores answer `Ok` for one's own.)
    fn create_bucket(&self, bucket: &BucketName, new: NewBucket<'_>) -> impl Future<Output = Result<()>> + Send;

    /// Removes an empty bucket.
    ///
    /// # Errors
    /// [`ErrorKind::NotEmpty`], [`ErrorKind::NoBucket`].
    fn delete_bucket(&self, bucket: &BucketName) -> impl Future<Output = Result<()>> + Send;

    /// Asks for a readable copy of an archived object, or extends one that is there.
    ///
    /// # Errors
    /// [`ErrorKind::RestoreOngoing`], [`ErrorKind::Invalid`] when the object is not archived,
    /// [`ErrorKind::Unsupported`] where the store has no archive.
    fn restore(&self, request: &RestoreObject) -> impl Future<Output = Result<()>> + Send;

    /// The newest versions of one key, up to a page, newest first; without versions the object alone, or nothing.
    ///
    /// # Errors
    /// [`ErrorKind::NoBucket`], [`ErrorKind::Denied`], [`ErrorKind::Unsupported`].
    fn list_versions(&self, object: &ObjectRef) -> impl Future<Output = Result<Vec<ObjectVersion>>> + Send;

    /// An address from which anybody can get the object for a while. No request is made.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] without credentials, [`ErrorKind::Invalid`] for a time that is not 1 second to 7 days,
    /// [`ErrorKind::Unsupported`] for a store that has no address.
    fn presign(&self, object: &ObjectRef, valid: Duration) -> impl Future<Output = Result<String>> + Send;

    /// The document of a sub-resource; `None` when there is none. (An access list is never absent.)
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::NoBucket`], [`ErrorKind::Denied`], [`ErrorKind::Unsupported`] where the store
    /// has no such thing, or the resource has not.
    fn get_document(
        &self,
        resource: &Resource,
        subresource: Subresource,
    ) -> impl Future<Output = Result<Option<Document>>> + Send;

    /// Replaces the document of a sub-resource as a whole. S3 has no condition for it: the last one counts.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for one that the store does not take, [`ErrorKind::Unsupported`] also for access lists of a
    /// bucket that has them disabled, [`ErrorKind::NotFound`], [`ErrorKind::NoBucket`], [`ErrorKind::Denied`].
    fn put_document(&self, resource: &Resource, document: &Document) -> impl Future<Output = Result<()>> + Send;

    /// Drops the document of a sub-resource; what is not there counts as dropped.
    ///
    /// # Errors
    /// As for [`BucketService::get_document`].
    fn delete_document(&self, resource: &Resource, subresource: Subresource) -> impl Future<Output = Result<()>> + Send;

    /// What is known of the store so far, and what this program has under way there. No request is made.
    fn report(&self) -> Report {
        Report::default()
    }
}
