//! Buckets.

use http::StatusCode;
use s3s::S3Response;
use s3s::dto::{
    Bucket, BucketLocationConstraint, CreateBucketInput, CreateBucketOutput, DeleteBucketOutput, GetBucketLocationOutput,
    HeadBucketOutput, ListBucketsOutput, Owner,
};

use super::convert::{bucket, invalid, refuse, timestamp};
use super::{Answer, OWNER};
use crate::store::memory::Memory;
use crate::store::{BucketService as _, NewBucket, Ownership};

/// The region whose name S3 never says.
const FIRST_REGION: &str = "us-east-1";

pub(super) async fn list(memory: &Memory) -> Answer<ListBucketsOutput> {
    let found = memory.list_buckets().await.map_err(refuse)?;
    let named = |bucket: crate::store::Bucket| Bucket {
        name: Some(bucket.name),
        creation_date: bucket.created.map(timestamp),
        ..Bucket::default()
    };
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(found.into_iter().map(named).collect()),
        owner: Some(Owner { id: Some(OWNER.to_owned()), display_name: Some(OWNER.to_owned()) }),
        ..ListBucketsOutput::default()
    }))
}

async fn region(memory: &Memory, name: &str) -> s3s::S3Result<Option<String>> {
    Ok(memory.head_bucket(&bucket(name)?).await.map_err(refuse)?.region)
}

pub(super) async fn head(memory: &Memory, name: &str) -> Answer<HeadBucketOutput> {
    let bucket_region = region(memory, name).await?;
    Ok(S3Response::new(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() }))
}

pub(super) async fn location(memory: &Memory, name: &str) -> Answer<GetBucketLocationOutput> {
    let region = region(memory, name).await?.filter(|region| region != FIRST_REGION);
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: region.map(BucketLocationConstraint::from) }))
}

pub(super) async fn create(memory: &Memory, input: CreateBucketInput) -> Answer<CreateBucketOutput> {
    let name = bucket(&input.bucket)?;
    let location = input.create_bucket_configuration.and_then(|configuration| configuration.location_constraint);
    let ownership = input.object_ownership.as_ref().map(|ownership| {
        let known = [Ownership::BucketOwnerEnforced, Ownership::BucketOwnerPreferred, Ownership::ObjectWriter];
        let found = known.into_iter().find(|known| known.as_str() == ownership.as_str());
        found.ok_or_else(|| invalid("There is no such object ownership."))
    });
    let new = NewBucket { location: location.as_ref().map(BucketLocationConstraint::as_str), ownership: ownership.transpose()? };
    memory.create_bucket(&name, new).await.map_err(refuse)?;
    if input.object_lock_enabled_for_bucket == Some(true) {
        memory.take_locks(&name);
    }
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{}", input.bucket)) }))
}

pub(super) async fn delete(memory: &Memory, name: &str) -> Answer<DeleteBucketOutput> {
    memory.delete_bucket(&bucket(name)?).await.map_err(refuse)?;
    Ok(S3Response::with_status(DeleteBucketOutput::default(), StatusCode::NO_CONTENT))
}
