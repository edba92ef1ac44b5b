//! Bounds the requests in flight. Bytes and metadata have slots of their own, so that a stat never queues behind
//! gigabytes; a GET holds its slot until its body has ended.

#![deny(clippy::missing_trait_methods)]

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::*;

/// Requests that carry bytes, in flight at once: beyond this, more connections bring no more throughput.
pub const MAX_BULK_REQUESTS: usize = 64;
/// Requests without bytes, in flight at once.
pub const MAX_SMALL_REQUESTS: usize = 64;

/// A store with a bounded number of requests in flight.
#[derive(Debug, Clone)]
pub struct Limit<S> {
    inner: S,
    bulk: Arc<Semaphore>,
    small: Arc<Semaphore>,
}

impl<S> Limit<S> {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: S) -> Self {
        let slots = |count| Arc::new(Semaphore::new(count));
        Self { inner, bulk: slots(MAX_BULK_REQUESTS), small: slots(MAX_SMALL_REQUESTS) }
    }

    async fn bulk(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.bulk).acquire_owned().await.expect("the semaphore is never closed")
    }

    async fn small(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.small).acquire_owned().await.expect("the semaphore is never closed")
    }
}

impl<S: ObjectStore> Limit<S> {
    async fn get_holding(&self, request: &GetObject) -> Result<Download> {
        let slot = self.bulk().await;
        let Download { info, range, mut body } = self.inner.get(request).await?;
        let held = futures_util::stream::poll_fn(move |context| {
            // The slot lives as long as the stream that owns it.
            let _slot = &slot;
            body.poll_next(context)
        });
        Ok(Download { info, range, body: Body::new(held) })
    }
}

impl<S: ObjectStore> ObjectStore for Limit<S> {
    async fn head(&self, request: &HeadObject) -> Result<ObjectInfo> {
        let _slot = self.small().await;
        self.inner.head(request).await
    }

    async fn get(&self, request: &GetObject) -> Result<Download> {
        self.get_holding(request).await
    }

    async fn list(&self, request: &ListObjects) -> Result<UnreadPage> {
        let _slot = self.small().await;
        self.inner.list(request).await
    }

    async fn put(&self, request: &PutObject) -> Result<Committed> {
        let _slot = self.bulk().await;
        self.inner.put(request).await
    }

    async fn delete(&self, request: &DeleteObject) -> Result<()> {
        let _slot = self.small().await;
        self.inner.delete(request).await
    }

    async fn delete_many(&self, bucket: &BucketName, keys: &[DeleteKey]) -> Result<Vec<Result<()>>> {
        let _slot = self.small().await;
        self.inner.delete_many(bucket, keys).await
    }

    async fn copy(&self, request: &CopyObject) -> Result<Committed> {
        let _slot = self.small().await;
        self.inner.copy(request).await
    }

    async fn create_upload(&self, request: &CreateUpload) -> Result<Upload> {
        let _slot = self.small().await;
        self.inner.create_upload(request).await
    }

    async fn upload_part(&self, request: &UploadPart) -> Result<Part> {
        let _slot = self.bulk().await;
        self.inner.upload_part(request).await
    }

    async fn copy_part(&self, request: &CopyPart) -> Result<Part> {
        let _slot = self.small().await;
        self.inner.copy_part(request).await
    }

    async fn complete_upload(&self, request: &CompleteUpload) -> Result<Committed> {
        let _slot = self.small().await;
        self.inner.complete_upload(request).await
    }

    async fn abort_upload(&self, upload: &Upload) -> Result<()> {
        let _slot = self.small().await;
        self.inner.abort_upload(upload).await
    }

    async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        let _slot = self.small().await;
        self.inner.list_parts(upload).await
    }

    async fn list_uploads(&self, bucket: &BucketName, prefix: &Prefix, after: Option<(String, String)>) -> Result<UploadPage> {
        let _slot = self.small().await;
        self.inner.list_uploads(bucket, prefix, after).await
    }
}

impl<S: BucketService> BucketService for Limit<S> {
    async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        let _slot = self.small().await;
        self.inner.list_buckets().await
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo> {
        let _slot = self.small().await;
        self.inner.head_bucket(bucket).await
    }

    async fn location(&self, bucket: &BucketName) -> Result<String> {
        let _slot = self.small().await;
        self.inner.location(bucket).await
    }

    async fn create_bucket(&self, bucket: &BucketName, new: NewBucket<'_>) -> Result<()> {
        let _slot = self.small().await;
        self.inner.create_bucket(bucket, new).await
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<()> {
        let _slot = self.small().await;
        self.inner.delete_bucket(bucket).await
    }

    async fn restore(&self, request: &RestoreObject) -> Result<()> {
        let _slot = self.small().await;
        self.inner.restore(request).await
    }

    async fn list_versions(&self, object: &ObjectRef) -> Result<Vec<ObjectVersion>> {
        let _slot = self.small().await;
        self.inner.list_versions(object).await
    }

    async fn presign(&self, object: &ObjectRef, valid: Duration) -> Result<String> {
        self.inner.presign(object, valid).await
    }

    async fn get_document(&self, resource: &Resource, subresource: Subresource) -> Result<Option<Document>> {
        let _slot = self.small().await;
        self.inner.get_document(resource, subresource).await
    }

    async fn put_document(&self, resource: &Resource, document: &Document) -> Result<()> {
        let _slot = self.small().await;
        self.inner.put_document(resource, document).await
    }

    async fn delete_document(&self, resource: &Resource, subresource: Subresource) -> Result<()> {
        let _slot = self.small().await;
        self.inner.delete_document(resource, subresource).await
    }

    fn report(&self) -> Report {
        self.inner.report()
    }
}
