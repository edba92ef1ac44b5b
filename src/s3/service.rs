//! `BucketService` over HTTP.

use std::time::Duration;

use super::S3Store;
use super::{request, response, xml};
use crate::store::*;

impl BucketService for S3Store {
    async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let request = request::list_buckets(token.as_deref());
            let answered = self.0.call(request.clone()).await?;
            let (buckets, next) = xml::buckets(&answered.body).ok_or_else(|| self.0.not_s3(&request))?;
            self.0.dialect.learn_speaks_s3();
            all.extend(buckets);
            match next {
                Some(next) if token.as_ref() != Some(&next) => token = Some(next),
                _ => return Ok(all),
            }
        }
    }

    async fn head_bucket(&self, bucket: &BucketName) -> Result<BucketInfo> {
        let answered = self.0.call(request::head_bucket(bucket)).await?;
        self.0.dialect.learn_speaks_s3();
        Ok(BucketInfo { region: response::text(&answered.headers, "x-amz-bucket-region") })
    }

    async fn location(&self, bucket: &BucketName) -> Result<String> {
        let request = request::bucket_location(bucket);
        let answered = self.0.call(request.clone()).await?;
        xml::location(&answered.body).ok_or_else(|| self.0.not_s3(&request))
    }

    async fn create_bucket(&self, bucket: &BucketName, new: NewBucket<'_>) -> Result<()> {
        let location = new.location;
        if self.0.endpoint.is_aws() {
            // Each of its endpoints makes buckets in its own region only.
            self.0.remember_region(Some(bucket), location.unwrap_or("us-east-1").to_owned());
        }
        self.0.call(request::create_bucket(bucket, new)).await.map(|_| ())
    }

    async fn delete_bucket(&self, bucket: &BucketName) -> Result<()> {
        self.0.call(request::delete_bucket(bucket)).await.map(|_| ())
    }

    async fn restore(&self, request: &RestoreObject) -> Result<()> {
        self.0.call(request::restore(request)).await.map(|_| ())
    }

    async fn list_versions(&self, object: &ObjectRef) -> Result<Vec<ObjectVersion>> {
        let request = request::list_versions(object);
        let answered = self.0.call(request.clone()).await?;
        xml::versions(&answered.body, &object.key).ok_or_else(|| self.0.not_s3(&request))
    }

    async fn presign(&self, object: &ObjectRef, valid: Duration) -> Result<String> {
        self.0.presigned(&request::plain_get(object), valid).await
    }

    async fn get_document(&self, resource: &Resource, subresource: Subresource) -> Result<Option<Document>> {
        let request = request::of_document(Verb::Get, resource, subresource).ok_or_else(|| no_such(resource, subresource))?;
        let answered = match self.0.call(request).await {
            Err(error) if is_absent(&error) => {
                self.0.dialect.learn_document(subresource, resource.level());
                return Ok(None);
            }
            answered => answered?,
        };
        // radosgw has no word for the tags of an object that was made of parts. With a tag it would be the (empty) object.
        let nothing = answered.body.is_empty() && response::text(&answered.headers, "etag").is_none();
        if nothing && subresource == Subresource::Tagging {
            self.0.dialect.learn_document(subresource, resource.level());
            return Ok(None);
        }
        // A store that does not know the sub-resource answers with the object, or with a listing of the bucket.
        let document = Document::from_body(subresource, &answered.body).ok_or_else(|| no_such(resource, subresource))?;
        self.0.dialect.learn_document(subresource, resource.level());
        Ok(Some(match document {
            Document::Config(config) => Document::Config(config.with_header(|name| response::text(&answered.headers, name))),
            document => document,
        }))
    }

    async fn put_document(&self, resource: &Resource, document: &Document) -> Result<()> {
        let subresource = document.subresource();
        let request = request::put_document(resource, document).ok_or_else(|| no_such(resource, subresource))?;
        self.must_know(resource, subresource).await?;
        self.0.call(request).await.map(|_| ())
    }

    async fn delete_document(&self, resource: &Resource, subresource: Subresource) -> Result<()> {
        let request = request::of_document(Verb::Delete, resource, subresource).ok_or_else(|| no_such(resource, subresource))?;
        self.must_know(resource, subresource).await?;
        match self.0.call(request).await {
            Err(error) if is_absent(&error) => Ok(()),
            answered => answered.map(|_| ()),
        }
    }

    fn report(&self) -> Report {
        Report { differs: self.0.dialect.differences(), ..Report::default() }
    }
}

impl S3Store {
    /// Makes sure that the store knows a sub-resource. One that ignores it takes a PUT for one of the object, and a DELETE for
    /// one of the bucket.
    async fn must_know(&self, resource: &Resource, subresource: Subresource) -> Result<()> {
        if !self.0.dialect.knows_document(subresource, resource.level()) {
            self.get_document(resource, subresource).await?;
        }
        Ok(())
    }
}

/// Whether the store says that the resource is there and has no such document.
fn is_absent(error: &Error) -> bool {
    let story = error.story();
    let code = story.code.as_deref().unwrap_or_default();
    let resource = matches!(code, "NoSuchBucket" | "NoSuchKey" | "NoSuchVersion" | "NoSuchUpload" | "NotFound" | "");
    story.status == Some(404) && !resource
}

fn no_such(resource: &Resource, subresource: Subresource) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        operation(subresource, Verb::Get, resource),
        resource,
        format!("the store does not know '?{}' of this", subresource.query()),
    )
}
