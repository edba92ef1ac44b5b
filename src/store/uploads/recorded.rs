//! A store whose uploads are recorded: below the retries, so that each attempt is.

#![deny(clippy::missing_trait_methods)]

use std::time::Duration;

use super::{Stage, Uploads};
use crate::store::*;

/// A store whose uploads are known to [`Uploads`].
#[derive(Debug, Clone)]
pub struct Recorded<S> {
    inner: S,
    uploads: Uploads,
}

impl<S> Recorded<S> {
    /// Wraps `inner`.
    #[must_use]
    pub const fn new(inner: S, uploads: Uploads) -> Self {
        Self { inner, uploads }
    }
}

impl<S: ObjectStore> ObjectStore for Recorded<S> {
    async fn create_upload(&self, request: &CreateUpload) -> Result<Upload> {
        let number = self.uploads.ask(&request.bucket, &request.key).await;
        let begun = self.inner.create_upload(request).await;
        match &begun {
            Ok(upload) => self.uploads.begun(number, &upload.bucket, &upload.key, &upload.id).await,
            Err(error) if error.outcome() == Outcome::NotApplied => self.uploads.ended(number).await,
            Err(_) => self.uploads.unanswered(number),
        }
        begun
    }

    async fn upload_part(&self, request: &UploadPart) -> Result<Part> {
        let part = self.inner.upload_part(request).await?;
        self.uploads.has_part(&request.upload.id, part.number, part.size);
        Ok(part)
    }

    async fn copy_part(&self, request: &CopyPart) -> Result<Part> {
        let part = self.inner.copy_part(request).await?;
        self.uploads.has_part(&request.upload.id, part.number, part.size);
        Ok(part)
    }

    async fn complete_upload(&self, request: &CompleteUpload) -> Result<Committed> {
        let completed = self.inner.complete_upload(request).await;
        let Some(number) = self.uploads.number_of(&request.upload.id) else { return completed };
        match &completed {
            Ok(_) => self.uploads.ended(number).await,
            Err(error) if error.kind() == ErrorKind::NoUpload || error.outcome() == Outcome::Damaged => {
                self.uploads.ended(number).await;
            }
            Err(error) if error.outcome() == Outcome::Unknown => {
                self.uploads.set(number, |_| Stage::Doubtful(request.upload.id.clone()));
            }
            Err(_) => {}
        }
        completed
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        let aborted = self.inner.abort_upload(upload).await;
        let Some(number) = self.uploads.number_of(&upload.id) else { return aborted };
        match &aborted {
            Ok(()) => self.uploads.ended(number).await,
            Err(error) if error.kind() == ErrorKind::NoUpload => self.uploads.ended(number).await,
            Err(_) => self.uploads.set(number, |_| Stage::Abandoned(upload.id.clone())),
        }
        aborted
    }

    async fn head(&self, request: &HeadObject) -> Result<ObjectInfo> {
        self.inner.head(request).await
    }

    async fn get(&self, request: &GetObject) -> Result<Download> {
        self.inner.get(request).await
    }

    async fn list(&self, request: &ListObjects) -> Result<UnreadPage> {
        self.inner.list(request).await
    }

    async fn put(&self, request: &PutObject) -> Result<Committed> {
        self.inner.put(request).await
    }

    async fn delete(&self, request: &DeleteObject) -> Result<()> {
        self.inner.delete(request).await
    }

    async fn delete_many(&self, bucket: &BucketName, keys: &[DeleteKey]) -> Result<Vec<Result<()>>> {
        self.inner.delete_many(bucket, keys).await
    }

    async fn copy(&self, request: &CopyObject) -> Result<Committed> {
        self.inner.copy(request).await
    }

    async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.inner.list_parts(upload).await
    }

    async fn list_uploads(&self, bucket: &BucketName, prefix: &Prefix, after: Option<(String, String)>) -> Result<UploadPage> {
        self.inner.list_uploads(bucket, prefix, after).await
    }
}

impl<S: BucketService> BucketService for Recorded<S> {
    async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        self.inner.list_buckets().await
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo> {
        self.inner.head_bucket(bucket).await
    }

    async fn location(&self, bucket: &BucketName) -> Result<String> {
        self.inner.location(bucket).await
    }

    async fn create_bucket(&self, bucket: &BucketName, new: NewBucket<'_>) -> Result<()> {
        self.inner.create_bucket(bucket, new).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<()> {
        self.inner.delete_bucket(bucket).await
    }

    async fn restore(&self, request: &RestoreObject) -> Result<()> {
        self.inner.restore(request).await
    }

    async fn list_versions(&self, object: &ObjectRef) -> Result<Vec<ObjectVersion>> {
        self.inner.list_versions(object).await
    }

    async fn presign(&self, object: &ObjectRef, valid: Duration) -> Result<String> {
        self.inner.presign(object, valid).await
    }

    async fn get_document(&self, resource: &Resource, subresource: Subresource) -> Result<Option<Document>> {
        self.inner.get_document(resource, subresource).await
    }

    async fn put_document(&self, resource: &Resource, document: &Document) -> Result<()> {
        self.inner.put_document(resource, document).await
    }

    async fn delete_document(&self, resource: &Resource, subresource: Subresource) -> Result<()> {
        self.inner.delete_document(resource, subresource).await
    }

    fn report(&self) -> Report {
        self.uploads.report(self.inner.report())
    }
}
