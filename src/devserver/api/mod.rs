//! S3's operations on the [`Memory`] store: one line here, the work in the file of its subject.
//!
//! What `s3s` has parsed is used where it keeps everything; properties are read from the raw headers, because values must
//! come back as they were sent.

mod buckets;
mod convert;
mod copies;
mod documents;
mod listings;
mod objects;
mod properties;
mod receive;
mod uploads;

#[allow(clippy::wildcard_imports, reason = "every operation has its own pair of types")]
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

pub(super) use self::documents::Documents;
use crate::store::Memory;

use crate::store::memory::OWNER;

/// The S3 of the embedded server.
#[derive(Debug)]
pub(super) struct Api {
    memory: Memory,
}

impl Api {
    pub(super) const fn new(memory: Memory) -> Self {
        Self { memory }
    }
}

type Answer<T> = S3Result<S3Response<T>>;

#[async_trait::async_trait]
impl S3 for Api {
    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        objects::get(&self.memory, &req)
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        objects::head(&self.memory, &req).await
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        objects::put(&self.memory, req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        objects::delete(&self.memory, req.input).await
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        objects::delete_many(&self.memory, req.input).await
    }

    async fn restore_object(&self, req: S3Request<RestoreObjectInput>) -> Answer<RestoreObjectOutput> {
        objects::restore(&self.memory, req.input)
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        copies::copy(&self.memory, req).await
    }

    async fn upload_part_copy(&self, req: S3Request<UploadPartCopyInput>) -> Answer<UploadPartCopyOutput> {
        copies::copy_part(&self.memory, req.input).await
    }

    async fn create_multipart_upload(&self, req: S3Request<CreateMultipartUploadInput>) -> Answer<CreateMultipartUploadOutput> {
        uploads::create(&self.memory, &req)
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        uploads::upload_part(&self.memory, req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        uploads::complete(&self.memory, req.input)
    }

    async fn abort_multipart_upload(&self, req: S3Request<AbortMultipartUploadInput>) -> Answer<AbortMultipartUploadOutput> {
        uploads::abort(&self.memory, req.input).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        uploads::list_parts(&self.memory, req.input).await
    }

    async fn list_multipart_uploads(&self, req: S3Request<ListMultipartUploadsInput>) -> Answer<ListMultipartUploadsOutput> {
        uploads::list(&self.memory, req.input).await
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        listings::second(&self.memory, req.input)
    }

    async fn list_object_versions(&self, req: S3Request<ListObjectVersionsInput>) -> Answer<ListObjectVersionsOutput> {
        listings::versions(&self.memory, req.input)
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        listings::first(&self.memory, req.input)
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        buckets::list(&self.memory).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        buckets::head(&self.memory, &req.input.bucket).await
    }

    async fn get_bucket_location(&self, req: S3Request<GetBucketLocationInput>) -> Answer<GetBucketLocationOutput> {
        buckets::location(&self.memory, &req.input.bucket).await
    }

    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        buckets::create(&self.memory, req.input).await
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        buckets::delete(&self.memory, &req.input.bucket).await
    }
}
