//! Counts and logs every attempt of every request: the innermost wrapper, so that a retry is seen as what it is.

#![deny(clippy::missing_trait_methods)]

use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt as _;

use super::*;
use crate::base::clock;
use crate::telemetry::counters::Counters;

/// A store whose attempts are counted in [`Counters`] and logged at debug level.
#[derive(Debug, Clone)]
pub struct Traced<S> {
    inner: S,
    counters: Arc<Counters>,
}

impl<S> Traced<S> {
    /// Wraps `inner`.
    #[must_use]
    pub const fn new(inner: S, counters: Arc<Counters>) -> Self {
        Self { inner, counters }
    }

    async fn trace<T>(&self, operation: Operation, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let begun = clock::instant();
        let answer = call.await;
        self.counters.request(operation as usize, answer.is_ok());
        let elapsed_ms = u64::try_from(clock::instant().duration_since(begun).as_millis()).unwrap_or(u64::MAX);
        match &answer {
            Ok(_) => tracing::debug!(%operation, elapsed_ms, "request"),
            Err(error) => tracing::debug!(%operation, elapsed_ms, %error, "request"),
        }
        answer
    }
}

impl<S: ObjectStore> Traced<S> {
    async fn get_counting(&self, request: &GetObject) -> Result<Download> {
        let Download { info, range, mut body } = self.trace(Operation::GetObject, self.inner.get(request)).await?;
        let counters = Arc::clone(&self.counters);
        let counted = futures_util::stream::poll_fn(move |context| body.poll_next(context)).inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                counters.received(chunk.len() as u64);
            }
        });
        Ok(Download { info, range, body: Body::new(counted) })
    }
}

impl<S: ObjectStore> ObjectStore for Traced<S> {
    async fn head(&self, request: &HeadObject) -> Result<ObjectInfo> {
        self.trace(Operation::HeadObject, self.inner.head(request)).await
    }

    async fn get(&self, request: &GetObject) -> Result<Download> {
        self.get_counting(request).await
    }

    async fn list(&self, request: &ListObjects) -> Result<UnreadPage> {
        self.trace(Operation::ListObjectsV2, self.inner.list(request)).await
    }

    async fn put(&self, request: &PutObject) -> Result<Committed> {
        self.counters.sent(request.payload.len());
        self.trace(Operation::PutObject, self.inner.put(request)).await
    }

    async fn delete(&self, request: &DeleteObject) -> Result<()> {
        self.trace(Operation::DeleteObject, self.inner.delete(request)).await
    }

    async fn delete_many(&self, bucket: &BucketName, keys: &[DeleteKey]) -> Result<Vec<Result<()>>> {
        self.trace(Operation::DeleteObjects, self.inner.delete_many(bucket, keys)).await
    }

    async fn copy(&self, request: &CopyObject) -> Result<Committed> {
        self.trace(Operation::CopyObject, self.inner.copy(request)).await
    }

    async fn create_upload(&self, request: &CreateUpload) -> Result<Upload> {
        self.trace(Operation::CreateMultipartUpload, self.inner.create_upload(request)).await
    }

    async fn upload_part(&self, request: &UploadPart) -> Result<Part> {
        self.counters.sent(request.payload.len());
        self.trace(Operation::UploadPart, self.inner.upload_part(request)).await
    }

    async fn copy_part(&self, request: &CopyPart) -> Result<Part> {
        self.trace(Operation::UploadPartCopy, self.inner.copy_part(request)).await
    }

    async fn complete_upload(&self, request: &CompleteUpload) -> Result<Committed> {
        self.trace(Operation::CompleteMultipartUpload, self.inner.complete_upload(request)).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        self.trace(Operation::AbortMultipartUpload, self.inner.abort_upload(upload)).await
    }

    async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        self.trace(Operation::ListParts, self.inner.list_parts(upload)).await
    }

    async fn list_uploads(&self, bucket: &BucketName, prefix: &Prefix, after: Option<(String, String)>) -> Result<UploadPage> {
        self.trace(Operation::ListMultipartUploads, self.inner.list_uploads(bucket, prefix, after)).await
    }
}

impl<S: BucketService> BucketService for Traced<S> {
    async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        self.trace(Operation::ListBuckets, self.inner.list_buckets()).await
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo> {
        self.trace(Operation::HeadBucket, self.inner.head_bucket(bucket)).await
    }

    async fn location(&self, bucket: &BucketName) -> Result<String> {
        self.trace(Operation::GetBucketLocation, self.inner.location(bucket)).await
    }

    async fn create_bucket(&self, bucket: &BucketName, new: NewBucket<'_>) -> Result<()> {
        self.trace(Operation::CreateBucket, self.inner.create_bucket(bucket, new)).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<()> {
        self.trace(Operation::DeleteBucket, self.inner.delete_bucket(bucket)).await
    }

    async fn restore(&self, request: &RestoreObject) -> Result<()> {
        self.trace(Operation::RestoreObject, self.inner.restore(request)).await
    }

    async fn list_versions(&self, object: &ObjectRef) -> Result<Vec<ObjectVersion>> {
        self.trace(Operation::ListObjectVersions, self.inner.list_versions(object)).await
    }

    async fn presign(&self, object: &ObjectRef, valid: Duration) -> Result<String> {
        self.inner.presign(object, valid).await
    }

    async fn get_document(&self, resource: &Resource, subresource: Subresource) -> Result<Option<Document>> {
        let operation = operation(subresource, Verb::Get, resource);
        self.trace(operation, self.inner.get_document(resource, subresource)).await
    }

    async fn put_document(&self, resource: &Resource, document: &Document) -> Result<()> {
        let operation = operation(document.subresource(), Verb::Put, resource);
        self.trace(operation, self.inner.put_document(resource, document)).await
    }

    async fn delete_document(&self, resource: &Resource, subresource: Subresource) -> Result<()> {
        let operation = operation(subresource, Verb::Delete, resource);
        self.trace(operation, self.inner.delete_document(resource, subresource)).await
    }

    fn report(&self) -> Report {
        self.inner.report()
    }
}
